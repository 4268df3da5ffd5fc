"""The tensors of a GGUF file, dequantized in chunks."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping

import numpy as np

from gpt_keras.convert.gguf.architectures import FUSED
from gpt_keras.convert.gguf.writer import require_gguf
from gpt_keras.convert.name_map import listed, num_values
from gpt_keras.gguf_file import Header, TensorInfo

# The number of values to dequantize at once, which limits the memory.
_CHUNK = 2**20


class GGUFTensors:
    """The tensors of a GGUF file.

    Args:
        path: The file.
        header: Its header.

    Raises:
        ValueError: The type of a tensor is not supported, or a tensor ends beyond the file. The
            message does not name the file; the caller adds the name.
        ImportError: The package gguf is not installed.
    """

    def __init__(self, path, header: Header):
        gguf = require_gguf()
        names = {int(kind): kind.name for kind in gguf.GGMLQuantizationType}
        self._tensors = {}
        unknown, broken, beyond = [], [], []
        for name, info in header.tensors.items():
            if not _is_readable(info.kind):
                unknown.append(f"{name} is {names.get(info.kind, info.kind)}")
                continue
            block, size = gguf.GGML_QUANT_SIZES[info.kind]
            if not info.shape or info.shape[0] % block:
                broken.append(f"{name} is {info.shape}")
            elif info.offset + num_values(info.shape) // block * size > header.file_size:
                beyond.append(name)
            else:
                self._tensors[name] = TensorInFile(path, info, _shape(name, info))
        problems = listed("tensors of types that the gguf package does not dequantize", unknown)
        problems += listed("tensors whose rows are not a whole number of blocks", broken)
        problems += listed("it is truncated: these tensors end beyond it", beyond)
        if problems:
            raise ValueError("; ".join(problems))

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shapes of all tensors, by name."""
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    def read(self, name: str) -> "TensorInFile":
        """Return one tensor; its values are read when they are used."""
        return self._tensors[name]

    def pop(self, name: str) -> "TensorInFile | None":
        """Remove a tensor from this object and return it; None if the file lacks it."""
        return self._tensors.pop(name, None)


@dataclasses.dataclass(frozen=True)
class TensorInFile:
    """A tensor in a GGUF file, read as a whole or by rows, in float32.

    Attributes:
        path: The file.
        info: Entry of the tensor in the file's header.
        shape: Shape in NumPy's order.
    """

    path: pathlib.Path
    info: TensorInfo
    shape: tuple[int, ...]

    def __array__(self, dtype=None, copy=None):
        return self[:]

    def __getitem__(self, rows: slice) -> np.ndarray:
        gguf = require_gguf()
        kind = gguf.GGMLQuantizationType(self.info.kind)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        first, last, _ = rows.indices(self.shape[0])
        shape = (last - first, *self.shape[1:])
        width = min(self.info.shape[0], num_values(shape))
        values = np.empty((num_values(shape) // width, width), np.float32)
        step = max(1, _CHUNK // width)
        # No memory map: the pages that were read would occupy memory until the map is closed.
        with open(self.path, "rb") as file:
            file.seek(self.info.offset + first * num_values(self.shape[1:]) // block * size)
            for start in range(0, len(values), step):
                part = values[start : start + step]
                raw = np.fromfile(file, np.uint8, part.size // block * size)
                part[:] = _dequantize(raw.reshape(len(part), -1), kind)
        return values.reshape(shape)


@functools.cache
def _is_readable(kind):
    """Return whether the gguf package can dequantize a type; it only names some types."""
    gguf = require_gguf()
    try:
        kind = gguf.GGMLQuantizationType(kind)
        _dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except (ValueError, NotImplementedError):
        return False
    return True


def _dequantize(raw, kind):
    gguf = require_gguf()
    if kind == gguf.GGMLQuantizationType.F64:
        return raw.view(np.float64)
    return gguf.dequantize(raw, kind)


def _shape(name, info):
    """Return the shape in NumPy's order; a fused tensor gets a first axis of 3."""
    shape = info.shape[::-1]
    if f".{FUSED}." in name and shape[0] % 3 == 0:
        return (3, shape[0] // 3, *shape[1:])
    return shape
