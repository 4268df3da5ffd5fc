"""The documents of a `corpus` argument, and digests of their content."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from gpt_keras.tokenizers.text_files import corpus_entries


def list_documents(
    corpus: str | Path | Sequence[str | Path], name: str = "corpus"
) -> list[str | Path]:
    """Return the documents of a corpus, without empty ones.

    Args:
        corpus: A text (`str`), a text file or a directory of text files (`pathlib.Path`), or
            several of these in any container.
        name: Name of the argument, for error messages.

    Returns:
        A list of texts and files, each one document.

    Raises:
        ValueError: An entry has another type, a path does not exist, the texts are names of files,
            or there is no text.
    """
    documents = [document for document in corpus_entries(name, corpus) if _size(document)]
    if not documents:
        raise ValueError(f"`{name}` holds no text.")
    return documents


def digest(corpus: str | Path | Sequence[str | Path]) -> str:
    """Return a SHA-256 digest of the content of a corpus.

    The digest depends on the texts and their order, not on file names. It is the SHA-256 of the
    SHA-256 digests of all documents.

    Args:
        corpus: As in `gk.datasets.language_modeling`.

    Returns:
        The digest, 64 hexadecimal digits.

    Raises:
        ValueError: A path does not exist, an entry is neither text nor a path, the texts are names
            of files, or there is no text.

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
    """Return the SHA-256 digest of a text or of a file's content."""
    if isinstance(document, str):
        return hashlib.sha256(document.encode("utf-8", errors="surrogatepass")).digest()
    with document.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _size(document: str | Path) -> int:
    return len(document) if isinstance(document, str) else document.stat().st_size
