"""From the `corpus` argument to a list of documents."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from gpt_keras.tokenizers.text_files import list_text_files

# A text shorter than this may be a path that somebody forgot to wrap in `pathlib.Path`.
_LONGEST_PATH = 1024


def list_documents(
    corpus: str | Path | Sequence[str | Path],
) -> list[str | Path]:
    """Returns the documents of a corpus, empty ones left out.

    Args:
        corpus: A `str` is text, a `pathlib.Path` a file or a directory of `.txt` files; or a list
            of these.

    Returns:
        Texts and files, each a document.

    Raises:
        ValueError: If an entry is of another type, a path does not exist, or there is no text.
    """
    entries = [corpus] if isinstance(corpus, (str, Path)) else corpus
    if isinstance(entries, bytes) or not isinstance(entries, Sequence):
        raise ValueError(
            "`corpus` must be a str (text), a pathlib.Path (a file or a directory) or a list of "
            f"these, but is of type {type(corpus).__name__}."
        )
    documents: list[str | Path] = []
    for i, entry in enumerate(entries):
        if isinstance(entry, str):
            documents.append(entry)
        elif isinstance(entry, Path):
            documents.extend(list_text_files(entry))
        else:
            raise ValueError(
                "`corpus` must hold str (text) or pathlib.Path (a file or a directory), but "
                f"entry {i} is of type {type(entry).__name__}."
            )
    documents = [document for document in documents if _size(document)]
    if not documents:
        raise ValueError("`corpus` holds no text.")
    return documents


def digest(corpus: str | Path | Sequence[str | Path]) -> str:
    """Returns a name for the content of a corpus: the same texts in the same order have the same.

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
    """Returns the SHA-256 of a text or of a file's content."""
    if isinstance(document, str):
        return hashlib.sha256(document.encode("utf-8", errors="surrogatepass")).digest()
    with document.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def path_hint(documents: list[str | Path]) -> str:
    """Returns a sentence for error messages if a text looks like the name of a file."""
    for document in documents:
        if isinstance(document, str) and len(document) < _LONGEST_PATH and "\0" not in document:
            try:
                exists = Path(document).exists()
            except OSError:  # too long for a name
                exists = False
            if exists:
                return (
                    f" The text {document!r} is the name of a file or directory: did you mean "
                    f"pathlib.Path({document!r})?"
                )
    return ""


def _size(document: str | Path) -> int:
    return len(document) if isinstance(document, str) else document.stat().st_size
