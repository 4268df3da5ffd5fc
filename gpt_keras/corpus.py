"""Corpora: which documents texts, files, directories, tables and generators hold.

A corpus is one of these, or several of them in any container:

- a `str`: a text, which is one document;
- a `pathlib.Path` of a file. A table (`.jsonl`, `.csv`, `.parquet`, ...) has a document in each
  row, in the column `field`. Any other file is UTF-8 text and one document. The name may end in
  `.gz`;
- a `pathlib.Path` of a directory: see `list_files`;
- a dict or a `gk.records.Row`: a row, as in a table.

Documents are read one at a time, so a corpus may be larger than memory.
"""

import codecs
import dataclasses
import hashlib
import io
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from gpt_keras import records
from gpt_keras.file_bytes import format_suffix, is_compressed, read_chunks
from gpt_keras.texts import as_texts, dataset_elements, describe, is_unicode

PIECE_BYTES = 1 << 20

# Suffixes of the text files in a directory. By its path, a file of any other name is text, too.
TEXT_SUFFIXES = (".txt", ".md")

# First bytes of files that are often mistaken for plain text, their format, and how to read them.
_OTHER_FORMATS = {
    b"\x1f\x8b": (
        "gzip-compressed",
        "unpack it, add .gz to its name, or pass `gzip.open(path, 'rt').read()`",
    ),
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


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """A document of a corpus: a text, or a text file that is read in pieces.

    Attributes:
        source: The text (`str`), or the path of the file.
    """

    source: str | Path

    @property
    def is_file(self) -> bool:
        """True if the document is a file, which may begin with a byte order mark."""
        return not isinstance(self.source, str)

    def is_empty(self) -> bool:
        """Return whether the document has no byte."""
        if isinstance(self.source, str):
            return not self.source
        if is_compressed(self.source):
            return not any(read_chunks(self.source, 1))
        return self.source.stat().st_size == 0

    def pieces(self, keep_line_ends: bool = False) -> Iterator[str]:
        """Yield strings that are the text if they are joined.

        Args:
            keep_line_ends: As in `read_text`. A document that is not a file is never changed.
        """
        if isinstance(self.source, str):
            yield self.source
        else:
            yield from read_text(self.source, PIECE_BYTES, keep_line_ends)

    def text(self, keep_line_ends: bool = False) -> str:
        """Return the whole text.

        Args:
            keep_line_ends: As in `pieces`.
        """
        return "".join(self.pieces(keep_line_ends))

    def digest(self) -> tuple[bytes, int]:
        """Return the SHA-256 digest and the number of the document's bytes.

        The bytes of an archive are the decompressed ones.
        """
        if isinstance(self.source, str):
            encoded = self.source.encode("utf-8", errors="surrogatepass")
            return hashlib.sha256(encoded).digest(), len(encoded)
        found, num_bytes = hashlib.sha256(), 0
        for chunk in read_chunks(self.source, PIECE_BYTES):
            found.update(chunk)
            num_bytes += len(chunk)
        return found.digest(), num_bytes


def iterate_documents(
    corpus: Any, field: str = "text", *, name: str = "corpus", keep_empty: bool = False
) -> Iterator[Document]:
    """Iterate over the documents of a corpus.

    Args:
        corpus: A corpus, see the module; several of its entries may be in any container: a list, a
            NumPy array, a pandas Series, a string tensor, a generator, a `tf.data.Dataset`, a
            `datasets.Dataset`. A `pandas.DataFrame` is a table.
        field: The column of tables and rows that holds the text.
        name: Name of the argument, for error messages.
        keep_empty: Whether to yield documents without any text.

    Yields:
        The documents.

    Raises:
        ValueError: An entry is neither a text, a path nor a row; a path does not exist; all texts
            are names of files; a file is damaged or not UTF-8; or a row has no text in `field`.
            Messages give file and line. Also: there is no text at all, unless `keep_empty`.
    """
    if not isinstance(field, str):
        raise ValueError(f"`field` must be the name of a column, got {describe(field)}.")
    has_text = keep_empty
    for entry in _without_names_of_files(name, _entries(name, corpus, field)):
        for document in _documents(entry, field):
            if keep_empty or not document.is_empty():
                has_text = True
                yield document
    if not has_text:
        where = f": {str(corpus)!r}" if isinstance(corpus, os.PathLike) else ""
        raise ValueError(f"`{name}` holds no text{where}.")


def is_rereadable(corpus: Any) -> bool:
    """Return whether a second pass over a corpus gives the same documents.

    A generator can be read only once, and an iterable without `[]` may change its order.
    """
    return isinstance(corpus, os.PathLike) or hasattr(corpus, "__getitem__")


def digest(corpus: Any, field: str = "text") -> str:
    """Return a SHA-256 digest of the content of a corpus.

    The digest depends on the texts and their order, not on file names or compression. It is the
    SHA-256 of the SHA-256 digests of all documents.

    Args:
        corpus: As in `gk.datasets.language_modeling`. A generator is read to its end.
        field: The column of tables and rows that holds the text.

    Returns:
        The digest, 64 hexadecimal digits.

    Raises:
        ValueError: There is no text, or the corpus cannot be read, as in
            `gk.datasets.language_modeling`.

    Example:
        >>> import gpt_keras as gk
        >>> gk.datasets.digest("To be, or not to be")[:16]
        '9200087547c796e8'
        >>> gk.datasets.digest(({"text": text} for text in ["To be, or not to be"]))[:16]
        '9200087547c796e8'
    """
    return digest_and_count(corpus, field)[0]


def digest_and_count(corpus: Any, field: str = "text") -> tuple[str, int]:
    """Return the digest of a corpus and its number of documents.

    Args:
        corpus: As in `digest`.
        field: As in `digest`.

    Raises:
        ValueError: As in `digest`.
    """
    whole, count = hashlib.sha256(), 0
    for document in iterate_documents(corpus, field):
        whole.update(document.digest()[0])
        count += 1
    return whole.hexdigest(), count


# Entries of a corpus


def _entries(name: str, corpus: Any, field: str) -> Iterator[str | Path | Document]:
    """Yield texts, paths, and the documents of rows."""
    for i, entry in enumerate(_elements(name, corpus, field)):
        if isinstance(entry, os.PathLike):
            yield Path(entry)
            continue
        if isinstance(entry, Mapping):
            yield _row_document(entry, field, getattr(entry, "place", f"`{name}`, row {i}"))
            continue
        try:
            (text,) = as_texts(name, [entry])
        except ValueError as error:
            raise ValueError(
                f"`{name}` must hold str (text), pathlib.Path (a file or a directory) or rows "
                f"(dict), got {describe(entry)} as number {i}."
            ) from error
        yield text


def _elements(name: str, corpus: Any, field: str) -> Iterable[Any]:
    if isinstance(corpus, str | os.PathLike):
        return [corpus]
    if hasattr(corpus, "as_numpy_iterator"):  # a tf.data.Dataset
        if int(corpus.cardinality()) == -1:
            raise ValueError(f"`{name}` must end, got an endless dataset: leave out `repeat`.")
        return dataset_elements(name, corpus)
    if hasattr(corpus, "itertuples"):  # a pandas.DataFrame
        if field not in corpus.columns:
            raise _with_hint(records.missing_column(field, f"`{name}`", map(str, corpus.columns)))
        corpus = corpus[field]
    if hasattr(corpus, "__array__"):
        texts = as_texts(name, corpus)
        return [texts] if isinstance(texts, str) else texts
    if isinstance(corpus, bytes | Mapping | Set) or not isinstance(corpus, Iterable):
        raise ValueError(
            f"`{name}` must be str (text), pathlib.Path (a file or a directory) or several of "
            f"these, got {describe(corpus)}."
        )
    return corpus


def _documents(entry: str | Path | Document, field: str) -> Iterable[Document]:
    if isinstance(entry, str):
        return [Document(entry)]
    if isinstance(entry, Document):
        return [entry]
    return (
        document
        for file in list_files(entry)
        for document in _READERS.get(format_suffix(file), _one_document)(file, field)
    )


# One reader for each suffix


def _one_document(path: Path, field: str) -> Iterator[Document]:
    yield Document(path)


def _row_documents(path: Path, field: str) -> Iterator[Document]:
    try:
        for row in records.read_rows(path, [field]):
            yield _row_document(row, field, row.place)
    except records.MissingColumn as error:
        raise _with_hint(error) from error


_READERS: dict[str, Callable[[Path, str], Iterator[Document]]] = {
    **dict.fromkeys(TEXT_SUFFIXES, _one_document),
    **dict.fromkeys(records.SUFFIXES, _row_documents),
}


def _row_document(row: Mapping, field: str, place: str) -> Document:
    if field not in row:
        raise _with_hint(records.missing_column(field, place, map(str, row)))
    value = row[field]
    if value is None:
        raise ValueError(
            f"{place}: there is no text in the column {field!r}. To leave out such rows, pass "
            f"`(row for row in gk.records.read_rows(path) if row[{field!r}])`."
        )
    try:
        (text,) = [value] if type(value) is str else as_texts(field, [value])
    except ValueError as error:
        raise ValueError(
            f"{place}: the column {field!r} must hold strings, got {describe(value)}."
        ) from error
    if not is_unicode(text):
        raise ValueError(f"{place}: the text holds half of a character (a lone surrogate).")
    return Document(text)


def _with_hint(error: records.MissingColumn) -> ValueError:
    return records.MissingColumn(f"{error} `field` names the column that holds the text.")


# Files


def list_files(path: Path) -> list[Path]:
    """Return the files at a path.

    Args:
        path: A file or a directory. A directory stands for all `.txt` and `.md` files below it,
            plain or with `.gz`. If there are none, it stands for the tables below it. If there are
            both, a warning says that the tables are not read. The case of a suffix does not matter.
            Hidden files and folders (`.name`) are skipped.

    Returns:
        The files; the files of a directory are sorted by path.

    Raises:
        ValueError: `path` does not exist, or is a directory without such files.
    """
    if path.is_file():
        return [path]
    if not path.exists():
        raise ValueError(f"There is no file or directory {str(path)!r}.")
    texts, tables, skipped = [], [], Counter()
    for file in sorted(path.rglob("*")):
        if not file.is_file():
            continue
        suffix = format_suffix(file)
        if any(part.startswith(".") for part in file.relative_to(path).parts):
            skipped["hidden"] += 1
        elif suffix in TEXT_SUFFIXES:
            texts.append(file)
        elif suffix in records.SUFFIXES:
            tables.append(file)
        else:
            skipped[file.suffix or "without a suffix"] += 1
    if texts and tables:
        kinds = Counter(map(format_suffix, tables))
        warnings.warn(
            f"The directory {str(path)!r} holds {len(texts)} text files, which are read, and "
            f"tables ({_counted(kinds)}), which are not. To read tables, give their paths or a "
            "directory of their own.",
            stacklevel=2,
        )
    if not texts and not tables:
        raise ValueError(
            f"The directory {str(path)!r} holds no {' or '.join(TEXT_SUFFIXES)} files and no tables"
            f"{f' (skipped: {_counted(skipped)})' if skipped else ''}."
        )
    return texts or tables


def _counted(kinds: Counter) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))


def read_text(
    path: Path, piece_bytes: int = PIECE_BYTES, keep_line_ends: bool = False
) -> Iterator[str]:
    r"""Read a UTF-8 file in pieces, decompressed if its name ends in `.gz`.

    A byte order mark at the beginning is dropped.

    Args:
        path: The file.
        piece_bytes: Largest length of a piece in bytes.
        keep_line_ends: Whether to keep the line ends `"\r\n"` and `"\r"`; by default they become
            `"\n"`.

    Yields:
        Strings; joined, they are the text of the file.

    Raises:
        ValueError: The file is not UTF-8, or a damaged archive. The message names the file, and its
            format or the line of the first bad byte.
    """
    _check_format(path, next(read_chunks(path, 512), b""))
    decoder = codecs.getincrementaldecoder("utf-8")()
    line_ends = io.IncrementalNewlineDecoder(None, translate=not keep_line_ends)
    offset, line = 0, 1
    chunks = read_chunks(path, piece_bytes)
    while True:
        chunk = next(chunks, b"")
        pending = len(decoder.getstate()[0])  # bytes of a character that the last piece cut
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            line += chunk.count(b"\n", 0, max(0, error.start - pending))
            raise ValueError(
                f"{str(path)!r} is not UTF-8 text: bad byte at offset "
                f"{offset - pending + error.start} in line {line} ({error.reason}). If it has "
                f"another encoding, pass {_read_with_encoding(path)}."
            ) from error
        if offset - pending == 0:
            text = text.removeprefix("\ufeff")
        text = line_ends.decode(text, final=not chunk)
        if text:
            yield text
        if not chunk:
            return
        offset += len(chunk)
        line += chunk.count(b"\n")


def _read_with_encoding(path: Path) -> str:
    if is_compressed(path):
        return "`gzip.open(path, 'rt', encoding=...).read()`"
    return "`path.read_text(encoding=...)`"


def _check_format(path: Path, head: bytes) -> None:
    found = next((found for start, found in _OTHER_FORMATS.items() if head.startswith(start)), None)
    if head[257:262] == b"ustar":
        found = ("a tar archive", "unpack it")
    if (
        found is None and head.count(0) > len(head) // 4
    ):  # in UTF-16, half of the bytes of English are 0
        found = ("UTF-16 or no text", "pass `path.read_text(encoding='utf-16')` if it is text")
    if found is not None:
        raise ValueError(f"{str(path)!r} is {found[0]}, not UTF-8 text: {found[1]}.")


# Texts that are names of files


def check_no_names_of_files(name: str, texts: Iterable[str]) -> None:
    """Raise `ValueError` if all given texts are names of files."""
    for _ in _without_names_of_files(name, texts):
        pass


def _without_names_of_files(
    name: str, entries: Iterable[str | Path | Document]
) -> Iterator[str | Path | Document]:
    """Yield the entries, or raise `ValueError` if all their texts are names of files.

    One text among others may be the name of a file by chance. So the search stops at the first text
    that is not the name of a file.
    """
    held, entries = [], iter(entries)
    for entry in entries:
        held.append(entry)
        if isinstance(entry, Document) or (isinstance(entry, str) and not _names_a_file(entry)):
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
    has_suffix = format_suffix(Path(text)) in _READERS
    return _exists(text) or (has_suffix and " " not in text)


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # too long for a name
        return False
