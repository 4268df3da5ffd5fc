"""The tensors of a GGUF file, dequantized a part at a time."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping

import numpy as np

from gpt_keras.convert.gguf.architectures import FUSED
from gpt_keras.convert.gguf.writer import require_gguf
from gpt_keras.convert.name_map import listed, num_values
from gpt_keras.gguf_file import Header, TensorInfo

# So many values are dequantized at once.
_CHUNK = 2**20


class GGUFTensors:
    """The tensors of a GGUF file.

    Args:
        path: The file.
        header: Its head.

    Raises:
        ValueError: Tensors are of a type that is not known here, or end beyond the file; the
            message does not name the file.
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
        problems += listed("tensors whose rows are no whole blocks", broken)
        problems += listed("it is cut short: these tensors end beyond it", beyond)
        if problems:
            raise ValueError("; ".join(problems))

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return names and shapes of all tensors."""
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    def read(self, name: str) -> "TensorInFile":
        """Return one tensor, still in the file."""
        return self._tensors[name]

    def pop(self, name: str) -> "TensorInFile | None":
        """Leave out a tensor that is no weight, and return it; None if there is none."""
        return self._tensors.pop(name, None)


@dataclasses.dataclass(frozen=True)
class TensorInFile:
    """A tensor in a GGUF file, of which all or some rows can be read, in float32.

    Attributes:
        path: The file.
        info: What the file's head says of the tensor.
        shape: Its shape.
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
        # Not mapped into memory: what was read of the file would count until the end.
        with open(self.path, "rb") as file:
            file.seek(self.info.offset + first * num_values(self.shape[1:]) // block * size)
            for start in range(0, len(values), step):
                part = values[start : start + step]
                raw = np.fromfile(file, np.uint8, part.size // block * size)
                part[:] = _dequantize(raw.reshape(len(part), -1), kind)
        return values.reshape(shape)


@functools.cache
def _is_readable(kind):
    """Whether one block of a type can be dequantized; some types have names and no more."""
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
    """The shape in NumPy's order, that of neighbouring values last."""
    shape = info.shape[::-1]
    if f".{FUSED}." in name and shape[0] % 3 == 0:
        return (3, shape[0] // 3, *shape[1:])
    return shape
