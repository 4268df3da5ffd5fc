"""Memorization: runs of generated text that stand in the training text."""

import bisect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpt_keras.corpus import iterate_documents
from gpt_keras.evaluation.text_tokens import rows_of_ids
from gpt_keras.texts import as_list_of_texts

# Number of suffixes that are filtered at once.
_PIECE = 1 << 20


class LongestMatch(NamedTuple):
    """The longest run of a generated text that stands in the training documents.

    Attributes:
        match: The run: a string, or a tuple of token ids. Empty if no character is in common.
        length: Number of its characters or ids.
        start: Position of the run in the generated text.
        document: Number of the training document, or None for an empty run.
        position: Position of the run in that document, or None for an empty run.

    Example:
        >>> import gpt_keras as gk
        >>> index = gk.evaluation.TextIndex(["To be, or not to be"])
        >>> index.longest_matches(["I choose not to be."])[0].match
        ' not to be'
    """

    match: str | tuple[int, ...]
    length: int
    start: int
    document: int | None
    position: int | None


class TextIndex:
    """Index of training documents that finds the longest copied run of a text.

    It is a suffix array (Manber and Myers 1993), built by libdivsufsort: the positions of all
    characters, sorted by the text that begins there. Runs are exact, character by character, so
    case and line ends count, and a run lies within one document. If several places hold the
    longest run, one of them is given.

    Memory is linear in the number of characters: 5 bytes for each character if there are at most
    254 different ones, as in English; 6 bytes up to 65,534, as in Chinese; and 8 bytes beyond.
    Building needs about 7, 18 and 24 bytes for each character, and about a second for five million
    characters.

    A long run alone does not prove memorization: stock phrases, quotations and lists recur. Compare
    with the runs of human text that the model has not seen.

    Attributes:
        num_documents: Number of documents.
        num_symbols: Number of characters, or of ids, of all documents.

    Args:
        corpus: Training documents: a corpus, as in `gk.datasets.language_modeling`; or lists of
            token ids, one for each document.
        keep_line_ends: Whether to keep the line ends `CR LF` and `CR` of text files. Use the same
            value as for the training data.
        field: The column of tables and rows that holds the text.

    Raises:
        ValueError: `corpus` holds something else than texts and files, or than token ids, or has
            no character.
        ImportError: The package pydivsufsort is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> index = gk.evaluation.TextIndex(["床前明月光,疑是地上霜。", "舉頭望明月,低頭思故鄉。"])
        >>> index.longest_matches(["我望明月,想家"])[0]
        LongestMatch(match='望明月,', length=4, start=1, document=1, position=2)
    """

    def __init__(self, corpus: Any, *, keep_line_ends: bool = False, field: str = "text"):
        divsufsort = _import_divsufsort()
        rows = rows_of_ids("corpus", corpus)
        self._is_text = rows is None
        if self._is_text:
            documents = iterate_documents(corpus, field, keep_empty=True)
            rows = [document.text(keep_line_ends) for document in documents]
        self.num_documents, self.num_symbols = len(rows), sum(map(len, rows))
        if not self.num_symbols:
            raise ValueError("`corpus` must hold at least one character or id, got none.")
        # Different symbols, sorted. A symbol's code is its rank, from 1; 0 separates documents.
        self._symbols = np.unique(np.concatenate([np.unique(_numbers(row)) for row in rows]))
        # The highest code is for symbols that no document has. Bytes compare as the numbers do if
        # the highest byte of a number stands first.
        dtype = np.min_scalar_type(len(self._symbols) + 1).newbyteorder(">")
        codes = np.zeros(self.num_symbols + self.num_documents, dtype)
        lengths = np.array([len(row) for row in rows], np.int64)
        self._starts = np.cumsum(lengths + 1) - lengths
        for start, row in zip(self._starts, rows):
            codes[start : start + len(row)] = self._codes_of(_numbers(row))
        self._width = codes.itemsize
        self._suffixes = _sorted_suffixes(divsufsort, codes)
        self._codes = codes.tobytes()

    @property
    def nbytes(self) -> int:
        """Number of bytes that the index occupies in memory."""
        arrays = (self._suffixes, self._starts, self._symbols)
        return len(self._codes) + sum(array.nbytes for array in arrays)

    def longest_matches(self, texts: Sequence[str] | Sequence[Sequence[int]]) -> list[LongestMatch]:
        """Return for each generated text its longest run that stands in the documents.

        Args:
            texts: Generated texts, without their prompts; or lists of token ids, if the documents
                are lists of token ids.

        Returns:
            A `LongestMatch` for each text; the first one of equally long runs.

        Raises:
            ValueError: `texts` is one text, or holds something else than the documents do.

        Example:
            >>> import gpt_keras as gk
            >>> index = gk.evaluation.TextIndex([[5, 6, 7, 8], [1, 2]])
            >>> for match in index.longest_matches([[9, 6, 7, 1, 2], [3]]):
            ...     print(match)
            LongestMatch(match=(6, 7), length=2, start=1, document=0, position=1)
            LongestMatch(match=(), length=0, start=0, document=None, position=None)
        """
        rows = rows_of_ids("texts", texts)
        if self._is_text:
            rows = as_list_of_texts("texts", texts)
        elif rows is None:
            raise ValueError("`texts` must be lists of token ids, as the documents of the index.")
        return [self._longest_match(row) for row in rows]

    def _longest_match(self, row: str | np.ndarray) -> LongestMatch:
        width, length, start, found = self._width, 0, 0, None
        codes = self._codes_of(_numbers(row)).astype(f">u{width}").tobytes()
        for i in range(len(row)):
            rest = codes[i * width :]
            # Only a run longer than the longest one so far is searched for.
            while (length + 1) * width <= len(rest):
                suffix = self._find(rest[: (length + 1) * width])
                if suffix is None:
                    break
                length, start, found = self._common_length(rest, suffix), i, suffix
        match = row[start : start + length]
        match = match if self._is_text else tuple(match.tolist())
        if found is None:
            return LongestMatch(match, 0, 0, None, None)
        document = int(np.searchsorted(self._starts, found, side="right")) - 1
        return LongestMatch(match, length, start, document, found - int(self._starts[document]))

    def _find(self, run: bytes) -> int | None:
        """Return a position in the codes at which a run begins, or None."""

        def beginning(suffix):
            return self._codes[suffix * self._width : suffix * self._width + len(run)]

        i = bisect.bisect_left(self._suffixes, run, key=beginning)
        is_found = i < len(self._suffixes) and beginning(self._suffixes[i]) == run
        return int(self._suffixes[i]) if is_found else None

    def _common_length(self, rest: bytes, suffix: int) -> int:
        """Return the length of the common beginning of a text and a position."""
        begin = suffix * self._width
        known = self._codes[begin : begin + len(rest)]
        dtype = f"u{self._width}"
        known = np.frombuffer(known, dtype)
        is_other = np.frombuffer(rest, dtype, len(known)) != known
        return int(is_other.argmax()) if is_other.any() else len(known)

    def _codes_of(self, numbers: np.ndarray) -> np.ndarray:
        """Return the codes of symbols; the code of unknown symbols stands in no document."""
        ranks = np.searchsorted(self._symbols, numbers)
        is_known = self._symbols[np.minimum(ranks, len(self._symbols) - 1)] == numbers
        return np.where(is_known, ranks + 1, len(self._symbols) + 1)


def _sorted_suffixes(divsufsort: Callable, codes: np.ndarray) -> np.ndarray:
    """Return the positions of all codes, sorted by the codes from there on."""
    suffixes = divsufsort(codes.view(np.uint8))
    if codes.itemsize == 1:
        return suffixes
    # The suffixes that begin inside a code are dropped, a piece at a time to save memory.
    pieces = np.array_split(suffixes, 1 + len(suffixes) // _PIECE)
    return np.concatenate(
        [piece[piece % codes.itemsize == 0] // codes.itemsize for piece in pieces]
    )


def _numbers(row: str | np.ndarray) -> np.ndarray:
    """Return the code points of a text, or ids as they are."""
    if isinstance(row, str):
        return np.frombuffer(row.encode("utf-32-le", errors="surrogatepass"), "<u4")
    return row


def _import_divsufsort():
    try:
        from pydivsufsort import divsufsort
    except ImportError as error:
        raise ImportError(
            "`TextIndex` needs pydivsufsort: pip install 'gpt_keras[evaluation]'"
        ) from error
    return divsufsort
