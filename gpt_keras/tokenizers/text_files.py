"""Reading of text in pieces, so that a corpus may be larger than memory."""

import codecs
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from gpt_keras.tokenizers.texts import as_texts, describe

PIECE_BYTES = 1 << 20

# Suffixes of the files that a directory stands for.
TEXT_SUFFIXES = (".txt", ".md")

# Files that hold texts in fields. Training on their commas and braces is rarely intended.
_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")

# First bytes of files that are often mistaken for plain text, their format, and how to read them.
_OTHER_FORMATS = {
    b"\x1f\x8b": ("gzip-compressed", "unpack it, or pass `gzip.open(path, 'rt').read()`"),
    b"BZh": ("bzip2-compressed", "unpack it, or pass `bz2.open(path, 'rt').read()`"),
    b"\xfd7zXZ": ("xz-compressed", "unpack it, or pass `lzma.open(path, 'rt').read()`"),
    b"\x28\xb5\x2f\xfd": ("zstandard-compressed", "unpack it"),
    b"PK\x03\x04": ("a zip archive", "unpack it"),
    b"%PDF": ("a PDF", "extract its text"),
    b"\xff\xfe": ("UTF-16", "pass `path.read_text(encoding='utf-16')`, or save it as UTF-8"),
    b"\xfe\xff": ("UTF-16", "pass `path.read_text(encoding='utf-16')`, or save it as UTF-8"),
}

# A longer text cannot be a path.
_LONGEST_PATH = 1024


def list_text_files(path: Path) -> list[Path]:
    """Return the text files at a path.

    Args:
        path: A file; or a directory, which stands for all `.txt` and `.md` files below it. The case
            of a suffix does not matter. Hidden files and folders (`.name`) are skipped.

    Returns:
        The files; the files of a directory are sorted by path.

    Raises:
        ValueError: `path` does not exist, is a table such as a CSV file, or is a directory without
            text files.
    """
    if path.is_file():
        if path.suffix.lower() in _TABLES:
            raise ValueError(
                f"{str(path)!r} holds records, not plain text. Read it and pass the texts of one "
                "field, such as `pandas.read_csv(path)['text']`; or pass `path.read_text()` to "
                "use the whole file as text."
            )
        return [path]
    if not path.exists():
        raise ValueError(f"There is no file or directory {str(path)!r}.")
    files, skipped = [], Counter()
    for file in sorted(path.rglob("*")):
        if not file.is_file():
            continue
        if any(part.startswith(".") for part in file.relative_to(path).parts):
            skipped["hidden"] += 1
        elif file.suffix.lower() in TEXT_SUFFIXES:
            files.append(file)
        else:
            skipped[file.suffix or "without a suffix"] += 1
    if not files:
        kinds = ", ".join(f"{count} {kind}" for kind, count in skipped.most_common(5))
        raise ValueError(
            f"The directory {str(path)!r} holds no {' or '.join(TEXT_SUFFIXES)} files"
            f"{f' (skipped: {kinds})' if kinds else ''}."
        )
    return files


def read_text(
    path: Path, piece_bytes: int = PIECE_BYTES, keep_line_ends: bool = False
) -> Iterator[str]:
    r"""Read a UTF-8 file in pieces.

    A byte order mark at the beginning is dropped.

    Args:
        path: The file.
        piece_bytes: Approximate length of a piece in bytes.
        keep_line_ends: Whether to keep the line ends `"\r\n"` and `"\r"`; by default they become
            `"\n"`.

    Yields:
        Strings; joined, they are the text of the file.

    Raises:
        ValueError: The file is not UTF-8. The message names the file, and its format or the offset
            of the first bad byte.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    line_ends = io.IncrementalNewlineDecoder(None, translate=not keep_line_ends)
    with path.open("rb") as file:
        _check_format(path, file.read(512))
        file.seek(0)
        offset = 0
        while True:
            chunk = file.read(piece_bytes)
            pending = len(decoder.getstate()[0])  # bytes of a character that the last piece cut
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{str(path)!r} is not UTF-8 text: bad byte at offset "
                    f"{offset - pending + error.start} ({error.reason}). If it has another "
                    "encoding, pass `path.read_text(encoding=...)`."
                ) from error
            if offset - pending == 0:
                text = text.removeprefix("\ufeff")
            text = line_ends.decode(text, final=not chunk)
            if text:
                yield text
            if not chunk:
                return
            offset += len(chunk)


def _check_format(path: Path, head: bytes) -> None:
    found = next((found for start, found in _OTHER_FORMATS.items() if head.startswith(start)), None)
    if (
        found is None and head.count(0) > len(head) // 4
    ):  # in UTF-16, half of the bytes of English are 0
        found = ("UTF-16 or no text", "pass `path.read_text(encoding='utf-16')` if it is text")
    if found is not None:
        raise ValueError(f"{str(path)!r} is {found[0]}, not UTF-8 text: {found[1]}.")


def cut_into_pieces(
    texts: Iterator[str], safe_cut: Callable[[str], int], piece_characters: int
) -> Iterator[str]:
    """Cut a stream of text into pieces, at safe positions.

    Args:
        texts: Strings; joined, they are one text.
        safe_cut: `Tokenizer.safe_cut`, or a function like it.
        piece_characters: Maximum number of characters of a piece. A piece is longer if there is no
            safe position before.

    Yields:
        Strings; joined, they are the same text.
    """
    rest = ""
    for text in texts:
        text = rest + text
        start = 0
        while len(text) - start > piece_characters:
            cut = safe_cut(text[start : start + piece_characters])
            if cut == 0:  # one very long word: search all of the text
                cut = safe_cut(text[start:])
                if cut == 0:
                    break
            yield text[start : start + cut]
            start += cut
        rest = text[start:]
    if rest:
        yield rest


def corpus_entries(name: str, corpus: Any) -> Iterator[str | Path]:
    """Iterate over the texts and text files of a corpus.

    Args:
        name: Name of the argument, for error messages.
        corpus: A `str` is a text. A `pathlib.Path` is a file or a directory of text files (see
            `list_text_files`). For several, pass an iterable of these, or texts in any container
            that `as_texts` accepts.

    Yields:
        Texts, and the paths of single files.

    Raises:
        ValueError: An entry is neither a text nor a path, a path does not exist, or all texts are
            names of files.
    """
    for entry in _without_names_of_files(name, _entries(name, corpus)):
        if isinstance(entry, str):
            yield entry
        else:
            yield from list_text_files(entry)


def iterate_documents(
    texts_or_paths: str | Path | Iterable[str | Path], keep_line_ends: bool = False
) -> Iterator[Iterator[str]]:
    """Iterate over the documents of a corpus.

    Args:
        texts_or_paths: As `corpus` of `corpus_entries`.
        keep_line_ends: As in `read_text`.

    Yields:
        For each text and each file, an iterator over its pieces.

    Raises:
        ValueError: An entry is neither a text nor a path, a path does not exist, or a file is not
            UTF-8 text.
    """
    for entry in corpus_entries("texts_or_paths", texts_or_paths):
        if isinstance(entry, str):
            yield iter([entry])
        else:
            yield read_text(entry, keep_line_ends=keep_line_ends)


def check_no_names_of_files(name: str, texts: Iterable[str]) -> None:
    """Raise `ValueError` if all given texts are names of files."""
    for _ in _without_names_of_files(name, texts):
        pass


def _entries(name: str, corpus: Any) -> Iterator[str | Path]:
    if isinstance(corpus, str | os.PathLike):
        corpus = [corpus]
    elif hasattr(corpus, "__array__") or hasattr(corpus, "as_numpy_iterator"):
        texts = as_texts(name, corpus)
        corpus = [texts] if isinstance(texts, str) else texts
    elif isinstance(corpus, bytes | Mapping | Set) or not isinstance(corpus, Iterable):
        raise ValueError(
            f"`{name}` must be str (text), pathlib.Path (a file or a directory) or several of "
            f"these, got {describe(corpus)}."
        )
    for i, entry in enumerate(corpus):
        if isinstance(entry, os.PathLike):
            yield Path(entry)
            continue
        try:
            (text,) = as_texts(name, [entry])
        except ValueError as error:
            raise ValueError(
                f"`{name}` must hold str (text) or pathlib.Path (a file or a directory), got "
                f"{describe(entry)} as number {i}."
            ) from error
        yield text


def _without_names_of_files(name: str, entries: Iterable[str | Path]) -> Iterator[str | Path]:
    """Yield the entries, or raise `ValueError` if all their texts are names of files.

    One text among others may be the name of a file by chance. So the search stops at the first text
    that is not the name of a file.
    """
    held, entries = [], iter(entries)
    for entry in entries:
        held.append(entry)
        if isinstance(entry, str) and not _names_a_file(entry):
            break
    else:
        names = [entry for entry in held if isinstance(entry, str)]
        if names:
            what = "is the name" if _exists(names[0]) else "looks like the name"
            raise ValueError(
                f"`{name}` is text, and the text {names[0]!r} {what} of a file or directory: did "
                f"you mean pathlib.Path({names[0]!r})?"
            )
    yield from held
    yield from entries


def _names_a_file(text: str) -> bool:
    if len(text) > _LONGEST_PATH or not any(map(str.isalnum, text)) or not text.isprintable():
        return False
    has_suffix = Path(text).suffix.lower() in TEXT_SUFFIXES + _TABLES
    return _exists(text) or (has_suffix and " " not in text)


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # too long for a name
        return False
