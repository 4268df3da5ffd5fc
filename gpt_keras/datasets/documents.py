"""From the `corpus` argument to a list of documents."""

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
