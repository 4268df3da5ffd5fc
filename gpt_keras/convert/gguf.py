"""GGUF files, the format of llama.cpp: weights, often quantized, and tokenizer in one file."""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from gpt_keras.atomic import atomic_file
from gpt_keras.checks import check_choice
from gpt_keras.config import GPTConfig
from gpt_keras.convert.gguf_architectures import ARCHITECTURES, FUSED, POSITIONS
from gpt_keras.convert.gguf_tokenizer import END_TOKENS, named_tokens, tokenizer_metadata
from gpt_keras.convert.gguf_writer import open_writer, require_gguf
from gpt_keras.convert.model_parts import (
    read_chat_template,
    read_end_token_ids,
    read_tokenizer,
    require_plain_gpt,
)
from gpt_keras.convert.name_map import (
    assign,
    check_fits,
    collect,
    listed,
    num_values,
    tensor_shapes,
)
from gpt_keras.gguf_file import Header, TensorInfo, read_header
from gpt_keras.models import GPTCausalLM
from gpt_keras.models.gpt import random_weights

CHAT_TEMPLATE = "tokenizer.chat_template"
TOKENIZER_KIND = "tokenizer.ggml.model"
NO_TOKENIZER = "none"

_TYPES = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")

# What `general.file_type` says of the matrices.
_FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7}

# So many values are dequantized at once.
_CHUNK = 2**20


def from_gguf(path, dtype=None) -> GPTCausalLM:
    """Load a model from a GGUF file of the architectures gpt2, llama (SmolLM2 too) or qwen2.

    Everything is checked before the model is built, and the weights are read and dequantized one
    tensor at a time.

    Args:
        path: the file. Its tensors may be of the types F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1,
            Q8_0, Q4_K, Q5_K and Q6_K.
        dtype: dtype policy of the model, such as `"bfloat16"`. Default: Keras's global policy.

    Returns:
        A `GPTCausalLM`, not compiled, with the weights in the dtype that the policy says. Its
        `chat_template` is that of the file. Where the file has a tokenizer that cannot be read, a
        warning says why and the model has none.

    Raises:
        ValueError: the file is damaged or cut short, the architecture or a type is not known, the
            metadata ask for what a `GPT` does not have, or the tensors do not fit.
        ImportError: gguf is not installed.

    Example:
        >>> import tempfile
        >>> import gpt_keras as gk
        >>> config = gk.GPTConfig(vocabulary_size=9, max_sequence_length=8, num_layers=1,
        ...                       num_heads=2, hidden_dim=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     gk.convert.to_gguf(gk.GPTCausalLM(config), f"{folder}/model.gguf")
        ...     gk.convert.from_gguf(f"{folder}/model.gguf").config == config
        True
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"`path`: there is no file {str(path)!r}.")
    try:
        header = read_header(path)
        architecture = _architecture(header.metadata)
        tensors = GGUFTensors(path, header)
        config = architecture.to_config(header.metadata, tensors.shapes())
        template = header.metadata.get(CHAT_TEMPLATE, b"").decode("utf-8") or None
        ends = named_tokens(header.metadata)
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {str(error).rstrip('.')}.") from error
    sources = architecture.sources(config)
    check_fits(config, sources, tensors.shapes(), str(path))
    tokenizer = None
    if header.metadata.get(TOKENIZER_KIND, NO_TOKENIZER.encode()) != NO_TOKENIZER.encode():
        tokenizer = read_tokenizer(path, config.vocabulary_size)
    with random_weights(False):
        model = GPTCausalLM(config, tokenizer=tokenizer, dtype=dtype)
    assign(model.backbone, sources, tensors)
    read_chat_template(model, template, {name: text for name, (_, text) in ends.items()})
    read_end_token_ids(model, [ends[name][0] for name in END_TOKENS if name in ends])
    return model


def to_gguf(model: GPTCausalLM, path, dtype: str = "f16") -> None:
    """Write a model as a GGUF file, tokenizer and chat template included.

    It is written as gpt2, qwen2 or llama, the first that can hold it. The file appears whole or not
    at all.

    Args:
        model: a `CausalLM` whose backbone is a `GPT`, with a byte-level tokenizer or none.
        path: the file, whose name ends in `.gguf`.
        dtype: type of the matrices: `"f32"`, `"f16"` or `"q8_0"`, 8 bits with a scale for 32
            values. As llama.cpp does, vectors and learned positions stay in f32, and matrices whose
            rows are no multiple of 32 in f16.

    Raises:
        ValueError: `path` or `dtype` is something else, or the file cannot hold the model; the
            message says what does not fit.
        ImportError: gguf is not installed.

    Example:
        >>> import tempfile
        >>> import gpt_keras as gk
        >>> config = gk.GPTConfig(vocabulary_size=9, max_sequence_length=8, num_layers=1,
        ...                       num_heads=2, hidden_dim=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     gk.convert.to_gguf(gk.GPTCausalLM(config), f"{folder}/model.gguf", dtype="f32")
    """
    check_choice("dtype", dtype, tuple(_FILE_TYPES))
    path = pathlib.Path(path)
    if path.suffix != ".gguf":
        raise ValueError(f"`path` must end in .gguf, got {str(path)!r}.")
    gguf = require_gguf()
    gpt = require_plain_gpt(model, "GGUF's architectures")
    architecture = _fitting_architecture(gpt.config)
    sources = architecture.sources(gpt.config)
    tensors = {}
    for name, shape in tensor_shapes(gpt.config, sources).items():
        if f".{FUSED}." in name:
            shape = (shape[0] * shape[1], *shape[2:])
        tensors[name] = shape, _type_to_write(name, shape, dtype)
    metadata = {"general.name": path.stem, "general.file_type": _FILE_TYPES[dtype]}
    metadata |= {"general.quantization_version": gguf.GGML_QUANT_VERSION}
    metadata |= architecture.metadata(gpt.config)
    if model.tokenizer is None:
        metadata[TOKENIZER_KIND] = NO_TOKENIZER
    else:
        metadata |= tokenizer_metadata(model.tokenizer, gpt.config.vocabulary_size)
    if len(model.end_token_ids) > len(END_TOKENS):
        raise ValueError(
            f"`model` must have at most {len(END_TOKENS)} end_token_ids to be written to a GGUF "
            f"file, got {model.end_token_ids}."
        )
    for name, token_id in zip(END_TOKENS, model.end_token_ids):
        metadata[f"tokenizer.ggml.{name}_id"] = token_id
    if model.chat_template:
        metadata[CHAT_TEMPLATE] = model.chat_template
    with (
        atomic_file(path) as temporary,
        open_writer(temporary, architecture.name, metadata, tensors) as writer,
    ):
        for name, values in collect(gpt, sources):
            shape, kind = tensors[name]
            values = np.ascontiguousarray(values, dtype=np.float32).reshape(shape)
            if kind == gguf.GGMLQuantizationType.F16 and abs(values).max() > np.finfo("f2").max:
                raise ValueError(f"`dtype` must be 'f32': {name} has values too large for {dtype}.")
            writer.write_tensor_data(gguf.quantize(values, kind).view(np.uint8))


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


def _architecture(metadata):
    name = metadata.get("general.architecture", b"").decode("utf-8")
    if name not in ARCHITECTURES:
        raise ValueError(
            f"its architecture is {name!r}; those that can be read are {', '.join(ARCHITECTURES)}"
        )
    parts = metadata.get("split.count", 1)
    if parts > 1:
        raise ValueError(f"it is one of {parts} parts; join them first (llama-gguf-split --merge)")
    return ARCHITECTURES[name]


def _type_to_write(name, shape, dtype):
    types = require_gguf().GGMLQuantizationType
    if dtype == "f32" or len(shape) == 1 or name == POSITIONS:
        return types.F32
    return types.Q8_0 if dtype == "q8_0" and shape[-1] % 32 == 0 else types.F16


def _fitting_architecture(config):
    misfits = {name: known.misfits(config) for name, known in ARCHITECTURES.items()}
    for name, reasons in misfits.items():
        if not reasons:
            return ARCHITECTURES[name]
    best = sorted(misfits, key=lambda name: len(misfits[name]))  # the one that it fits best first
    raise ValueError(
        "`model` fits none of GGUF's architectures.\n"
        + "\n".join(f"{name}: {'; '.join(misfits[name])}" for name in best)
    )


def read_config(path) -> GPTConfig:
    """Read the shape of the model in a GGUF file from its header alone.

    Raises:
        ValueError: the file is damaged, or its architecture or a setting is not known.
    """
    try:
        header = read_header(path)
        shapes = GGUFTensors(path, header).shapes()
        return _architecture(header.metadata).to_config(header.metadata, shapes)
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {str(error).rstrip('.')}.") from error
