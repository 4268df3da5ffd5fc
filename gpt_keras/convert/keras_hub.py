"""Conversion of a keras-hub GPT-2 to a `GPTCausalLM`."""

import importlib
import json
import os
import pathlib
from collections.abc import Mapping

import keras
import numpy as np

from gpt_keras import tokenizers
from gpt_keras.config import GPTConfig
from gpt_keras.convert.name_map import Source, assign, check_fits, sources
from gpt_keras.models import GPTCausalLM
from gpt_keras.models.gpt import random_weights
from gpt_keras.tokenizers.tokenizer import END_OF_TEXT

CONFIG = "config.json"
_FIELDS = (
    *("vocabulary_size", "num_layers", "num_heads", "hidden_dim", "intermediate_dim", "dropout"),
    "max_sequence_length",
)


def is_keras_hub_folder(path) -> bool:
    """Return whether `path` is a folder that keras-hub's `save_to_preset` wrote."""
    try:
        content = json.loads((pathlib.Path(path) / CONFIG).read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return False
    return isinstance(content, dict) and str(content.get("module", "")).startswith("keras_hub.")


def from_keras_hub(source, dtype=None) -> GPTCausalLM:
    """Return a copy of a keras-hub GPT-2 as a `GPTCausalLM`.

    Args:
        source: A `keras_hub.models.GPT2CausalLM` or `GPT2Backbone`, or a folder of its method
            `save_to_preset`.
        dtype: Dtype policy of the copy, such as `"bfloat16"`. Default: the policy of `source`.

    Returns:
        A `GPTCausalLM`, not compiled. It has the tokenizer of a `GPT2CausalLM`; a copy of a
        `GPT2Backbone` has no tokenizer.

    Raises:
        ValueError: `source` is another model, is quantized, or has LoRA weights.
        ImportError: `source` is a folder, and keras-hub is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> gk.convert.from_keras_hub("gpt2")
        Traceback (most recent call last):
        ...
        ValueError: `source` must be a GPT2CausalLM or GPT2Backbone of keras-hub, or a folder with \
one; got 'gpt2'.
    """
    if isinstance(source, str | os.PathLike) and is_keras_hub_folder(source):
        source = _load_folder(source)
    backbone = getattr(source, "backbone", source)
    if type(backbone).__name__ != "GPT2Backbone":
        raise ValueError(
            "`source` must be a GPT2CausalLM or GPT2Backbone of keras-hub, or a folder with one; "
            f"got {source!r}."
        )
    config = GPTConfig(**{name: getattr(backbone, name) for name in _FIELDS})
    tensors = _Variables(backbone)
    places = sources(_names(config), config, {"gamma": "/gamma", "beta": "/beta"})
    check_fits(config, places, tensors.shapes(), backbone.name)
    with random_weights(False):
        model = GPTCausalLM(config, dtype=backbone.dtype_policy if dtype is None else dtype)
    assign(model.backbone, places, tensors)
    model.tokenizer = _tokenizer(getattr(source, "preprocessor", None))
    return model


class _Variables:
    """The weights of a Keras model, by path."""

    def __init__(self, model):
        self._variables = {
            variable.path: variable for variable in model.variables if "seed" not in variable.path
        }

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {path: tuple(variable.shape) for path, variable in self._variables.items()}

    def read(self, name: str) -> np.ndarray:
        return keras.ops.convert_to_numpy(self._variables[name])


def _names(config):
    """Return the table of names; attention's weights have an extra axis for the heads."""
    width, heads, head_dim = config.hidden_dim, config.num_heads, config.head_dim
    block = "transformer_layer_{i}/"
    names = {
        "token_embedding/embeddings": Source("token_embedding/embeddings"),
        "position_embedding/embeddings": Source("position_embedding/embeddings"),
        "block_{i}/attention_norm": Source(block + "self_attention_layer_norm"),
        "block_{i}/feed_forward_norm": Source(block + "feedforward_layer_norm"),
        "final_norm": Source("layer_norm"),
    }
    attention = {
        "query": ("query", (width, heads, head_dim), (heads, head_dim)),
        "key": ("key", (width, heads, head_dim), (heads, head_dim)),
        "value": ("value", (width, heads, head_dim), (heads, head_dim)),
        "output": ("attention_output", (heads, head_dim, width), None),
    }
    for ours, (theirs, kernel, bias) in attention.items():
        theirs = f"{block}self_attention/{theirs}"
        names[f"block_{{i}}/attention/{ours}/kernel"] = Source(f"{theirs}/kernel", shape=kernel)
        names[f"block_{{i}}/attention/{ours}/bias"] = Source(f"{theirs}/bias", shape=bias)
    for ours, theirs in (("up", "intermediate"), ("down", "output")):
        for weight in ("kernel", "bias"):
            path = f"{block}feedforward_{theirs}_dense/{weight}"
            names[f"block_{{i}}/feed_forward/{ours}/{weight}"] = Source(path)
    return names


def _load_folder(folder):
    try:
        keras_hub = importlib.import_module("keras_hub")
    except ImportError as error:
        raise ImportError(f"{str(folder)!r} is read by keras-hub: pip install keras-hub") from error
    task = (pathlib.Path(folder) / "task.json").is_file()
    kind = keras_hub.models.CausalLM if task else keras_hub.models.Backbone
    return kind.from_preset(str(folder))


def _tokenizer(preprocessor):
    theirs = getattr(preprocessor, "tokenizer", None)
    if theirs is None or theirs.vocabulary is None:
        return None
    merges = [tuple(merge.split(" ")) for merge in theirs.merges]
    return tokenizers.BytePairTokenizer.from_vocabulary(theirs.vocabulary, merges, [END_OF_TEXT])
