"""From the `corpus` argument to a list of documents."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from gpt_keras.tokenizers.text_files import corpus_entries


def list_documents(
    corpus: str | Path | Sequence[str | Path], name: str = "corpus"
) -> list[str | Path]:
    """Return the documents of a corpus, without the empty ones.

    Args:
        corpus: A `str` is text, a `pathlib.Path` a file or a directory of text files; or several
            of these, in any container.
        name: The argument's name, for errors.

    Returns:
        Texts and files, each a document.

    Raises:
        ValueError: An entry is of another type, a path does not exist, the texts are names of
            files, or there is no text.
    """
    documents = [document for document in corpus_entries(name, corpus) if _size(document)]
    if not documents:
        raise ValueError(f"`{name}` holds no text.")
    return documents


def digest(corpus: str | Path | Sequence[str | Path]) -> str:
    """Return a name for the content of a corpus: the same texts in the same order have the same.

    Args:
        corpus: As in `language_modeling`.

    Returns:
        The SHA-256, in hexadecimal, of the SHA-256 of each document.

    Example:
        >>> import gpt_keras as gk
        >>> gk.datasets.digest("To be, or not to be")[:16]
        '9200087547c796e8'
    """
    whole = hashlib.sha256()
    for document in list_documents(corpus):
        whole.update(document_digest(document))
    return whole.hexdigest()


def document_digest(document: str | Path) -> bytes:
    """Return the SHA-256 of a text or of a file's content."""
    if isinstance(document, str):
        return hashlib.sha256(document.encode("utf-8", errors="surrogatepass")).digest()
    with document.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _size(document: str | Path) -> int:
    return len(document) if isinstance(document, str) else document.stat().st_size
