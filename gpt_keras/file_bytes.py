"""Bytes of files: plain or compressed by gzip, read as a stream."""

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_GZIP = ".gz"

# What Python raises for an archive that is cut short, no gzip archive at all, or changed.
_DAMAGES = (EOFError, gzip.BadGzipFile, zlib.error)


def is_compressed(path: Path) -> bool:
    """Return whether the name of a file ends in `.gz`."""
    return path.suffix.lower() == _GZIP


def format_suffix(path: Path) -> str:
    """Return the suffix for the format of a file: in lower case, without `.gz`.

    Example:
        >>> from pathlib import Path
        >>> from gpt_keras.file_bytes import format_suffix
        >>> format_suffix(Path("a.txt")), format_suffix(Path("reviews.CSV.gz"))
        ('.txt', '.csv')
    """
    return Path(path.stem if is_compressed(path) else path.name).suffix.lower()


def read_chunks(path: Path, num_bytes: int) -> Iterator[bytes]:
    """Read a file in chunks, decompressed if its name ends in `.gz`.

    Args:
        path: The file.
        num_bytes: Largest number of bytes in a chunk.

    Yields:
        Bytes, never empty.

    Raises:
        ValueError: The archive is damaged. The message gives the file and the line.
    """
    line = 1
    with _open(path) as file:
        try:
            # `read1`, because `read` would lose the bytes before a damage.
            while chunk := file.read1(num_bytes):
                yield chunk
                line += chunk.count(b"\n")
        except _DAMAGES as error:
            raise _damaged(path, line, error) from error


def read_lines(path: Path) -> Iterator[bytes]:
    """Read the lines of a file, decompressed if its name ends in `.gz`.

    Args:
        path: The file.

    Yields:
        Lines with their ends.

    Raises:
        ValueError: The archive is damaged. The message gives the file and the line.
    """
    number = 1
    with _open(path) as file:
        try:
            for line in file:
                yield line
                number += 1
        except _DAMAGES as error:
            raise _damaged(path, number, error) from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 digest of a file as it is on disk, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open(path: Path) -> BinaryIO:
    return gzip.open(path) if is_compressed(path) else path.open("rb")


def _damaged(path: Path, line: int, error: Exception) -> ValueError:
    return ValueError(
        f"{path}, line {line}: the gzip archive is damaged here ({error}). Copy or download the "
        "file again. If it is not compressed, remove .gz from its name."
    )
