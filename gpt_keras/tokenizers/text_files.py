"""Reading text in pieces, so that a corpus may be larger than memory."""

import codecs
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from gpt_keras.tokenizers.texts import as_texts, describe

PIECE_BYTES = 1 << 20

# The files that a directory stands for.
TEXT_SUFFIXES = (".txt", ".md")

# Files whose texts stand in fields. Learning their commas and braces is hardly ever meant.
_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")

# The first bytes of files that are often taken for text, and how to read them.
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

# A text longer than this is no path.
_LONGEST_PATH = 1024


def list_text_files(path: Path) -> list[Path]:
    """Return the text files that `path` stands for.

    Args:
        path: A file; or a directory, which stands for all `.txt` and `.md` files below it, in
            lower or upper case. Hidden files and folders (`.name`) are skipped.

    Returns:
        The files; those of a directory sorted by name.

    Raises:
        ValueError: `path` does not exist, is a table such as a CSV file, or is a directory without
            text files.
    """
    if path.is_file():
        if path.suffix.lower() in _TABLES:
            raise ValueError(
                f"{str(path)!r} holds records, not plain text. Read it and pass the texts of one "
                "field, such as `pandas.read_csv(path)['text']`; or pass `path.read_text()` to "
                "take the file as it stands."
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
    r"""Read a UTF-8 file piece by piece.

    A byte order mark at the beginning is dropped.

    Args:
        path: The file.
        piece_bytes: About how long the pieces are.
        keep_line_ends: Whether `"\r\n"` and `"\r"` stay as they are instead of becoming `"\n"`.

    Yields:
        Strings that joined give the text of the file.

    Raises:
        ValueError: The file is not UTF-8; the error names the file, and its format or the offset
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
            pending = len(decoder.getstate()[0])  # bytes of a character cut by the last piece
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
    if found is None and head.count(0) > len(head) // 4:  # every second byte of English in UTF-16
        found = ("UTF-16 or no text", "pass `path.read_text(encoding='utf-16')` if it is text")
    if found is not None:
        raise ValueError(f"{str(path)!r} is {found[0]}, not UTF-8 text: {found[1]}.")


def cut_into_pieces(
    texts: Iterator[str], safe_cut: Callable[[str], int], piece_characters: int
) -> Iterator[str]:
    """Cut a stream of text anew, at places where cutting changes nothing.

    Args:
        texts: Strings that joined give one text.
        safe_cut: `Tokenizer.safe_cut`, or a function like it.
        piece_characters: The most characters a piece has, unless there is no safe place.

    Yields:
        Strings that joined give the same text.
    """
    rest = ""
    for text in texts:
        text = rest + text
        start = 0
        while len(text) - start > piece_characters:
            cut = safe_cut(text[start : start + piece_characters])
            if cut == 0:  # one very long word: look further, in all there is
                cut = safe_cut(text[start:])
                if cut == 0:
                    break
            yield text[start : start + cut]
            start += cut
        rest = text[start:]
    if rest:
        yield rest


def corpus_entries(name: str, corpus: Any) -> Iterator[str | Path]:
    """Go through the texts and text files of a corpus.

    Args:
        name: The argument's name, for errors.
        corpus: A `str` is text, a `pathlib.Path` a file or a directory of text files
            (`list_text_files`); or an iterable of these; or texts in any container that `as_texts`
            takes.

    Yields:
        Texts, and the paths of single files.

    Raises:
        ValueError: An entry is neither, a path does not exist, or all texts are names of files.
    """
    for entry in _without_names_of_files(name, _entries(name, corpus)):
        if isinstance(entry, str):
            yield entry
        else:
            yield from list_text_files(entry)


def iterate_documents(
    texts_or_paths: str | Path | Iterable[str | Path], keep_line_ends: bool = False
) -> Iterator[Iterator[str]]:
    """Go through the documents of a corpus.

    Args:
        texts_or_paths: As `corpus` of `corpus_entries`.
        keep_line_ends: As in `read_text`.

    Yields:
        For each text and each file an iterator over its pieces.

    Raises:
        ValueError: An entry is neither text nor a path, a path does not exist, or a file is not
            UTF-8 text.
    """
    for entry in corpus_entries("texts_or_paths", texts_or_paths):
        if isinstance(entry, str):
            yield iter([entry])
        else:
            yield read_text(entry, keep_line_ends=keep_line_ends)


def check_no_names_of_files(name: str, texts: Iterable[str]) -> None:
    """Raise `ValueError` if each of some texts is the name of a file."""
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
    """Yield the entries, or raise `ValueError` where all their texts name files.

    One text among others may be the name of a file by chance. Looking ends at the first one that
    is not.
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
