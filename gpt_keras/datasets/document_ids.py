"""Documents as ids, one array each, for what counts or scores each document as a whole."""

from collections.abc import Iterator, Sequence
from numbers import Number
from typing import Any, NamedTuple

import numpy as np

from gpt_keras.datasets.documents import list_documents
from gpt_keras.tokenizers import Tokenizer
from gpt_keras.tokenizers.text_files import read_text


class Document(NamedTuple):
    """One document.

    Attributes:
        ids: `(tokens,)` integers, without start of text and end-of-text token; at least one.
        text: Its text, or None if it came as ids.
    """

    ids: np.ndarray
    text: str | None


def document_ids(
    corpus: Any, tokenizer: Tokenizer | None, keep_line_ends: bool = False, name: str = "corpus"
) -> Iterator[Document]:
    """Yield the documents of a corpus that is given as texts, files or ids.

    Args:
        corpus: As in `gk.datasets.language_modeling`; or the ids of one document, or several rows
            of ids: a list, an array, a tensor or a ragged tensor.
        tokenizer: Turns texts into ids; None if there are only ids.
        keep_line_ends: As in `gk.datasets.language_modeling`.
        name: The argument's name, for errors.

    Yields:
        The documents, without the empty ones.

    Raises:
        ValueError: There is no document, an entry is neither text nor ids, or there is text and
            no tokenizer.
    """
    rows = _rows_of_ids(name, corpus)
    if rows is not None:
        start = () if tokenizer is None else tokenizer.prompt_start
        for row in rows:
            # Ids may begin with the start of text already.
            is_begun = len(row) > 1 and tuple(row[:1]) == start
            yield Document(row[1:] if is_begun else row, None)
        return
    documents = list_documents(corpus, name)
    if tokenizer is None:
        raise ValueError(f"`{name}` must be token ids: texts need a tokenizer, and there is none.")
    for document in documents:
        text = document
        if not isinstance(document, str):
            text = "".join(read_text(document, keep_line_ends=keep_line_ends))
        yield Document(np.array(tokenizer.encode(text), np.int64), text)


def _rows_of_ids(name: str, corpus: Any) -> list[np.ndarray] | None:
    """Return rows of ids, or None if the corpus is something else."""
    if hasattr(corpus, "to_list"):  # a ragged tensor
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
                f"`{name}` must be texts, files, or lists of token ids; document {i} is {row!r}."
            )
    rows = [row.astype(np.int64) for row in rows if row.size]
    if not rows:
        raise ValueError(f"`{name}` holds no token.")
    return rows


def _is_ids(entry: Any) -> bool:
    """Return whether an entry is a number or holds others; a text or a path is neither."""
    if hasattr(entry, "__array__"):
        return np.asarray(entry).dtype.kind not in "OSU"
    return isinstance(entry, Sequence | Number) and not isinstance(entry, str | bytes)
