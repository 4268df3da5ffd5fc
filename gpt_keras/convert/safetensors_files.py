"""Reading and writing safetensors files, single or in shards, a tensor at a time."""

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

# Constants that older versions of transformers stored with the weights: masks and frequencies.
_BUFFER = re.compile(r"(^|\.)attn\.(attention\.)?(masked_)?bias$|\.rotary_emb\.inv_freq$")

_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_READABLE = ("F64", *_DTYPES.values())


@dataclasses.dataclass(frozen=True)
class TensorInFile:
    """A tensor in a safetensors file, of which all or some rows can be read.

    The file is opened each time: pages of it that were read count as memory until it closes.
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
    """The tensors of a folder's `model.safetensors`, or of the shards that its index names.

    Args:
        folder: The folder.
        prefix: What names begin with in some files and not in others; it is taken off.

    Raises:
        ValueError: There is no such file, shards are missing or cut short, or tensors are not
            floating-point; the message lists all of it.
        ImportError: Safetensors is not installed.
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
        problems += listed("tensors that are there twice", twice)
        problems += listed(f"tensors that are not {', '.join(_READABLE)}", types)
        if problems:
            raise ValueError(f"{str(folder)!r} cannot be read: " + "; ".join(problems) + ".")

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return names, without prefix, and shapes of all tensors that are weights."""
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    def read(self, name: str) -> "TensorInFile":
        """Return one tensor, of which nothing is read yet."""
        return self._tensors[name]

    def drop(self, name: str) -> None:
        """Leave out a tensor that the model does not have, if it is there."""
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
        problems += listed("shards that the index names and are missing", missing)
        return [file for file in files if file.is_file()]


def write_safetensors(
    folder: pathlib.Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: str,
    tensors: Iterator[tuple[str, np.ndarray]],
    max_shard_bytes: int,
) -> None:
    """Write tensors as they come to one `model.safetensors`, or to shards and their index.

    Args:
        folder: An existing folder.
        shapes: Names and shapes of all tensors, in the order in which they come.
        dtype: `"float32"`, `"float16"` or `"bfloat16"`, that of all.
        tensors: Pairs of a name and an array.
        max_shard_bytes: A file gets no more than this, or one tensor.

    Raises:
        ValueError: `dtype` is another one.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"Weights must be {', '.join(_DTYPES)} to be written, not {dtype}.")
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
    """The length in 8 bytes, then JSON padded with spaces to a multiple of 8."""
    entries, start = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        end = start + sizes[name]
        entries[name] = {"dtype": _DTYPES[dtype], "shape": shape, "data_offsets": (start, end)}
        start = end
    text = json.dumps(entries).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def require(package: str):
    """Import a package of the `hub` extra.

    Raises:
        ImportError: It is not installed; the message gives the line that installs it.
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
    """Return the one dtype of a model's trainable weights that are matrices."""
    return keras.backend.standardize_dtype(model.trainable_variables[0].dtype)
