"""Folders in OpenAI's format of GPT-1 and GPT-2, released or fine-tuned."""

import dataclasses
import itertools
import json
import pathlib
import re
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from gpt_keras import presets
from gpt_keras.config import GPTConfig
from gpt_keras.convert.model_parts import read_tokenizer
from gpt_keras.convert.name_map import (
    Source,
    TensorFlowTensors,
    assign,
    check_fits,
    num_values,
    sources,
)
from gpt_keras.models import GPTCausalLM
from gpt_keras.models.gpt import random_weights

HPARAMS = "hparams.json"
SHAPES = "params_shapes.json"
_TOKENIZER_FILES = ("encoder.json", "encoder_bpe_40000.json", "tokenizer.json")

_SUFFIXES = {"kernel": "/w", "bias": "/b", "gamma": "/g", "beta": "/b", "embeddings": ""}
_NAMES = {
    "token_embedding": Source("wte"),
    "position_embedding": Source("wpe"),
    "block_{i}/attention_norm": Source("h{i}/ln_1"),
    "block_{i}/attention/query": Source("h{i}/attn/c_attn", part=(0, 3)),
    "block_{i}/attention/key": Source("h{i}/attn/c_attn", part=(1, 3)),
    "block_{i}/attention/value": Source("h{i}/attn/c_attn", part=(2, 3)),
    "block_{i}/attention/output": Source("h{i}/attn/c_proj"),
    "block_{i}/feed_forward_norm": Source("h{i}/ln_2"),
    "block_{i}/feed_forward/up": Source("h{i}/mlp/c_fc"),
    "block_{i}/feed_forward/down": Source("h{i}/mlp/c_proj"),
    "final_norm": Source("ln_f"),
}

# The tensors of GPT-1 have an order but no names. They get GPT-2's names in this order.
_GPT1_FIRST = ("wpe", "wte")
_GPT1_BLOCK = tuple(
    f"h{{i}}/{name}"
    for name in (
        *("attn/c_attn/w", "attn/c_attn/b", "attn/c_proj/w", "attn/c_proj/b", "ln_1/g", "ln_1/b"),
        *("mlp/c_fc/w", "mlp/c_fc/b", "mlp/c_proj/w", "mlp/c_proj/b", "ln_2/g", "ln_2/b"),
    )
)
_GPT1_HEAD_DIM = 64

_PREFIX = "model/"
# TensorFlow's exceptions for checkpoints with missing, truncated or changed files.
_DAMAGED = (tf.errors.OpError, ValueError, RuntimeError, IndexError)
# Counters of an optimizer.
_COUNTERS = re.compile(r"(^|/)(beta[12]_power|global_step)$")


def is_openai_folder(path) -> bool:
    """Return whether `path` is a folder in OpenAI's format of GPT-1 or GPT-2."""
    return any((pathlib.Path(path) / name).is_file() for name in (HPARAMS, SHAPES))


def from_openai(folder, dtype=None) -> GPTCausalLM:
    """Load a model from a folder in the format of OpenAI's GPT-1 or GPT-2 releases.

    gpt-2-simple also writes this format for fine-tuned models. The files are checked before the
    model is built. The weights are then read one tensor at a time.

    Args:
        folder: For GPT-2, a folder with `hparams.json` and a TensorFlow checkpoint: the one that
            the file `checkpoint` names, or the only one. For GPT-1, a folder with
            `params_shapes.json` and `params_0.npy`, `params_1.npy`, ... The tokenizer's files are
            `encoder.json` and `vocab.bpe`, or `encoder_bpe_40000.json` and `vocab_40000.bpe`.
            The state of an optimizer in the checkpoint is ignored.
        dtype: Dtype policy of the model, such as `"bfloat16"`. Default: Keras's global policy.

    Returns:
        A `GPTCausalLM`, not compiled. If the tokenizer cannot be read, the model has no tokenizer,
        and a warning gives the reason.

    Raises:
        ValueError: Files are missing, damaged or truncated, or contradict each other.

    Example:
        >>> import gpt_keras as gk
        >>> gk.convert.from_openai("models/774M")
        Traceback (most recent call last):
        ...
        ValueError: 'models/774M' must be a folder with hparams.json or params_shapes.json.
    """
    folder = pathlib.Path(folder)
    if (folder / HPARAMS).is_file():
        config = _gpt2_config(folder / HPARAMS)
        tensors = _Checkpoint(folder)
    elif (folder / SHAPES).is_file():
        tensors = _NumpyFiles(folder)
        config = _gpt1_config(folder / SHAPES, tensors.shapes())
    else:
        raise ValueError(f"{str(folder)!r} must be a folder with {HPARAMS} or {SHAPES}.")
    places = sources(_NAMES, config, _SUFFIXES)
    tensors.leave_out_slots({source.name for source in places.values()})
    check_fits(config, places, tensors.shapes(), str(folder))
    tokenizer = None
    if any((folder / name).is_file() for name in _TOKENIZER_FILES):
        tokenizer = read_tokenizer(folder, config.vocabulary_size)
    with random_weights(False):
        model = GPTCausalLM(config, tokenizer=tokenizer, dtype=dtype)
    assign(model.backbone, places, tensors)
    return model


class _Checkpoint(TensorFlowTensors):
    """The tensors of a GPT-2 checkpoint, without prefix `model/` and first axis of 1."""

    def __init__(self, folder):
        self._prefix = _checkpoint_prefix(folder)
        try:
            self._reader = tf.train.load_checkpoint(self._prefix)
            shapes = self._reader.get_variable_to_shape_map()
        except _DAMAGED as error:
            raise ValueError(f"{self._prefix!r} is damaged: {error}") from error
        self._names = {name.removeprefix(_PREFIX): name for name in shapes}
        self._shapes = {name: _matrix(shapes[full]) for name, full in self._names.items()}

    def leave_out_slots(self, weights: set[str]) -> None:
        """Drop the state of an optimizer: its slots, `<weight>/<slot>`, and its counters."""
        self._shapes = {
            name: shape
            for name, shape in self._shapes.items()
            if name in weights or not (_COUNTERS.search(name) or name.rpartition("/")[0] in weights)
        }

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._shapes

    def read(self, name: str) -> tf.Tensor:
        full_name = self._names[name]
        try:
            (tensor,) = tf.raw_ops.RestoreV2(
                prefix=self._prefix,
                tensor_names=[full_name],
                shape_and_slices=[""],
                dtypes=[self._reader.get_variable_to_dtype_map()[full_name]],
            )
        except _DAMAGED as error:
            raise ValueError(f"{self._prefix!r} is damaged at {name}: {error}") from error
        return tf.cast(tf.reshape(tensor, self._shapes[name]), tf.float32)


class _NumpyFiles:
    """The tensors of GPT-1: one vector in several files, split by a list of shapes."""

    def __init__(self, folder):
        shapes = _read_json(folder / SHAPES, list)
        num_blocks = (len(shapes) - len(_GPT1_FIRST)) // len(_GPT1_BLOCK)
        names = [
            *_GPT1_FIRST,
            *(name.format(i=i) for i in range(num_blocks) for name in _GPT1_BLOCK),
        ]
        if len(names) != len(shapes) or not all(map(_is_shape, shapes)):
            raise ValueError(
                f"{str(folder / SHAPES)!r} must list the shapes of {len(_GPT1_FIRST)} embeddings "
                f"and of {len(_GPT1_BLOCK)} tensors for each block, but has {len(shapes)} entries."
            )
        self._shapes = {name: _matrix(shape) for name, shape in zip(names, shapes, strict=True)}
        ends = itertools.accumulate(map(num_values, self._shapes.values()), initial=0)
        self._starts = dict(zip(names, ends, strict=False))
        self._files = []
        for i in itertools.count():
            file = folder / f"params_{i}.npy"
            if not file.is_file():
                break
            self._files.append((file, len(_open_row(file))))
        there = sum(length for _, length in self._files)
        wanted = sum(map(num_values, self._shapes.values()))
        if there != wanted:
            raise ValueError(
                f"{str(folder)!r} has {len(self._files)} files params_0.npy, ... with {there} "
                f"numbers together, but {SHAPES} requires {wanted}."
            )

    def leave_out_slots(self, weights: set[str]) -> None:
        """Do nothing: these files contain only weights."""

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._shapes

    def read(self, name: str) -> "_TensorInFiles":
        return _TensorInFiles(self._files, self._starts[name], self._shapes[name])


@dataclasses.dataclass(frozen=True)
class _TensorInFiles:
    """A slice of a vector that spans several files; rows can be read separately."""

    files: list[tuple[pathlib.Path, int]]
    start: int
    shape: tuple[int, ...]

    def __array__(self, dtype=None, copy=None):
        return self[:]

    def __getitem__(self, rows: slice) -> np.ndarray:
        first, last, _ = rows.indices(self.shape[0])
        width = num_values(self.shape[1:])
        values = np.empty((last - first) * width, np.float32)
        start = self.start + first * width
        for file, length in self.files:
            begin, end = max(start, 0), min(start + len(values), length)
            if begin < end:
                values[begin - start : end - start] = _open_row(file)[begin:end]
            start -= length
        return values.reshape(last - first, *self.shape[1:])


def _gpt2_config(path):
    hparams = _read_json(path, dict)
    fields = {
        "n_vocab": "vocabulary_size",
        "n_ctx": "max_sequence_length",
        "n_embd": "hidden_dim",
        "n_head": "num_heads",
        "n_layer": "num_layers",
    }
    if hparams.keys() != fields.keys():
        raise ValueError(
            f"{str(path)!r} must have the keys {', '.join(fields)}, but has {', '.join(hparams)}."
        )
    try:
        return GPTConfig(dropout=0.1, **{fields[key]: value for key, value in hparams.items()})
    except ValueError as error:
        raise ValueError(f"{str(path)!r} does not describe a GPT-2: {error}") from error


def _gpt1_config(path, shapes):
    try:
        (length, width), (vocabulary_size, _) = shapes["wpe"], shapes["wte"]
        return presets.get("gpt1").replace(
            vocabulary_size=vocabulary_size,
            max_sequence_length=length,
            num_layers=(len(shapes) - len(_GPT1_FIRST)) // len(_GPT1_BLOCK),
            num_heads=width // _GPT1_HEAD_DIM,
            hidden_dim=width,
        )
    except ValueError as error:
        raise ValueError(f"{str(path)!r} does not describe a GPT-1: {error}") from error


def _checkpoint_prefix(folder):
    """Return the path prefix of the checkpoint.

    It is the one that the file `checkpoint` names, or the only one in the folder.
    """
    prefix = tf.train.latest_checkpoint(folder)
    if prefix is not None:
        return prefix
    found = sorted(folder.glob("*.index"))
    if len(found) != 1:
        names = ", ".join(file.stem for file in found)
        raise ValueError(
            f"{str(folder)!r} has no file `checkpoint` that names one of its checkpoints, and "
            + (f"several of them: {names}." if found else "no checkpoint (*.index).")
        )
    return str(found[0].with_suffix(""))


def _matrix(shape):
    """Return a shape without the first axis of a kernel (a convolution of width 1)."""
    return tuple(shape[1:] if len(shape) == 3 and shape[0] == 1 else shape)


def _is_shape(shape):
    return isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape)


def _open_row(file):
    """Return the vector of floating-point numbers in a file, memory-mapped."""
    try:
        row = np.load(file, mmap_mode="r")
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{str(file)!r} is damaged or cut short: {error}") from error
    if row.ndim != 1 or not np.issubdtype(row.dtype, np.floating):
        raise ValueError(
            f"{str(file)!r} must hold a vector of floating-point numbers, but holds {row.dtype} of "
            f"shape {row.shape}."
        )
    return row


def _read_json(path, kind):
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON or not UTF-8
        raise ValueError(f"{str(path)!r} is damaged: {error}") from error
    if not isinstance(content, kind):
        raise ValueError(f"{str(path)!r} must hold a {kind.__name__}, not {content!r:.60}.")
    return content
