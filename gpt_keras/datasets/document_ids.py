"""Documents as ids, one array each, for what counts or scores each document as a whole."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gpt_keras.datasets.documents import list_documents
from gpt_keras.tokenizers import Tokenizer
from gpt_keras.tokenizers.text_files import read_text


class Document(NamedTuple):
    """One document.

    Attributes:
        ids: `(tokens,)` integers, without an end-of-text token; at least one.
        text: its text, or None if it came as ids.
    """

    ids: np.ndarray
    text: str | None


def document_ids(corpus: Any, tokenizer: Tokenizer | None) -> Iterator[Document]:
    """Yields the documents of a corpus that is given as texts, files or ids.

    Args:
        corpus: As in `gk.datasets.language_modeling`, or the ids of one document, or a list of
            such.
        tokenizer: Turns texts into ids; None if there are only ids.

    Yields:
        The documents, empty ones left out.

    Raises:
        ValueError: If there is no document, an entry is neither text nor ids, or there is text and
            no tokenizer.
    """
    rows = _rows_of_ids(corpus)
    if rows is not None:
        for row in rows:
            yield Document(row, None)
        return
    documents = list_documents(corpus)
    if tokenizer is None:
        raise ValueError("Texts need a tokenizer, and this model has none: pass token ids.")
    for document in documents:
        text = document if isinstance(document, str) else "".join(read_text(document))
        yield Document(np.array(tokenizer.encode(text), np.int64), text)


def _rows_of_ids(corpus):
    """Rows of ids, or None if the corpus is something else."""
    if isinstance(corpus, str | bytes | Path) or not isinstance(corpus, Sequence | np.ndarray):
        return None
    if len(corpus) == 0 or isinstance(corpus[0], str | bytes | Path):
        return None
    is_single = np.ndim(corpus[0]) == 0
    rows = [np.asarray(row) for row in ([corpus] if is_single else corpus)]
    for i, row in enumerate(rows):
        if row.ndim != 1 or (row.size and not np.issubdtype(row.dtype, np.integer)):
            raise ValueError(
                f"A corpus must be texts, files, or lists of token ids; document {i} is {row!r}."
            )
    rows = [row.astype(np.int64) for row in rows if row.size]
    if not rows:
        raise ValueError("The corpus holds no token.")
    return rows
