"""The header of a GGUF file (llama.cpp's format): metadata and tensor offsets.

This module does not use the `gguf` package. That package makes an array for each number, which
takes more memory than a small model. If one length in a file is damaged, it also makes arrays for
all the bytes of the tensors.
"""

import math
import mmap
import pathlib
import struct
from typing import Any, NamedTuple

import numpy as np

MAGIC = b"GGUF"
_VERSIONS = (2, 3)

_STRING, _ARRAY = 8, 9
_UINT32, _UINT64 = 4, 10
_NUMBERS = {
    **{0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4"},
    **{7: "?", 10: "<u8", 11: "<i8", 12: "<f8"},
}
_MOST_DIMENSIONS = 4


class TensorInfo(NamedTuple):
    """Shape, type and position of a tensor in a GGUF file.

    Attributes:
        shape: Shape as the file states it, the reverse of NumPy's: the first axis is contiguous.
        kind: Number of the data type, a `gguf.GGMLQuantizationType`.
        offset: Position of the first byte, from the beginning of the file.
    """

    shape: tuple[int, ...]
    kind: int
    offset: int


class Header(NamedTuple):
    """The part of a GGUF file before the values of the tensors.

    Attributes:
        metadata: Values by key. A text is bytes, a list of numbers is a NumPy array, any other
            list is a list.
        tensors: `TensorInfo` by the tensor's name.
        file_size: Size of the whole file in bytes.
    """

    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]
    file_size: int


def is_gguf(path) -> bool:
    """Return whether a path is a GGUF file, by its suffix or its first bytes."""
    path = pathlib.Path(path)
    if not path.is_file():
        return False
    if path.suffix == ".gguf":
        return True
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_header(path) -> Header:
    """Read the header of a GGUF file, version 2 or 3, little-endian.

    Args:
        path: The file.

    Returns:
        A `Header`.

    Raises:
        ValueError: The file is not GGUF of these versions, or it is damaged. The message does not
            name the file; the caller adds the name.
    """
    path = pathlib.Path(path)
    if path.stat().st_size < len(MAGIC):
        raise ValueError("it is too short for a GGUF file")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = _Reader(data)
        magic = reader.take(len(MAGIC))
        if magic != MAGIC:
            raise ValueError(f"a GGUF file begins with {MAGIC!r}, but this one with {magic!r}")
        version = reader.number(_UINT32)
        if version not in _VERSIONS:
            raise ValueError(f"its GGUF version must be 2 or 3, little-endian, but is {version}")
        num_tensors, num_values = reader.number(_UINT64), reader.number(_UINT64)
        metadata: dict[str, Any] = {}
        for _ in range(num_values):
            key = reader.text()
            _check_new(key, metadata)
            metadata[key] = reader.value(reader.number(_UINT32))
        tensors: dict[str, TensorInfo] = {}
        for _ in range(num_tensors):
            name = reader.text()
            _check_new(name, tensors)
            tensors[name] = reader.tensor_info()
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(
                f"`general.alignment` must be an integer of at least 1, got {alignment!r}"
            )
        start = math.ceil(reader.position / alignment) * alignment
        tensors = {
            name: info._replace(offset=start + info.offset) for name, info in tensors.items()
        }
        return Header(metadata, tensors, len(data))


def _check_new(name, names):
    if name in names:
        raise ValueError(f"the name {name[:60]!r} appears twice")


class _Reader:
    """A cursor over the bytes of a GGUF file; it raises at the end of the file."""

    def __init__(self, data: mmap.mmap):
        self._data = data
        self.position = 0

    def take(self, size: int) -> bytes:
        if size > len(self._data) - self.position:
            raise ValueError("it ends in the middle of its metadata")
        self.position += size
        return self._data[self.position - size : self.position]

    def number(self, kind: int) -> int | float:
        return self._numbers(kind, 1)[0].item()

    def text(self) -> str:
        return self.value(_STRING).decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind in _NUMBERS:
            return self.number(kind)
        if kind == _STRING:
            (size,) = struct.unpack("<Q", self.take(8))  # much faster than `number`
            return self.take(size)
        if kind == _ARRAY:
            kind, length = self.number(_UINT32), self.number(_UINT64)
            if kind in _NUMBERS:
                return self._numbers(kind, length)
            return [self.value(kind) for _ in range(length)]
        raise ValueError(f"its metadata has a value of the unknown type {kind}")

    def tensor_info(self) -> TensorInfo:
        num_dimensions = self.number(_UINT32)
        if num_dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"a tensor has {num_dimensions} axes, more than {_MOST_DIMENSIONS}")
        shape = tuple(self._numbers(_UINT64, num_dimensions).tolist())
        return TensorInfo(shape, self.number(_UINT32), self.number(_UINT64))

    def _numbers(self, kind: int, length: int) -> np.ndarray:
        dtype = np.dtype(_NUMBERS[kind])
        return np.frombuffer(self.take(length * dtype.itemsize), dtype)
