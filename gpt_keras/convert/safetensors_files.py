"""Safetensors files, single or in shards, read and written one tensor at a time."""

import dataclasses
import importlib
import json
import pathlib
import re
from collections.abc import Iterator, Mapping

import keras
import ml_dtypes
import numpy as np

from gpt_keras.convert.name_map import listed, num_values

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

# Constants that older versions of transformers stored with the weights: causal masks and rotary
# frequencies. They are skipped.
_BUFFER = re.compile(r"(^|\.)attn\.(attention\.)?(masked_)?bias$|\.rotary_emb\.inv_freq$")

_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_READABLE = ("F64", *_DTYPES.values())


@dataclasses.dataclass(frozen=True)
class TensorInFile:
    """A tensor in a safetensors file, read as a whole or by rows.

    Each read opens the file anew. The pages that were read occupy memory until the file is closed.
    """

    file: pathlib.Path
    name: str
    shape: tuple[int, ...]

    def __array__(self, dtype=None, copy=None):
        with _open(self.file) as tensors:
            return tensors.get_tensor(self.name)

    def __getitem__(self, rows):
        first, last, _ = rows.indices(self.shape[0])
        with _open(self.file) as tensors:
            return tensors.get_slice(self.name)[first:last]


class SafetensorsFolder:
    """The tensors of a folder with `model.safetensors`, or with shards and an index.

    Args:
        folder: The folder.
        prefix: Prefix to remove from the names of the tensors. A file may lack it.

    Raises:
        ValueError: The folder has no safetensors file, shards are missing or truncated, or tensors
            are not floating-point. The message lists all problems.
        ImportError: The package safetensors is not installed.
    """

    def __init__(self, folder, prefix: str):
        self.folder = pathlib.Path(folder)
        require("safetensors")
        self._tensors: dict[str, TensorInFile] = {}
        problems, twice, types = [], [], []
        for file in self._shards(problems):
            try:
                with _open(file) as tensors:
                    names = tensors.keys()
                    for full_name in names:
                        if _BUFFER.search(full_name):
                            continue
                        name = full_name.removeprefix(prefix)
                        entry = tensors.get_slice(full_name)
                        if name in self._tensors:
                            twice.append(name)
                        if entry.get_dtype() not in _READABLE:
                            types.append(f"{full_name} is {entry.get_dtype()}")
                        shape = tuple(entry.get_shape())
                        self._tensors[name] = TensorInFile(file, full_name, shape)
            except (_safetensors_error(), OSError) as error:
                problems.append(f"{file.name} is damaged or cut short ({error})")
        problems += listed("tensors that appear twice", twice)
        problems += listed(f"tensors that are not {', '.join(_READABLE)}", types)
        if problems:
            raise ValueError(f"{str(folder)!r} cannot be read: " + "; ".join(problems) + ".")

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shapes of all weights, by name without the prefix."""
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    def read(self, name: str) -> "TensorInFile":
        """Return one tensor; its values are read when they are used."""
        return self._tensors[name]

    def drop(self, name: str) -> None:
        """Remove a tensor from this object, if it has it."""
        self._tensors.pop(name, None)

    def rename(self, old: str, new: str) -> None:
        """Give a tensor another name."""
        self._tensors[new] = self._tensors.pop(old)

    def _shards(self, problems):
        if (self.folder / SINGLE).is_file():
            return [self.folder / SINGLE]
        if not (self.folder / INDEX).is_file():
            problems.append(
                f"it holds neither {SINGLE} nor {INDEX}. If it has a pytorch_model.bin, which is "
                f"not opened because it can run code, convert it where transformers is installed: "
                f"`transformers.AutoModelForCausalLM.from_pretrained(folder)"
                f".save_pretrained(new_folder)`"
            )
            return []
        try:
            index = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))
            names = sorted(set(index["weight_map"].values()))
            files = [self.folder / pathlib.PurePath(name).name for name in names]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"{INDEX} is damaged ({error})")
            return []
        missing = [file.name for file in files if not file.is_file()]
        problems += listed("shards that the index names, but are missing", missing)
        return [file for file in files if file.is_file()]


def write_safetensors(
    folder: pathlib.Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: str,
    tensors: Iterator[tuple[str, np.ndarray]],
    max_shard_bytes: int,
) -> None:
    """Write tensors one by one to `model.safetensors`, or to shards and an index.

    Args:
        folder: An existing folder.
        shapes: Shapes of all tensors by name, in the order of `tensors`.
        dtype: Dtype of all tensors: `"float32"`, `"float16"` or `"bfloat16"`.
        tensors: Pairs of a name and an array.
        max_shard_bytes: Largest size of the tensors in a file. A single larger tensor gets a file
            of its own.

    Raises:
        ValueError: `dtype` is not one of the three.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"Weights must be {' or '.join(_DTYPES)} to be written, got {dtype}.")
    itemsize = ml_dtypes.finfo(dtype).bits // 8
    sizes = {name: itemsize * num_values(shape) for name, shape in shapes.items()}
    shards: list[list[str]] = [[]]
    for name, size in sizes.items():
        if shards[-1] and sum(map(sizes.get, shards[-1])) + size > max_shard_bytes:
            shards.append([])
        shards[-1].append(name)
    files = [SINGLE]
    if len(shards) > 1:
        files = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
        weight_map = {name: file for file, names in zip(files, shards) for name in names}
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")
    for file, names in zip(files, shards):
        with open(folder / file, "wb") as stream:
            stream.write(_header({name: shapes[name] for name in names}, sizes, dtype))
            for expected in names:
                name, values = next(tensors)
                assert name == expected
                values = np.ascontiguousarray(values, dtype=dtype)
                stream.write(values.reshape(-1).view(np.uint8).data)


def _header(shapes, sizes, dtype):
    """Return the header: 8 bytes for its length, then JSON padded to a multiple of 8."""
    entries, start = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        end = start + sizes[name]
        entries[name] = {"dtype": _DTYPES[dtype], "shape": shape, "data_offsets": (start, end)}
        start = end
    text = json.dumps(entries).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def require(package: str):
    """Return an imported package of the `hub` extra.

    Args:
        package: Name of the package or of one of its modules.

    Raises:
        ImportError: The package is not installed; the message gives the `pip` command.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"Hugging Face's models need {package}: pip install 'gpt_keras[hub]'"
        ) from error


def _open(file):
    return require("safetensors").safe_open(file, framework="numpy")


def _safetensors_error():
    return require("safetensors").SafetensorError


def weights_dtype(model: keras.Model) -> str:
    """Return the dtype of a model's weights, taken from the first one."""
    return keras.backend.standardize_dtype(model.variables[0].dtype)


def read_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Return all tensors of a small safetensors file; bfloat16 becomes float32.

    Raises:
        ValueError: The file is damaged.
        ImportError: The package safetensors is not installed.
    """
    try:
        with _open(path) as tensors:
            names = tensors.keys()
            found = {name: tensors.get_tensor(name) for name in names}
    except (_safetensors_error(), OSError) as error:
        raise ValueError(f"{str(path)!r} is damaged or cut short ({error}).") from error
    return {
        name: tensor.astype("float32") if tensor.dtype == ml_dtypes.bfloat16 else tensor
        for name, tensor in found.items()
    }


def write_tensors(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a small safetensors file.

    Raises:
        ImportError: The package safetensors is not installed.
    """
    require("safetensors.numpy").save_file(dict(tensors), path, metadata={"format": "pt"})
