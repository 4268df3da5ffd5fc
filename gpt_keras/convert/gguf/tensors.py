"""The tensors of a GGUF file, dequantized a part at a time."""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from gpt_keras.convert.gguf.architectures import FUSED
from gpt_keras.convert.gguf.writer import require_gguf
from gpt_keras.convert.name_map import listed, num_values
from gpt_keras.gguf_file import Header, TensorInfo

_TYPES = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")

# So many values are dequantized at once.
_CHUNK = 2**20


class GGUFTensors:
    """The tensors of a GGUF file.

    Args:
        path: the file.
        header: its head.

    Raises:
        ValueError: tensors are of a type that is not known here, or end beyond the file; the
            message does not name the file.
    """

    def __init__(self, path, header: Header):
        gguf = require_gguf()
        types = {int(gguf.GGMLQuantizationType[name]): name for name in _TYPES}
        names = {int(kind): kind.name for kind in gguf.GGMLQuantizationType}
        self._tensors = {}
        unknown, broken, beyond = [], [], []
        for name, info in header.tensors.items():
            if info.kind not in types:
                unknown.append(f"{name} is {names.get(info.kind, info.kind)}")
                continue
            block, size = gguf.GGML_QUANT_SIZES[info.kind]
            if not info.shape or info.shape[0] % block:
                broken.append(f"{name} is {info.shape}")
            elif info.offset + num_values(info.shape) // block * size > header.file_size:
                beyond.append(name)
            else:
                self._tensors[name] = TensorInFile(path, info, _shape(name, info))
        problems = listed(f"tensors that are not {', '.join(_TYPES)}", unknown)
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


@dataclasses.dataclass(frozen=True)
class TensorInFile:
    """A tensor in a GGUF file, of which all or some rows can be read, in float32.

    Attributes:
        path: the file.
        info: what the file's head says of the tensor.
        shape: its shape.
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
                part[:] = gguf.dequantize(raw.reshape(len(part), -1), kind)
        return values.reshape(shape)


def _shape(name, info):
    """The shape in NumPy's order, that of neighbouring values last."""
    shape = info.shape[::-1]
    if f".{FUSED}." in name and shape[0] % 3 == 0:
        return (3, shape[0] // 3, *shape[1:])
    return shape
