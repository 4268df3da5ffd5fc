"""Documents as token ids, one array for each document."""

from collections.abc import Iterator, Sequence
from numbers import Number
from typing import Any, NamedTuple

import numpy as np

from gpt_keras.corpus import iterate_documents
from gpt_keras.tokenizers import Tokenizer


class EncodedDocument(NamedTuple):
    """A document as token ids, with its text if it is known.

    Attributes:
        ids: `(tokens,)` integers, at least one, without start-of-text and end-of-text tokens.
        text: The text, or None if the document was given as ids.
    """

    ids: np.ndarray
    text: str | None


def document_ids(
    corpus: Any, tokenizer: Tokenizer | None, keep_line_ends: bool = False, field: str = "text"
) -> Iterator[EncodedDocument]:
    """Yield the documents of a corpus that is given as texts, files or ids.

    Args:
        corpus: A corpus as in `gk.datasets.language_modeling`; or the ids of one document or of
            several: a list, an array, a tensor or a ragged tensor.
        tokenizer: The tokenizer for texts; None if there are only ids.
        keep_line_ends: As in `gk.datasets.language_modeling`.
        field: As in `gk.datasets.language_modeling`.

    Yields:
        The documents, without empty ones.

    Raises:
        ValueError: There is no document, an entry is neither text nor ids, or there are texts but
            no tokenizer.
    """
    rows = _rows_of_ids(corpus)
    if rows is not None:
        start = () if tokenizer is None else tokenizer.prompt_start
        for row in rows:
            # The ids may already begin with the start-of-text token.
            is_begun = len(row) > 1 and tuple(row[:1]) == start
            yield EncodedDocument(row[1:] if is_begun else row, None)
        return
    for document in iterate_documents(corpus, field):
        if tokenizer is None:
            raise ValueError("`corpus` must be token ids, because there is no tokenizer for texts.")
        text = document.text(keep_line_ends)
        yield EncodedDocument(np.array(tokenizer.encode(text), np.int64), text)


def _rows_of_ids(corpus: Any) -> list[np.ndarray] | None:
    """Return the rows of ids, or None if the corpus does not consist of ids."""
    if hasattr(corpus, "row_splits"):  # a ragged tensor
        corpus = corpus.to_list()
    elif hasattr(corpus, "__array__"):
        corpus = np.atleast_1d(np.asarray(corpus))
    if isinstance(corpus, bytes) or not isinstance(corpus, Sequence | np.ndarray):
        return None
    if len(corpus) == 0 or not _is_ids(corpus[0]):
        return None
    is_single = np.ndim(corpus[0]) == 0
    rows = [np.asarray(row) for row in ([corpus] if is_single else corpus)]
    for i, row in enumerate(rows):
        if row.ndim != 1 or (row.size and not np.issubdtype(row.dtype, np.integer)):
            raise ValueError(
                f"`corpus` must be texts, files, or lists of token ids; document {i} is {row!r}."
            )
    rows = [row.astype(np.int64) for row in rows if row.size]
    if not rows:
        raise ValueError("`corpus` holds no token.")
    return rows


def _is_ids(entry: Any) -> bool:
    """Return whether an entry is an id or a sequence, and not a text or a path."""
    if hasattr(entry, "__array__"):
        return np.asarray(entry).dtype.kind not in "OSU"
    return isinstance(entry, Sequence | Number) and not isinstance(entry, str | bytes)
