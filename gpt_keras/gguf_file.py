"""The head of a GGUF file, the format of llama.cpp: its metadata and where its tensors stand.

Read by the few lines below rather than by the `gguf` package: that one makes arrays of each
number, which takes more memory than a small model, and with one damaged length it goes on to do so
for every byte of the tensors.
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
    """One tensor of a GGUF file.

    Attributes:
        shape: Its shape as the file states it: the axis along which values are neighbours first.
        kind: Number of the type of its values.
        offset: Where its bytes begin, from the beginning of the file.
    """

    shape: tuple[int, ...]
    kind: int
    offset: int


class Header(NamedTuple):
    """What stands before the tensors' values.

    Attributes:
        metadata: The values by their names: bytes for a text, a number, a numpy array for a list of
            numbers, a list for any other list.
        tensors: The tensors by their names.
        file_size: The number of bytes of the whole file.
    """

    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]
    file_size: int


def is_gguf(path) -> bool:
    """Return whether a path is a GGUF file, by its name or its first bytes."""
    path = pathlib.Path(path)
    if not path.is_file():
        return False
    if path.suffix == ".gguf":
        return True
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_header(path) -> Header:
    """Read the head of a GGUF file, versions 2 and 3, little-endian.

    Raises:
        ValueError: It is no GGUF file of these versions, or it is damaged; the message does not
            name the file.
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
            raise ValueError("`general.alignment` is no number of bytes")
        start = math.ceil(reader.position / alignment) * alignment
        tensors = {
            name: info._replace(offset=start + info.offset) for name, info in tensors.items()
        }
        return Header(metadata, tensors, len(data))


def _check_new(name, names):
    if name in names:
        raise ValueError(f"the name {name[:60]!r} stands in it twice")


class _Reader:
    """Takes one value after another from the bytes of a GGUF file, and none from beyond its end."""

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
