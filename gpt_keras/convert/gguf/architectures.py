"""The architectures that are read from GGUF files and written to them: keys and names of each."""

import dataclasses
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from gpt_keras.config import GPTConfig
from gpt_keras.convert.name_map import Source, listed, sources

EMBEDDING = "token_embd.weight"
HEAD = "output.weight"
POSITIONS = "position_embd.weight"

# Queries, keys and values on top of each other; taken as the three entries of a further axis.
FUSED = "attn_qkv"

# What llama.cpp's file says of a model, and the fields of `GPTConfig` that it is.
_SIZES = {
    "context_length": "max_sequence_length",
    "block_count": "num_layers",
    "embedding_length": "hidden_dim",
    "feed_forward_length": "intermediate_dim",
    "attention.head_count": "num_heads",
}
_ROTARY = _SIZES | {
    "attention.layer_norm_rms_epsilon": "norm_epsilon",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.value_length": "head_dim",
    "rope.dimension_count": "head_dim",
    "rope.freq_base": "rotary_base",
    "vocab_size": "vocabulary_size",
}
_NEEDED = (*_SIZES, "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon")

# Values that say that there is nothing of the kind, such as no experts and no scaling of angles.
_NOTHING = (0, b"", b"none")

# These have no effect on what a model answers, or none without other fields.
_NOT_HELD = ("dropout", "rotary_base", "num_experts_per_token", "router_loss_weight")

_MODERN = {
    "position_embedding": "rotary",
    "norm": "rms_norm",
    "norm_position": "pre",
    "activation": "swiglu",
    "causal": True,
    "attention_windows": None,
    "num_experts": None,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class GGUFArchitecture:
    """One architecture of llama.cpp: its keys as fields of a `GPTConfig`, its tensors' names.

    Attributes:
        name: what `general.architecture` calls it; its keys begin with it.
        fields: its keys, without the name, and the fields of `GPTConfig` that they are.
        ours: fields that it always has.
        interleaved: whether queries and keys go in neighbouring pairs for the rotary embedding.
        fused: whether queries, keys and values are one tensor.
    """

    name: str
    fields: Mapping[str, str]
    ours: Mapping[str, Any]
    interleaved: bool = False
    fused: bool = False

    def to_config(
        self, metadata: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
    ) -> GPTConfig:
        """Return the `GPTConfig` of a file's metadata and tensors.

        Raises:
            ValueError: keys are missing, contradict each other, or ask for what a `GPT` does not
                have; the message lists them.
        """
        if len(shapes.get(EMBEDDING, ())) != 2:
            raise ValueError(f"it has no matrix {EMBEDDING}")
        given = {"vocabulary_size": (EMBEDDING, shapes[EMBEDDING][0])}
        problems = []
        for key, value in metadata.items():
            key, own = key.removeprefix(f"{self.name}."), key.startswith(f"{self.name}.")
            if own and key in self.fields:
                value = _plain(value)
                first, before = given.setdefault(self.fields[key], (key, value))
                if before != value:
                    problems.append(f"{key} is {value} and {first} {before}, but they are one")
            elif own and not any(value is nothing or value == nothing for nothing in _NOTHING):
                problems.append(f"{key} is {_plain(value)!r}, which a GPT does not have")
        needed = [key for key in self.fields if key in _NEEDED]
        problems += listed("missing", [key for key in needed if self.fields[key] not in given])
        blocks = metadata.get(f"{self.name}.block_count", 0)
        if isinstance(blocks, int) and blocks > len(shapes):  # a damaged number may be billions
            problems.append(f"block_count is {blocks}, but there are only {len(shapes)} tensors")
        if problems:
            raise ValueError(f"its metadata on {self.name}: {'; '.join(problems)}")
        found = {
            "use_bias": "blk.0.attn_output.bias" in shapes,
            "use_qkv_bias": "blk.0.attn_q.bias" in shapes,
            "tie_embeddings": HEAD not in shapes,
        }
        return GPTConfig(**found | {k: value for k, (_, value) in given.items()} | self.ours)

    def metadata(self, config: GPTConfig) -> dict[str, int | float]:
        """Return the metadata of a config, as `to_config` takes it."""
        return {f"{self.name}.{key}": getattr(config, field) for key, field in self.fields.items()}

    def misfits(self, config: GPTConfig) -> list[str]:
        """Return in what a config differs from all that a file of this architecture can hold."""
        held = {*self.fields.values(), *_NOT_HELD}
        there = dataclasses.replace(config, **self.ours)
        if "head_dim" not in held:
            there = there.replace(head_dim=None, num_key_value_heads=None)
        return [
            f"{name} is {value!r} and there {getattr(there, name)!r}"
            for name, value in config.to_dict().items()
            if name not in held and value != getattr(there, name)
        ]

    def sources(self, config: GPTConfig) -> dict[str, Source]:
        """Return where every weight stands, by `variable.path`."""
        names = {
            "token_embedding": Source("token_embd"),
            "token_embedding/reverse_embeddings": Source(HEAD, transpose=True),
            "position_embedding": Source("position_embd"),
            "block_{i}/attention_norm": Source("blk.{i}.attn_norm"),
            "block_{i}/attention/output": _projection("attn_output"),
            "block_{i}/feed_forward_norm": Source("blk.{i}.ffn_norm"),
            "block_{i}/feed_forward/gate": _projection("ffn_gate"),
            "block_{i}/feed_forward/up": _projection("ffn_up"),
            "block_{i}/feed_forward/down": _projection("ffn_down"),
            "final_norm": Source("output_norm"),
        }
        heads = {"query": config.num_heads, "key": config.num_key_value_heads, "value": None}
        for i, (name, num_heads) in enumerate(heads.items()):
            if self.fused:
                place = _projection(FUSED, entry=i, num_entries=3)
            elif self.interleaved:
                place = _projection(f"attn_{name[0]}", interleaved_heads=num_heads)
            else:
                place = _projection(f"attn_{name[0]}")
            names[f"block_{{i}}/attention/{name}"] = place
        return sources(names, config)


def _projection(name, **how):
    return Source(f"blk.{{i}}.{name}", transpose=True, **how)


# A model is written as the first one that can hold it.
ARCHITECTURES: dict[str, GGUFArchitecture] = {
    architecture.name: architecture
    for architecture in (
        GGUFArchitecture(
            name="gpt2",
            fields=_SIZES | {"attention.layer_norm_epsilon": "norm_epsilon"},
            ours={
                "position_embedding": "learned",
                "norm": "layer_norm",
                "norm_position": "pre",
                "activation": "gelu_tanh",
                "use_bias": True,
                "use_qkv_bias": True,
                "causal": True,
                "attention_windows": None,
                "num_experts": None,
            },
            fused=True,
        ),
        GGUFArchitecture(
            name="qwen2",
            fields=_ROTARY,
            ours=_MODERN | {"use_bias": False, "use_qkv_bias": True},
        ),
        GGUFArchitecture(name="llama", fields=_ROTARY, ours=_MODERN, interleaved=True),
    )
}


def _plain(value):
    """Make a number of the file's what a person would write: 1e-05, not 9.999999747378752e-06."""
    if isinstance(value, float):
        return float(str(np.float32(value)))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, numbers.Number) else list(value)
