"""Loading and writing of models in GGUF files, the format of llama.cpp."""

import itertools
import pathlib

import numpy as np

from gpt_keras.atomic import atomic_file
from gpt_keras.checks import check_choice
from gpt_keras.config import GPTConfig
from gpt_keras.convert.architecture import first_that_fits
from gpt_keras.convert.gguf.architectures import ARCHITECTURES, FUSED, POSITIONS
from gpt_keras.convert.gguf.rope import FACTORS, rope_factors
from gpt_keras.convert.gguf.tensors import GGUFTensors
from gpt_keras.convert.gguf.tokenizer import END_TOKENS, named_tokens, tokenizer_metadata
from gpt_keras.convert.gguf.writer import open_writer, require_gguf
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
    tensor_shapes,
)
from gpt_keras.gguf_file import read_header
from gpt_keras.models import GPTCausalLM
from gpt_keras.models.gpt import random_weights

CHAT_TEMPLATE = "tokenizer.chat_template"
TOKENIZER_KIND = "tokenizer.ggml.model"
NO_TOKENIZER = "none"

# Values of `general.file_type`, the type of the matrices.
_FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7}


def from_gguf(path, dtype=None) -> GPTCausalLM:
    """Load a model from a GGUF file; architecture gpt2, llama, qwen2 or qwen3.

    Metadata and tensor shapes are checked before the model is built. The weights are then read and
    dequantized one tensor at a time.

    Args:
        path: The file. Its tensors may be F64 or any type that the gguf package dequantizes.
        dtype: Dtype policy of the model, such as `"bfloat16"`. Default: Keras's global policy.

    Returns:
        A `GPTCausalLM`, not compiled, with weights in the dtype of the policy and the chat template
        of the file. If the tokenizer cannot be read, the model has no tokenizer, and a warning
        gives the reason.

    Raises:
        ValueError: The file is damaged or truncated, the architecture, a setting or a tensor type
            is not supported, or the tensors do not fit the metadata.
        ImportError: The package gguf is not installed.

    Example:
        >>> import tempfile
        >>> import gpt_keras as gk
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=9)
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
        tensors = GGUFTensors(path, header)
        architecture, config = _described(header, tensors)
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


def read_config(path) -> GPTConfig:
    """Return the config of the model in a GGUF file, without its weights.

    Args:
        path: The file.

    Returns:
        A `GPTConfig`.

    Raises:
        ValueError: The file is damaged, or its architecture or a setting is not supported.
        ImportError: The package gguf is not installed.
    """
    try:
        header = read_header(path)
        return _described(header, GGUFTensors(path, header))[1]
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {str(error).rstrip('.')}.") from error


def to_gguf(model: GPTCausalLM, path, dtype: str = "f16") -> None:
    """Write a model to a GGUF file, with its tokenizer and chat template.

    The architecture is the first one that can represent the model: gpt2, qwen2, qwen3, llama. The
    file appears complete or not at all.

    Args:
        model: A `CausalLM` whose backbone is a `GPT`, not quantized. Its tokenizer is a
            `BytePairTokenizer`, a `MetaspaceTokenizer` or None.
        path: The file; its name must end in `.gguf`.
        dtype: Type of the matrices: `"f32"`, `"f16"`, or `"q8_0"`, which has 8 bits per value and
            a scale per 32 values. As in llama.cpp, vectors and learned positions are f32. With
            `"q8_0"`, matrices whose row length is not a multiple of 32 are f16.

    Raises:
        ValueError: `path` or `dtype` is not allowed, or GGUF cannot represent the model or its
            tokenizer. The message says what does not fit.
        ImportError: The package gguf is not installed.

    Example:
        >>> import tempfile
        >>> import gpt_keras as gk
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=9)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     gk.convert.to_gguf(gk.GPTCausalLM(config), f"{folder}/model.gguf", dtype="f32")
    """
    check_choice("dtype", dtype, tuple(_FILE_TYPES))
    path = pathlib.Path(path)
    if path.suffix != ".gguf":
        raise ValueError(f"`path` must end in .gguf, got {str(path)!r}.")
    gguf = require_gguf()
    gpt = require_plain_gpt(model, "GGUF's architectures")
    architecture = first_that_fits(ARCHITECTURES, gpt.config, "GGUF's")
    sources = architecture.sources(gpt.config)
    tensors = {}
    for name, shape in tensor_shapes(gpt.config, sources).items():
        if f".{FUSED}." in name:
            shape = (shape[0] * shape[1], *shape[2:])
        tensors[name] = shape, _type_to_write(name, shape, dtype)
    contents = collect(gpt, sources)
    factors = rope_factors(gpt.config)
    if factors is not None:
        tensors[FACTORS] = factors.shape, gguf.GGMLQuantizationType.F32
        contents = itertools.chain(contents, [(FACTORS, factors)])
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
        for name, values in contents:
            shape, kind = tensors[name]
            values = np.ascontiguousarray(values, dtype=np.float32).reshape(shape)
            if kind == gguf.GGMLQuantizationType.F16 and abs(values).max() > np.finfo("f2").max:
                raise ValueError(f"`dtype` must be 'f32': {name} has values too large for {dtype}.")
            writer.write_tensor_data(gguf.quantize(values, kind).view(np.uint8))


def _described(header, tensors):
    """Return the architecture of a file, and the config of its model."""
    architecture = _architecture(header.metadata)
    factors = tensors.pop(FACTORS)
    factors = None if factors is None else np.asarray(factors).tolist()
    return architecture, architecture.to_config(header.metadata, tensors.shapes(), factors)


def _architecture(metadata):
    name = metadata.get("general.architecture", b"").decode("utf-8")
    if name not in ARCHITECTURES:
        raise ValueError(f"its architecture is {name!r}; supported are {', '.join(ARCHITECTURES)}")
    parts = metadata.get("split.count", 1)
    if parts > 1:
        raise ValueError(f"it is one of {parts} parts; join them first (llama-gguf-split --merge)")
    return ARCHITECTURES[name]


def _type_to_write(name, shape, dtype):
    types = require_gguf().GGMLQuantizationType
    if dtype == "f32" or len(shape) == 1 or name == POSITIONS:
        return types.F32
    return types.Q8_0 if dtype == "q8_0" and shape[-1] % 32 == 0 else types.F16
