"""BLEU, chrF and ROUGE: overlap of longer texts with their references."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from gpt_keras.checks import check_choice
from gpt_keras.evaluation.prediction_pairs import CHARACTER, read_pairs

# Tokenizers of sacrebleu that need no further package and no download.
BLEU_TOKENIZERS = ("13a", "zh", "intl", "char", "none")


class BleuScore(NamedTuple):
    """Result of `bleu`.

    Attributes:
        score: BLEU, from 0 to 100.
        precisions: Precision of n-grams of 1, 2, 3 and 4 tokens, in percent.
        brevity_penalty: Factor for predictions shorter than the references, from 0 to 1.
        signature: The settings and the version of sacrebleu; quote it with the score.

    Example:
        >>> import gpt_keras as gk
        >>> result = gk.evaluation.bleu(["A small cat sat."], ["A small cat sat here."])
        >>> round(result.brevity_penalty, 3)    # exp(1 - 6 / 5)
        0.819
    """

    score: float
    precisions: tuple[float, ...]
    brevity_penalty: float
    signature: str


class RougeScores(NamedTuple):
    """Result of `rouge`: mean F1 scores, from 0 to 1.

    Attributes:
        rouge1: F1 of single tokens.
        rouge2: F1 of pairs of neighboring tokens.
        rougeL: F1 of the longest common subsequence of tokens.
        rougeLsum: The same, line by line; each line of a summary is one sentence.

    Example:
        >>> import gpt_keras as gk
        >>> gk.evaluation.rouge(["a cat"], ["a dog"]).rouge1
        0.5
    """

    rouge1: float
    rouge2: float
    rougeL: float
    rougeLsum: float


def bleu(
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    *,
    tokenize: str | None = None,
) -> BleuScore:
    """Return the BLEU of a corpus, computed by sacrebleu.

    BLEU (Papineni et al. 2002) is the geometric mean of the precisions of n-grams up to 4 tokens,
    times a penalty for short predictions. It is computed from the counts of the whole corpus, so it
    is not the mean of the BLEU of single texts.

    Args:
        predictions: Predicted texts, such as translations.
        references: For each prediction the right text, or several right texts.
        tokenize: Tokenizer of sacrebleu: `"13a"`, the standard of WMT; `"zh"`, which also makes
            each Chinese character a token; `"intl"`, `"char"` or `"none"`. Scores with different
            tokenizers cannot be compared. Default: `"zh"` if more than half of the references have
            Chinese characters, else `"13a"`, which takes a Chinese sentence for one token.

    Returns:
        A `BleuScore`, from 0 to 100.

    Raises:
        ValueError: `tokenize` is unknown; an argument is one string, is empty, or holds something
            else than texts; the two differ in length; or a reference is empty.
        ImportError: The package sacrebleu is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> result = gk.evaluation.bleu(["今天天气很好。"], ["今天的天气很好。"])
        >>> round(result.score, 1), result.signature.split("|")[3]
        (61.3, 'tok:zh')
    """
    predictions, references = read_pairs(predictions, references)
    tokenize = bleu_tokenizer(tokenize, [text for row in references for text in row])
    metric = import_sacrebleu().BLEU(tokenize=tokenize)
    found = metric.corpus_score(predictions, _streams(references))
    return BleuScore(
        score=float(found.score),
        precisions=tuple(map(float, found.precisions)),
        brevity_penalty=float(found.bp),
        signature=str(metric.get_signature()),
    )


def chrf(
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    *,
    word_order: int = 0,
) -> float:
    """Return the chrF of a corpus, computed by sacrebleu.

    chrF (Popović 2015) is the F-score of character n-grams up to 6 characters, where recall weighs
    twice. White space does not count, and Chinese needs no tokenizer.

    Args:
        predictions: Predicted texts, such as translations.
        references: For each prediction the right text, or several right texts.
        word_order: Longest n-grams of words that count too. 0 is chrF, and 2 is chrF++ (Popović
            2017), which is not for Chinese, since it takes a sentence for one word.

    Returns:
        The score, from 0 to 100.

    Raises:
        ValueError: `word_order` is not 0, 1 or 2; an argument is one string, is empty, or holds
            something else than texts; the two differ in length; or a reference is empty.
        ImportError: The package sacrebleu is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> round(gk.evaluation.chrf(["今天天气很好。"], ["今天的天气很好。"]), 1)
        47.2
    """
    predictions, references = read_pairs(predictions, references)
    if isinstance(word_order, bool) or word_order not in (0, 1, 2):
        raise ValueError(f"`word_order` must be 0, 1 or 2, got {word_order!r}.")
    metric = import_sacrebleu().CHRF(word_order=word_order)
    return float(metric.corpus_score(predictions, _streams(references)).score)


def rouge(
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    *,
    use_stemmer: bool = False,
) -> RougeScores:
    """Return the ROUGE of summaries, computed by rouge-score.

    ROUGE (Lin 2004) counts the tokens and the pairs of tokens that a summary shares with its
    reference. The tokens are runs of Latin letters and digits in lower case, as in rouge-score, and
    single Chinese characters, which the tokenizer of rouge-score would drop. Other alphabets and
    letters with accents are dropped.

    Args:
        predictions: Predicted summaries.
        references: For each prediction the right summary, or several; the best one counts, for each
            of the scores by itself.
        use_stemmer: Whether to stem English words (Porter), as many papers do.

    Returns:
        `RougeScores`, from 0 to 1.

    Raises:
        ValueError: An argument is one string, is empty, or holds something else than texts; the two
            differ in length; or a reference is empty or has no token.
        ImportError: The package rouge-score is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> scores = gk.evaluation.rouge(["今天下雨"], ["今天有大雨"])
        >>> [round(score, 3) for score in scores]
        [0.667, 0.286, 0.667, 0.667]
    """
    predictions, references = read_pairs(predictions, references)
    rouge_scorer, tokenizers = _rouge_score()
    tokenizer = _RougeTokenizer(tokenizers.DefaultTokenizer(use_stemmer))
    for i, texts in enumerate(references):
        for text in texts:
            if not tokenizer.tokenize(text):
                raise ValueError(
                    "`references` must hold Latin letters, digits or Chinese characters, which "
                    f"ROUGE counts; got {text!r} as number {i}."
                )
    names = list(RougeScores._fields)
    scorer = rouge_scorer.RougeScorer(names, tokenizer=tokenizer)
    rows = [
        scorer.score_multi(texts, prediction) for prediction, texts in zip(predictions, references)
    ]
    means = (statistics.fmean(row[name].fmeasure for row in rows) for name in names)
    return RougeScores(*means)


class _RougeTokenizer:
    """The tokenizer of rouge-score; each Chinese character is a token too."""

    def __init__(self, latin):
        self._latin = latin

    def tokenize(self, text: str) -> list[str]:
        tokens, end = [], 0
        for match in CHARACTER.finditer(text):
            tokens += [*self._latin.tokenize(text[end : match.start()]), match[0]]
            end = match.end()
        return tokens + self._latin.tokenize(text[end:])


def _streams(references: list[list[str]]) -> list[list[str | None]]:
    """Return references as sacrebleu takes them: all first ones, all second ones ..."""
    most = max(map(len, references))
    return [[row[i] if i < len(row) else None for row in references] for i in range(most)]


def bleu_tokenizer(tokenize: str | None, texts: Sequence[str]) -> str:
    """Return a tokenizer of sacrebleu; the default depends on the texts."""
    if tokenize is None:
        num_chinese = sum(CHARACTER.search(text) is not None for text in texts)
        tokenize = "zh" if 2 * num_chinese > len(texts) else "13a"
    check_choice("tokenize", tokenize, BLEU_TOKENIZERS)
    return tokenize


def import_sacrebleu():
    """Import sacrebleu, or raise an error with the line that installs it."""
    try:
        import sacrebleu
    except ImportError as error:
        raise ImportError(
            "BLEU and chrF need sacrebleu: pip install 'gpt_keras[evaluation]'"
        ) from error
    return sacrebleu


def _rouge_score():
    try:
        from rouge_score import rouge_scorer, tokenizers
    except ImportError as error:
        raise ImportError("ROUGE needs rouge-score: pip install 'gpt_keras[evaluation]'") from error
    return rouge_scorer, tokenizers
