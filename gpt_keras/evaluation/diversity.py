"""Diversity of generated texts: distinct n-grams, repetition, self-BLEU."""

import collections
import itertools
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from gpt_keras.checks import check_positive_int
from gpt_keras.evaluation.estimate import Estimate, mean_estimate
from gpt_keras.evaluation.text_overlap import bleu_tokenizer, import_sacrebleu
from gpt_keras.evaluation.text_tokens import rows_of_tokens
from gpt_keras.texts import as_list_of_texts

_LONGEST_NGRAM_OF_BLEU = 4


def distinct_n(texts: Sequence[str] | Sequence[Sequence[int]], n: int = 2) -> float:
    """Return the share of different n-grams among all n-grams of the texts.

    It is "distinct-n" (Li et al. 2016, "A Diversity-Promoting Objective Function for Neural
    Conversation Models", section 5) in the form of most implementations, which divide by the number
    of n-grams. The paper divides by the number of tokens, which is the same for `n=1`.

    More text has more repetitions, so the figure falls with the amount of text. Compare only equal
    numbers of texts of similar length. For the same reason a bootstrap of the texts does not work,
    and there is no standard error.

    Args:
        texts: Generated texts, or lists of token ids. Words are separated by white space, and each
            Chinese character is a token. N-grams lie within one text.
        n: Number of tokens of an n-gram.

    Returns:
        A share, above 0 and up to 1.

    Raises:
        ValueError: `texts` holds something else than texts or token ids, `n` is not a positive
            integer, or no text has `n` tokens.

    Example:
        >>> import gpt_keras as gk
        >>> gk.evaluation.distinct_n(["a cat and a dog", "a cat"], n=2)    # `a cat` stands twice
        0.8
    """
    rows = _rows_of_ngrams(texts, n)
    return len(set().union(*rows)) / sum(map(len, rows))


def repetition_rate(texts: Sequence[str] | Sequence[Sequence[int]], n: int = 4) -> Estimate:
    """Return the mean share of n-grams that repeat an earlier one of the same text.

    It is "seq-rep-n" of Welleck et al. 2020 ("Neural Text Generation with Unlikelihood Training",
    section 6.1): `1 - different n-grams / n-grams` of each text, then the mean. Su et al. 2022 ("A
    Contrastive Framework for Neural Text Generation") give the same figure in percent as "rep-n".
    Longer texts repeat more, so compare texts of similar length, and human ones beside them.

    Args:
        texts: Generated texts, or lists of token ids, which the papers count. Words are separated
            by white space, and each Chinese character is a token. A text of fewer than `n` tokens
            does not count.
        n: Number of tokens of an n-gram.

    Returns:
        The estimate, from 0 to 1; `num_items` is the number of texts that count.

    Raises:
        ValueError: As in `distinct_n`.

    Example:
        >>> import gpt_keras as gk
        >>> print(gk.evaluation.repetition_rate(["so it goes so it goes", "on and off"], n=2))
        0.200 ± 0.200
    """
    rows = _rows_of_ngrams(texts, n)
    return mean_estimate([1 - len(set(row)) / len(row) for row in rows if row])


def self_bleu(texts: Sequence[str], *, tokenize: str | None = None) -> float:
    """Return the mean BLEU of each text with all other texts as its references.

    Self-BLEU (Zhu et al. 2018, "Texygen", section 2) is high if the texts resemble each other. It
    grows with the number of texts, so compare equal numbers. The scores of the texts depend on each
    other, so there is no standard error.

    The score of a text is `sentence_score` of sacrebleu with `effective_order=True` and its
    smoothing `exp`; Texygen smooths in another way, and gives a share instead of percent. The time
    grows linearly with the amount of text.

    Args:
        texts: At least two generated texts.
        tokenize: As in `bleu`.

    Returns:
        The mean score, from 0 to 100.

    Raises:
        ValueError: `texts` are fewer than two, or `tokenize` is unknown.
        ImportError: The package sacrebleu is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> texts = ["the cat sat on the mat", "the cat sat on the bed", "it rains"]
        >>> round(gk.evaluation.self_bleu(texts), 1)
        50.7
    """
    texts = as_list_of_texts("texts", texts)
    if len(texts) < 2:
        raise ValueError(f"`texts` must be at least two texts, got {len(texts)}.")
    metric = import_sacrebleu().BLEU(tokenize=bleu_tokenizer(tokenize, texts), effective_order=True)
    rows = [metric.tokenizer(text.rstrip()).split() for text in texts]
    counts = [
        collections.Counter(
            itertools.chain.from_iterable(
                _ngrams(row, n) for n in range(1, _LONGEST_NGRAM_OF_BLEU + 1)
            )
        )
        for row in rows
    ]
    # The largest count among the other texts is the largest of all, or the second if the text
    # itself has the largest. So all texts need one pass, not one for each pair.
    largest: dict[tuple, list[int]] = {}
    for row in counts:
        for ngram, count in row.items():
            found = largest.setdefault(ngram, [0, 0])
            if count > found[0]:
                found[:] = count, found[0]
            elif count > found[1]:
                found[1] = count
    lengths = collections.Counter(map(len, rows))
    return statistics.fmean(
        _bleu_of_row(metric, row, len(tokens), largest, lengths)
        for tokens, row in zip(rows, counts)
    )


def _bleu_of_row(metric, row, length, largest, lengths) -> float:
    correct, total = [0] * _LONGEST_NGRAM_OF_BLEU, [0] * _LONGEST_NGRAM_OF_BLEU
    for ngram, count in row.items():
        first, second = largest[ngram]
        total[len(ngram) - 1] += count
        correct[len(ngram) - 1] += min(count, second if count == first else first)
    others = [other for other in lengths if other != length or lengths[other] > 1]
    closest = min(others, key=lambda other: (abs(other - length), other))
    return metric.compute_bleu(
        correct, total, length, closest, smooth_method="exp", effective_order=True
    ).score


def _rows_of_ngrams(texts: Any, n: int) -> list[list[tuple]]:
    check_positive_int("n", n)
    rows = [list(_ngrams(row, n)) for row in rows_of_tokens("texts", texts)]
    if not any(rows):
        raise ValueError(f"`texts` must hold a text of at least n={n} tokens.")
    return rows


def _ngrams(tokens: list, n: int) -> Iterator[tuple]:
    return zip(*(tokens[i:] for i in range(n)))
