"""Contamination: n-grams of a test set that stand in the training text."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from gpt_keras.checks import check_positive_int
from gpt_keras.corpus import Document, iterate_documents
from gpt_keras.evaluation.bootstrap import bootstrap_estimate
from gpt_keras.evaluation.estimate import Estimate, mean_estimate
from gpt_keras.evaluation.text_tokens import split_words

_APOSTROPHE = re.compile("['’]")
_PUNCTUATION = re.compile(r"[^\w\s]|_")

# Number of an n-gram that no test document has.
_UNKNOWN = -1


class DocumentOverlap(NamedTuple):
    """Overlap of one test document with the training documents.

    Attributes:
        num_ngrams: Number of its n-grams; 0 if the document is shorter than one.
        num_found: Number of its n-grams that stand in a training document.
        example: The first of them, as normalized words; None if there is none.

    Example:
        >>> import gpt_keras as gk
        >>> found = gk.evaluation.ngram_overlap(["To be or not"], ["Not to be?"], n=2)
        >>> found.documents
        [DocumentOverlap(num_ngrams=3, num_found=1, example='to be')]
    """

    num_ngrams: int
    num_found: int
    example: str | None


class NgramOverlap(NamedTuple):
    """Result of `ngram_overlap`. `print(overlap)` shows the shares as text.

    Attributes:
        share_of_documents: Share of the test documents with at least one n-gram in the training
            text.
        share_of_ngrams: Share of the n-grams of all test documents that stand in the training text.
            Its standard error is by the bootstrap over documents.
        documents: Overlap of each test document.
        n: Number of tokens of an n-gram.
        num_short: Number of test documents shorter than an n-gram. They count in no share.

    Example:
        >>> import gpt_keras as gk
        >>> print(gk.evaluation.ngram_overlap(["a b c", "d e", "f"], ["x a b"], n=2))
        2-grams in the training text: 0.500 ± 0.500 of 2 documents, 0.333 ± 0.180 of their n-grams
        documents shorter than 2 tokens: 1
    """

    share_of_documents: Estimate
    share_of_ngrams: Estimate
    documents: list[DocumentOverlap]
    n: int
    num_short: int

    def __str__(self):
        return (
            f"{self.n}-grams in the training text: {self.share_of_documents} of "
            f"{self.share_of_documents.num_items} documents, {self.share_of_ngrams} of their "
            f"n-grams\ndocuments shorter than {self.n} tokens: {self.num_short}"
        )


def ngram_overlap(
    test_corpus: Any, training_corpus: Any, n: int = 13, *, field: str = "text"
) -> NgramOverlap:
    """Return how much of a test set stands in training documents, by n-grams.

    Brown et al. 2020 (GPT-3, appendix C) call a test document with a 13-gram in common with the
    training text "dirty", and compare the scores on clean and on dirty documents. As there, words
    are in lower case, without punctuation, and separated by white space. Each Chinese character is
    a token, so 13 of them are a shorter run than 13 English words. Unlike there, an n-gram counts
    also if many training documents have it.

    The n-grams are exact, without hashing. The training text is read as a stream, so memory is
    linear in the size of the test documents.

    Args:
        test_corpus: Test documents: a corpus, as in `gk.datasets.language_modeling`.
        training_corpus: Training documents: also a corpus.
        n: Number of tokens of an n-gram. Brown et al. use the 5th percentile of the lengths of the
            test documents, but at least 8 and at most 13.
        field: The column of tables and rows that holds the text.

    Returns:
        An `NgramOverlap`.

    Raises:
        ValueError: Documents are neither texts nor files, all test documents have fewer than `n`
            tokens, or `n` is not a positive integer.

    Example:
        >>> import gpt_keras as gk
        >>> test = ["Whether 'tis nobler in the mind to suffer", "A sentence of our own"]
        >>> training = ["To be, or not to be: whether 'tis nobler in the mind"]
        >>> overlap = gk.evaluation.ngram_overlap(test, training, n=5)
        >>> print(overlap.share_of_documents)
        0.500 ± 0.500
        >>> overlap.documents[0].example
        'whether tis nobler in the'
    """
    check_positive_int("n", n)
    rows = [
        [word for words in _word_stream(document) for word in words]
        for document in iterate_documents(test_corpus, field, name="test_corpus", keep_empty=True)
    ]
    counts = np.array([max(0, len(row) - n + 1) for row in rows])
    if not counts.any():
        raise ValueError(f"`test_corpus` must hold a document of at least n={n} tokens.")
    ngrams = _Ngrams(rows, n)
    is_found = np.zeros(ngrams.num_ngrams, bool)
    training = iterate_documents(training_corpus, field, name="training_corpus", keep_empty=True)
    for document in training:
        rest: list[str] = []
        for words in _word_stream(document):
            words = rest + words
            numbers = ngrams.numbers(words)
            is_found[numbers[numbers != _UNKNOWN]] = True
            rest = words[len(words) - min(len(words), n - 1) :]
    documents = [_overlap(row, ngrams, is_found) for row in rows]
    long = [document for document in documents if document.num_ngrams]
    totals = np.array([[document.num_found, document.num_ngrams] for document in long])

    def share(chosen):
        found, total = totals[chosen].sum(0)
        return found / total

    return NgramOverlap(
        mean_estimate([document.num_found > 0 for document in long]),
        bootstrap_estimate(share, len(long)),
        documents,
        n,
        len(documents) - len(long),
    )


class _Ngrams:
    """Numbers of the n-grams of documents, by prefix doubling.

    A pair of two neighboring runs of k words is a run of 2k words. So a run of 13 words is the pair
    of its first 8 and its last 8 words; each of these is a pair of runs of 4 words, and so on.
    A sorted array for each length maps pairs of numbers to numbers.
    """

    def __init__(self, rows: list[list[str]], n: int):
        self.n = n
        self._words: dict[str, int] = {}
        for row in rows:
            for word in row:
                self._words.setdefault(word, len(self._words))
        self._steps, self._keys = [], []
        length = 1
        while length < n:
            self._steps.append(min(length, n - length))
            length += self._steps[-1]
        # One row for all documents: no n-gram has the unknown word that separates them.
        numbers = np.array([i for row in rows for i in [_UNKNOWN, *map(self._words.get, row)]])
        self.num_ngrams = len(self._words)
        for step in self._steps:
            pairs = self._pairs(numbers, step)
            self._keys.append(np.unique(pairs[pairs != _UNKNOWN]))
            numbers = self._lookup(self._keys[-1], pairs)
            self.num_ngrams = len(self._keys[-1])

    def numbers(self, words: list[str]) -> np.ndarray:
        """Return the number of each n-gram of a text, or `_UNKNOWN`."""
        numbers = np.array([self._words.get(word, _UNKNOWN) for word in words], np.int64)
        for step, keys in zip(self._steps, self._keys):
            numbers = self._lookup(keys, self._pairs(numbers, step))
        return numbers

    def _pairs(self, numbers: np.ndarray, step: int) -> np.ndarray:
        """Return a number for each pair of runs, the second `step` words after the first."""
        first, second = numbers[: max(0, len(numbers) - step)], numbers[step:]
        is_known = (first != _UNKNOWN) & (second != _UNKNOWN)
        return np.where(is_known, (first << 32) + second, _UNKNOWN)

    @staticmethod
    def _lookup(keys: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        if not len(keys):
            return np.full(len(pairs), _UNKNOWN)
        places = np.minimum(np.searchsorted(keys, pairs), len(keys) - 1)
        return np.where(keys[places] == pairs, places, _UNKNOWN)


def _overlap(words: list[str], ngrams: _Ngrams, is_found: np.ndarray) -> DocumentOverlap:
    found = is_found[ngrams.numbers(words)]
    first = int(found.argmax()) if found.any() else None
    example = None if first is None else " ".join(words[first : first + ngrams.n])
    return DocumentOverlap(len(found), int(found.sum()), example)


def _word_stream(document: Document) -> Iterator[list[str]]:
    """Yield the normalized words of a document, piece by piece, no word cut in two."""
    rest = ""
    for piece in document.pieces():
        text = rest + piece
        end = max(text.rfind(" "), text.rfind("\n")) + 1
        yield _normalized_words(text[:end])
        rest = text[end:]
    yield _normalized_words(rest)


def _normalized_words(text: str) -> list[str]:
    return split_words(_PUNCTUATION.sub(" ", _APOSTROPHE.sub("", text.lower())))
