"""Rotary scaling in GGUF files: metadata, or a tensor of frequency divisors."""

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

# The name of the tensor, and the argument of a `RotaryScaling` for each metadata key.
FACTORS = "rope_freqs.weight"
_TYPE, _LEGACY_FACTOR = "rope.scaling.type", "rope.scale_linear"
_KEYS = {
    "rope.scaling.factor": "factor",
    "rope.scaling.original_context_length": "original_max_position_embeddings",
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}
# Settings without effect if they have this value.
_NEUTRAL = {
    "rope.scaling.attn_factor": 1.0,
    "rope.scaling.yarn_attn_factor": 1.0,
    "rope.scaling.yarn_ext_factor": 1.0,
}


def read_rope(
    settings: Mapping[str, Any], factors: Sequence[float] | None = None
) -> dict[str, Any]:
    """Return the settings with the scaling replaced by `rotary_scaling`.

    Args:
        settings: Metadata of an architecture, without its name as prefix. Unknown settings are
            returned unchanged.
        factors: Values of the tensor `rope_freqs.weight`, or None without it.

    Raises:
        ValueError: A value is not allowed, or the file has two scalings.
    """
    rest = {key: value for key, value in settings.items() if _NEUTRAL.get(key) != value}
    rest.pop("rope.scaling.finetuned", None)  # whether the model was trained with the scaling
    rope_type = rest.pop(_TYPE, "linear")  # the default of llama.cpp
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
    """Return the metadata of a linear or YaRN scaling; empty for the others.

    The keys lack the name of the architecture as prefix.
    """
    if not isinstance(scaling, LinearScaling | YarnScaling):
        return {}
    settings = {_TYPE: scaling.rope_type}
    return settings | {
        key: getattr(scaling, name) for key, name in _KEYS.items() if hasattr(scaling, name)
    }


def rope_factors(config: GPTConfig) -> np.ndarray | None:
    """Return the values of the tensor `rope_freqs.weight`.

    They are the divisors of the frequencies in a Llama 3 or factors scaling, `(head_dim / 2,)`.
    Other scalings have no tensor: the result is None.
    """
    if not isinstance(config.rotary_scaling, Llama3Scaling | FactorsScaling):
        return None
    base, head_dim = config.rotary_base, config.head_dim
    return wave_frequencies(base, head_dim) / config.rotary_scaling.frequencies(base, head_dim)
