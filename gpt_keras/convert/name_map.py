"""The place of each weight of a `GPT` in other formats, for reading and writing."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

import keras
import numpy as np
import tensorflow as tf

from gpt_keras.config import GPTConfig
from gpt_keras.weight_shapes import weight_shapes

# Suffixes of PyTorch's parameter names, by the name of the Keras weight.
PYTORCH_SUFFIXES = {
    "kernel": ".weight",
    "bias": ".bias",
    "gamma": ".weight",
    "beta": ".bias",
    "scale": ".weight",
    "embeddings": ".weight",
}

# An error message lists at most this many tensors of a kind.
_MOST_LISTED = 5

# Larger weights are filled in pieces of this size.
_ROWS_BYTES = 2**22


class Source(NamedTuple):
    """The place and layout of one of our weights in a file of another library.

    Attributes:
        name: Name of the tensor in the file.
        transpose: Whether the tensor is the transpose of our weight, as in PyTorch's `Linear`.
        part: `(index, count)`: the tensor concatenates `count` weights of equal width along their
            last axis, such as queries, keys and values. Ours is number `index`. None for the
            whole tensor.
        entry: Index of the weight along the first axis of a tensor that stacks several weights,
            such as experts. None if the tensor has no such axis. Writing needs a weight for every
            entry.
        num_entries: Length of that first axis.
        interleaved_heads: Number of heads, if the rotary embedding of the file's model pairs
            neighbouring columns of a head: (0, 1), (2, 3), ... Ours pairs column `i` with column
            `i + head_dim / 2`. None if the file does, too.
        shape: Shape of the tensor, if it is a reshape of our weight, such as
            `(hidden_dim, num_heads, head_dim)` for a kernel. None if the shapes are equal.
        factor: Factor from the values in the file to our values.
    """

    name: str
    transpose: bool = False
    part: tuple[int, int] | None = None
    entry: int | None = None
    num_entries: int | None = None
    interleaved_heads: int | None = None
    shape: tuple[int, ...] | None = None
    factor: float = 1.0

    def shape_there(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the tensor in the file for a weight of `shape`."""
        if self.shape is not None:
            shape = self.shape
        if self.part is not None:
            shape = (*shape[:-1], shape[-1] * self.part[1])
        if self.transpose:
            shape = shape[::-1]
        return shape if self.entry is None else (self.num_entries, *shape)

    def take(self, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return the values of our weight.

        Args:
            tensor: The tensor in the file. If `entry` is set, only this entry of it.
            shape: Shape of our weight.
        """
        values = tensor.T if self.transpose else tensor
        if self.part is not None:
            index, count = self.part
            values = np.split(values, count, axis=-1)[index]
        values = values.reshape(shape)
        if self.interleaved_heads is not None:
            values = _move_columns(values, (self.interleaved_heads, -1, 2))
        return values if self.factor == 1.0 else values.astype("float32") * np.float32(self.factor)

    def give(self, values: np.ndarray) -> np.ndarray:
        """Return our values in the file's layout, before `whole` joins and transposes."""
        if self.factor != 1.0:
            values = values / np.asarray(self.factor, values.dtype)
        if self.interleaved_heads is not None:
            values = _move_columns(values, (self.interleaved_heads, 2, -1))
        return values if self.shape is None else values.reshape(self.shape)


def whole(pieces: Iterable[tuple[Source, np.ndarray]]) -> np.ndarray:
    """Return the tensor made of one weight, or of several as its parts and entries.

    Args:
        pieces: The `Source` and the values of every weight in the tensor, in any order.
    """
    entries: dict[int | None, list[tuple[int, np.ndarray]]] = {}
    for source, values in pieces:
        index = 0 if source.part is None else source.part[0]
        entries.setdefault(source.entry, []).append((index, source.give(values)))
        transpose = source.transpose
    tensors = []
    for _, parts in sorted(entries.items(), key=lambda item: item[0] or 0):
        values = [part for _, part in sorted(parts, key=lambda part: part[0])]
        tensor = values[0] if len(values) == 1 else np.concatenate(values, axis=-1)
        tensors.append(tensor.T if transpose else tensor)
    return tensors[0] if None in entries else np.stack(tensors)


class Tensors(Protocol):
    """Protocol of named tensors in a file or a model, read one at a time."""

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the names and shapes of all tensors, without reading them."""

    def read(self, name: str) -> np.ndarray:
        """Return a tensor: an array, or an object with `__array__` and slices of rows."""


class TensorFlowTensors(Tensors):
    """Tensors that TensorFlow reads, each as a whole, into newly allocated memory."""

    def read(self, name: str) -> tf.Tensor:
        """Return one tensor."""


def sources(
    names: Mapping[str, Source],
    config: GPTConfig,
    suffixes: Mapping[str, str] = PYTORCH_SUFFIXES,
) -> dict[str, Source]:
    """Return the `Source` of every weight of a `GPT`, from a table of layer names.

    Args:
        names: The table. A key is the path of a layer or of a weight. For a layer, the suffix of
            the weight is appended to the name of the source. For a weight, the name is complete.
            In keys and names, `{i}` is the number of the block and `{e}` the number of the expert.
            A key may also contain a fixed expert number.
        config: Config of the `GPT`.
        suffixes: Suffix of the names in the file for each weight of a Keras layer.

    Returns:
        Sources by `variable.path`.

    Raises:
        ValueError: The table has no line for a weight.

    Example:
        >>> import gpt_keras as gk
        >>> from gpt_keras.convert.name_map import Source, sources
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=9)
        >>> names = {"token_embedding": Source("wte"), "position_embedding": Source("wpe"),
        ...          "final_norm": Source("ln_f")}
        >>> sources(names, config)
        Traceback (most recent call last):
        ...
        ValueError: `names` has no line for block_0/attention_norm.
    """
    found = sources_found(names, config, suffixes)
    lost = next((path for path in weight_shapes(config) if path not in found), None)
    if lost is not None:
        raise ValueError(f"`names` has no line for {lost.rpartition('/')[0]}.")
    return found


def sources_found(
    names: Mapping[str, Source],
    config: GPTConfig,
    suffixes: Mapping[str, str] = PYTORCH_SUFFIXES,
) -> dict[str, Source]:
    """Return the same as `sources`, but skip weights without a line in the table."""
    found = {}
    for path in weight_shapes(config):
        block, expert = (
            match.group(1) if (match := re.search(pattern, path)) else None
            for pattern in (r"^block_(\d+)/", r"/expert_(\d+)/")
        )
        own = re.sub(r"^block_\d+/", "block_{i}/", path)
        key = own if own in names else re.sub(r"/expert_\d+/", "/expert_{e}/", own)
        layer, _, weight = key.rpartition("/")
        source, suffix = (
            (names[key], "") if key in names else (names.get(layer), suffixes.get(weight))
        )
        if source is None or suffix is None:
            continue
        name = (source.name + suffix).replace("{i}", block or "").replace("{e}", expert or "")
        found[path] = source._replace(name=name)
    return found


def tensor_shapes(config: GPTConfig, sources: Mapping[str, Source]) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the tensors in the file for a `GPT` of a config."""
    shapes = weight_shapes(config)
    return {source.name: source.shape_there(shapes[path]) for path, source in sources.items()}


def check_fits(
    config: GPTConfig,
    sources: Mapping[str, Source],
    shapes: Mapping[str, tuple[int, ...]],
    where: str,
) -> None:
    """Raise `ValueError` unless a file has exactly the tensors of a `GPT`.

    Args:
        config: Config of the model to fill. The model need not exist yet.
        sources: The source of every weight, by `variable.path`.
        shapes: Names and shapes of the tensors in the file.
        where: The file or folder, for the message.

    Raises:
        ValueError: Tensors are missing, unknown or of another shape; the message lists them.
    """
    wanted = tensor_shapes(config, sources)
    problems = listed("missing", [name for name in wanted if name not in shapes])
    problems += listed("not known", [name for name in shapes if name not in wanted])
    problems += listed(
        "of another shape",
        [
            f"{name} is {tuple(shapes[name])} and should be {shape}"
            for name, shape in wanted.items()
            if name in shapes and tuple(shapes[name]) != shape
        ],
    )
    if problems:
        raise ValueError(f"{where!r} does not fit its config. Tensors " + "; ".join(problems) + ".")


def assign(gpt: keras.Model, sources: Mapping[str, Source], tensors: Tensors) -> None:
    """Fill the weights of a `GPT`, one tensor at a time; call `check_fits` first.

    Args:
        gpt: A `GPT`.
        sources: The source of every weight, by `variable.path`.
        tensors: The tensors to read.
    """
    variables = {variable.path: variable for variable in gpt.variables}
    for name, users in _by_tensor(sources).items():
        path, source = users[0]
        if isinstance(tensors, TensorFlowTensors) and source == Source(name):
            _replace(variables[path], tensors, name)
            continue
        tensor = tensors.read(name)
        for path, source in users:
            _fill(variables[path], source, tensor)


def collect(gpt: keras.Model, sources: Mapping[str, Source]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and values of the tensors to write for a `GPT`, one at a time.

    Args:
        gpt: A `GPT`.
        sources: The place of every weight in the file, by `variable.path`.

    Yields:
        Pairs of a name and an array, in the order of the layers.
    """
    variables = {variable.path: variable for variable in gpt.variables}
    for name, users in _by_tensor(sources).items():
        numbers = keras.ops.convert_to_numpy
        yield name, whole((source, numbers(variables[path])) for path, source in users)


def num_values(shape: tuple[int, ...]) -> int:
    """Return the number of values in a tensor of `shape`."""
    return math.prod(shape)


def listed(what: str, entries: Iterable[str]) -> list[str]:
    """Return `["what: a, b and 3 more"]` for an error message, `[]` without entries."""
    entries = list(entries)
    if not entries:
        return []
    more = f" and {len(entries) - _MOST_LISTED} more" if len(entries) > _MOST_LISTED else ""
    return [f"{what}: {', '.join(entries[:_MOST_LISTED])}{more}"]


def _fill(variable, source, tensor):
    """Assign a tensor to a weight, a few rows at a time if it is large."""
    shape = tuple(variable.shape)
    if source.entry is not None:
        # Read only this entry: all experts of a layer can be many gigabytes.
        tensor = tensor[source.entry : source.entry + 1]
        tensor, source = np.asarray(tensor)[0], source._replace(entry=None, num_entries=None)
    is_plain = source._replace(name="", transpose=False, factor=1.0) == Source("")
    is_plain = is_plain and len(shape) == 2
    nbytes = num_values(shape) * np.dtype("float32").itemsize
    if not is_plain or nbytes <= _ROWS_BYTES or keras.backend.backend() != "tensorflow":
        variable.assign(source.take(np.asarray(tensor), shape))
        return
    num_rows, row_length = shape[::-1] if source.transpose else shape
    step = max(1, _ROWS_BYTES * num_rows // nbytes)
    for first in range(0, num_rows, step):
        rows = np.asarray(tensor[first : first + step])
        begin, end = (first, 0), (first + len(rows), row_length)
        if source.transpose:
            begin, end = begin[::-1], end[::-1]
        there = tuple(stop - start for start, stop in zip(begin, end))
        # This op assigns in place. `variable.value[...].assign` would read the slice and then copy
        # the whole variable.
        tf.raw_ops.ResourceStridedSliceAssign(
            ref=variable.value.handle,
            begin=begin,
            end=end,
            strides=(1, 1),
            value=tf.cast(source.take(rows, there), variable.dtype),
        )


def _replace(variable, tensors, name):
    """Assign a tensor to a weight, and free the old memory before the tensor is read."""
    if keras.backend.backend() != "tensorflow" or variable.dtype != "float32":
        variable.assign(tensors.read(name).numpy())
        return
    handle, shape = variable.value.handle, variable.shape
    tf.raw_ops.AssignVariableOp(resource=handle, value=tf.zeros(()))
    tf.raw_ops.AssignVariableOp(resource=handle, value=tf.reshape(tensors.read(name), shape))


def _by_tensor(sources):
    users: dict[str, list[tuple[str, Source]]] = {}
    for path, source in sources.items():
        users.setdefault(source.name, []).append((path, source))
    return users


def _move_columns(values, grouped):
    """Return the columns, grouped in three axes, with the last two of them swapped."""
    columns = values.reshape(*values.shape[:-1], *grouped).swapaxes(-1, -2)
    return columns.reshape(values.shape)
