"""Supported architectures of GGUF files: metadata keys and tensor names."""

import dataclasses
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpt_keras.config import GPTConfig
from gpt_keras.convert.architecture import Architecture
from gpt_keras.convert.gguf.rope import read_rope, rope_factors, write_rope
from gpt_keras.convert.name_map import Source, sources_found, tensor_shapes

EMBEDDING = "token_embd.weight"
HEAD = "output.weight"
POSITIONS = "position_embd.weight"

# One tensor with query, key and value projections. It is read as three entries of a first axis.
FUSED = "attn_qkv"

# The field of `GPTConfig` for each metadata key, without the architecture's prefix. The number of
# rows of the embedding is the size of the vocabulary.
_SIZES = {
    "context_length": "max_sequence_length",
    "block_count": "num_layers",
    "embedding_length": "hidden_dim",
    "feed_forward_length": "intermediate_dim",
    "attention.head_count": "num_heads",
    EMBEDDING: "vocabulary_size",
}
_ROTARY = _SIZES | {
    "attention.layer_norm_rms_epsilon": "norm_epsilon",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.value_length": "head_dim",
    "rope.dimension_count": "head_dim",
    "rope.freq_base": "rotary_base",
    "rotary_scaling": "rotary_scaling",
    "vocab_size": "vocabulary_size",
}
# Values that switch a setting off, such as 0 experts.
_NOTHING = (0, "", "none")

_MODERN = {
    "position_embedding": "rotary",
    "norm": "rms_norm",
    "norm_position": "pre",
    "activation": "swiglu",
    "causal": True,
    "attention_windows": None,
    "num_experts": None,
    "use_qk_norm": False,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class GGUFArchitecture(Architecture):
    """An architecture of llama.cpp.

    Its name is the value of `general.architecture` and the prefix of its metadata keys.

    Attributes:
        interleaved: Whether the rotary embedding pairs neighbouring columns of queries and keys.
        fused: Whether one tensor has the query, key and value projections.
    """

    interleaved: bool = False
    fused: bool = False

    # Two fields with a default in `GPTConfig`, but without one in GGUF files.
    required = Architecture.required | {"norm_epsilon", "intermediate_dim"}
    not_held = frozenset({"dropout"})

    def to_config(
        self,
        metadata: Mapping[str, Any],
        shapes: Mapping[str, tuple[int, ...]],
        rope_factors: Sequence[float] | None = None,
    ) -> GPTConfig:
        """Return the `GPTConfig` for the metadata and tensors of a file.

        Args:
            metadata: Values by key.
            shapes: Shapes of the tensors, by name.
            rope_factors: Values of the tensor `rope_freqs.weight`, or None without it.

        Raises:
            ValueError: Settings are not supported, contradict each other, or are missing. The
                message lists them.
        """
        if len(shapes.get(EMBEDDING, ())) != 2:
            raise ValueError(f"it has no matrix {EMBEDDING}")
        blocks = metadata.get(f"{self.name}.block_count", 0)
        if isinstance(blocks, int) and blocks > len(shapes):  # damaged: can be billions
            raise ValueError(f"block_count is {blocks}, but there are only {len(shapes)} tensors")
        prefix = f"{self.name}."
        own = {
            key.removeprefix(prefix): _plain(value)
            for key, value in metadata.items()
            if key.startswith(prefix)
        }
        settings = {EMBEDDING: shapes[EMBEDDING][0]} | read_rope(own, rope_factors)
        found = {
            "use_bias": "blk.0.attn_output.bias" in shapes,
            "use_qkv_bias": "blk.0.attn_q.bias" in shapes,
            "use_feed_forward_bias": "blk.0.ffn_down.bias" in shapes,
            "tie_embeddings": HEAD not in shapes,
        }
        return self.config_of(settings, found)

    def metadata(self, config: GPTConfig) -> dict[str, Any]:
        """Return the metadata of a config, for `to_config`."""
        settings = {
            key: getattr(config, field)
            for key, field in self.fields.items()
            if key != EMBEDDING and field != "rotary_scaling"
        }
        if "rotary_scaling" in self.fields:
            settings |= write_rope(config.rotary_scaling)
        return {f"{self.name}.{key}": value for key, value in settings.items()}

    def objection(self, setting: str, value: Any) -> str | None:
        if any(value is nothing or value == nothing for nothing in _NOTHING):
            return None
        return f"{setting} is {value!r}, which a GPT does not have"

    def written_and_read(self, config: GPTConfig) -> GPTConfig:
        places = sources_found(self.layer_sources(config), config)
        shapes = tensor_shapes(config, places)
        return self.to_config(self.metadata(config), shapes, rope_factors(config))

    def layer_sources(self, config: GPTConfig) -> Mapping[str, Source]:
        names = {
            "token_embedding": Source("token_embd"),
            "token_embedding/reverse_embeddings": Source(HEAD, transpose=True),
            "position_embedding": Source("position_embd"),
            "block_{i}/attention_norm": Source("blk.{i}.attn_norm"),
            "block_{i}/attention/query_norm": Source("blk.{i}.attn_q_norm"),
            "block_{i}/attention/key_norm": Source("blk.{i}.attn_k_norm"),
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
        return names


def _projection(name, **how):
    return Source(f"blk.{{i}}.{name}", transpose=True, **how)


# Writing uses the first architecture that can represent the model.
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
                "use_feed_forward_bias": True,
                "causal": True,
                "attention_windows": None,
                "num_experts": None,
            },
            fused=True,
        ),
        GGUFArchitecture(
            name="qwen2",
            fields=_ROTARY,
            ours=_MODERN
            | {"use_bias": False, "use_qkv_bias": True, "use_feed_forward_bias": False},
        ),
        GGUFArchitecture(name="qwen3", fields=_ROTARY, ours=_MODERN | {"use_qk_norm": True}),
        GGUFArchitecture(name="llama", fields=_ROTARY, ours=_MODERN, interleaved=True),
    )
}


def _plain(value):
    """Return a metadata value as a Python value.

    A float32 gets its shortest decimal form: 1e-05, not 9.999999747378752e-06.
    """
    if isinstance(value, float):
        return float(str(np.float32(value)))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, numbers.Number | str) else list(value)
