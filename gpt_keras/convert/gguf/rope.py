"""Scaled rotary angles as GGUF files have them: metadata, or a tensor with a divisor for each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpt_keras.config import GPTConfig
from gpt_keras.rotary_scaling import (
    FactorsScaling,
    LinearScaling,
    Llama3Scaling,
    RotaryScaling,
    YarnScaling,
    make_rotary_scaling,
    wave_frequencies,
)

# The tensor, and the settings by the names of `RotaryScaling`.
FACTORS = "rope_freqs.weight"
_TYPE, _LEGACY_FACTOR = "rope.scaling.type", "rope.scale_linear"
_KEYS = {
    "rope.scaling.factor": "factor",
    "rope.scaling.original_context_length": "original_max_position_embeddings",
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}
# Settings that change nothing with this value.
_NEUTRAL = {
    "rope.scaling.attn_factor": 1.0,
    "rope.scaling.yarn_attn_factor": 1.0,
    "rope.scaling.yarn_ext_factor": 1.0,
}


def read_rope(
    settings: Mapping[str, Any], factors: Sequence[float] | None = None
) -> dict[str, Any]:
    """Replace the settings of a scaling by `rotary_scaling`; unknown ones stay as they are.

    Args:
        settings: An architecture's settings, without its name.
        factors: The values of the tensor `rope_freqs.weight`, if there is one.

    Raises:
        ValueError: A value is not allowed.
    """
    rest = {key: value for key, value in settings.items() if _NEUTRAL.get(key) != value}
    rest.pop("rope.scaling.finetuned", None)  # whether the model was trained with it
    rope_type = rest.pop(_TYPE, "linear")  # as in llama.cpp
    rope = {name: rest.pop(key) for key, name in _KEYS.items() if key in rest}
    legacy_factor = rest.pop(_LEGACY_FACTOR, 1.0)
    factor = rope.pop("factor", legacy_factor) or 1.0
    if rope_type not in ("", "none", "linear", "yarn"):
        return rest | {_TYPE: rope_type}
    scaling = None
    if rope_type == "linear" and factor != 1:
        scaling = make_rotary_scaling({"rope_type": "linear", "factor": factor})
    elif rope_type == "yarn" and factor != 1:
        rope.setdefault("original_max_position_embeddings", settings.get("context_length"))
        scaling = make_rotary_scaling({"rope_type": "yarn", "factor": factor, **rope})
    if factors is not None and any(value != 1 for value in factors):
        if scaling is not None:
            raise ValueError(f"it has {FACTORS}, but {_TYPE} is {rope_type!r}, too")
        scaling = FactorsScaling(factors=factors)
    return rest if scaling is None else rest | {"rotary_scaling": scaling}


def write_rope(scaling: RotaryScaling | None) -> dict[str, Any]:
    """Return the settings of a scaling that has settings, without the architecture's name."""
    if not isinstance(scaling, LinearScaling | YarnScaling):
        return {}
    settings = {_TYPE: scaling.rope_type}
    return settings | {
        key: getattr(scaling, name) for key, name in _KEYS.items() if hasattr(scaling, name)
    }


def rope_factors(config: GPTConfig) -> np.ndarray | None:
    """Return the values of the tensor of a scaling that has one, `(head_dim / 2,)`, else None."""
    if not isinstance(config.rotary_scaling, Llama3Scaling | FactorsScaling):
        return None
    base, head_dim = config.rotary_base, config.head_dim
    return wave_frequencies(base, head_dim) / config.rotary_scaling.frequencies(base, head_dim)
