"""Exact match and token F1 of short answers, as in question answering."""

import collections
import re
import string
import unicodedata
from collections.abc import Callable, Sequence

from gpt_keras.evaluation.prediction_pairs import CHARACTER, read_pairs

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)


def exact_match(predictions: Sequence[str], references: Sequence[str | Sequence[str]]) -> float:
    """Return the share of predictions that equal a reference after normalization.

    The normalization is that of SQuAD (Rajpurkar et al. 2016, section 6.1): lower case, without
    ASCII punctuation, the articles `a`, `an`, `the`, and extra white space. From a text with
    Chinese characters, all punctuation of Unicode is removed, and all white space beside a Chinese
    character.

    Args:
        predictions: Predicted texts. An empty text is wrong.
        references: For each prediction the right text, or several right texts.

    Returns:
        A share from 0 to 1.

    Raises:
        ValueError: An argument is one string, is empty, or holds something else than texts; the two
            differ in length; or a reference is empty.

    Example:
        >>> import gpt_keras as gk
        >>> gk.evaluation.exact_match(["The Rhine.", "北京"], ["rhine", ["南京", "北京。"]])
        1.0
    """
    return _mean_of_best(_is_equal, predictions, references)


def token_f1(predictions: Sequence[str], references: Sequence[str | Sequence[str]]) -> float:
    """Return the mean F1 of the tokens of predictions and their best references.

    It is the F1 of SQuAD (Rajpurkar et al. 2016, section 6.1), after the normalization of
    `exact_match`: tokens are separated by white space, and their order does not count. Each
    Chinese character is a token, as in CMRC 2018 (Cui et al. 2019) and MLQA (Lewis et al. 2020).
    The tokens in common are counted as in SQuAD and MLQA. CMRC's own script counts only the longest
    run of common tokens, so its F1 is never higher.

    Args:
        predictions: As in `exact_match`.
        references: As in `exact_match`. The reference with the highest F1 counts.

    Returns:
        The mean over the predictions, from 0 to 1.

    Raises:
        ValueError: As in `exact_match`.

    Example:
        >>> import gpt_keras as gk
        >>> gk.evaluation.token_f1(["in the old town"], ["the town"])    # "in old town" and "town"
        0.5
        >>> gk.evaluation.token_f1(["在北京"], ["北京市"])
        0.6666666666666666
    """
    return _mean_of_best(_f1, predictions, references)


def _mean_of_best(score: Callable[[list[str], list[str]], float], predictions, references) -> float:
    predictions, references = read_pairs(predictions, references)
    total = 0.0
    for prediction, texts in zip(predictions, references):
        tokens = _tokens(prediction)
        total += max(score(tokens, _tokens(text)) for text in texts)
    return total / len(predictions)


def _tokens(text: str) -> list[str]:
    """Return the tokens of the normalized text."""
    text = text.lower()
    has_characters = CHARACTER.search(text) is not None
    text = "".join(
        character
        for character in text
        if character not in _PUNCTUATION
        and not (has_characters and unicodedata.category(character).startswith("P"))
    )
    text = _ARTICLES.sub(" ", text)
    return CHARACTER.sub(lambda match: f" {match[0]} ", text).split()


def _is_equal(prediction: list[str], reference: list[str]) -> float:
    return float(prediction == reference)


def _f1(prediction: list[str], reference: list[str]) -> float:
    if not prediction or not reference:
        return _is_equal(prediction, reference)
    common = collections.Counter(prediction) & collections.Counter(reference)
    num_common = sum(common.values())
    if num_common == 0:
        return 0.0
    precision, recall = num_common / len(prediction), num_common / len(reference)
    return 2 * precision * recall / (precision + recall)
