"""Rotary settings in `config.json`: the base and the scaling."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from gpt_keras.config import GPTConfig
from gpt_keras.rotary_scaling import make_rotary_scaling

# The setting with the scaling. `rope_parameters`, since transformers 5, also has the base.
_NEW, _OLD = "rope_parameters", "rope_scaling"

_ORIGINAL = "original_max_position_embeddings"

# Scalings that have no effect with a factor of 1.
_BY_ONE_FACTOR = ("linear", "dynamic", "yarn", "llama3")


def read_rope(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with `rope_theta` and `rotary_scaling` for either layout.

    Args:
        settings: The settings in `config.json`; changed in place.

    Raises:
        ValueError: The scaling is not supported.
    """
    rope: dict[str, Any] = {}
    for name in (_NEW, _OLD):
        given = settings.pop(name, None)
        if given is not None and not isinstance(given, Mapping):
            raise ValueError(f"{name} is {given!r} and should be a mapping.")
        given = dict(given or {})
        # `type` is the old name of `rope_type`; a file may have both.
        if "type" in given:
            old_type = given.pop("type")
            given.setdefault("rope_type", old_type)
        rope |= given
    described = dict(rope)
    if "rope_theta" in rope:
        settings["rope_theta"] = rope.pop("rope_theta")
    if rope.get("partial_rotary_factor") == 1:
        del rope["partial_rotary_factor"]
    rope.pop("finetuned", None)  # whether the model was trained with the scaling
    rope_type = rope.pop("rope_type", None) or "default"
    rope = {key: value for key, value in rope.items() if value is not None}
    context, original = settings.get("max_position_embeddings"), settings.pop(_ORIGINAL, None)
    if rope_type == "dynamic":
        rope[_ORIGINAL] = context
    elif rope_type in ("yarn", "llama3"):
        rope[_ORIGINAL] = original or rope.get(_ORIGINAL, context)
    if rope_type == "default":
        if rope:
            raise ValueError(f"{_NEW} or {_OLD} is {described}, which a GPT does not have.")
        return settings
    if rope_type in _BY_ONE_FACTOR and rope.get("factor") == rope.get("attention_factor", 1) == 1:
        return settings  # no effect
    if rope_type == "longrope" and _is_one_list(rope):
        rope_type, rope = "factors", {"factors": rope["short_factor"]}
    try:
        scaling = make_rotary_scaling({"rope_type": rope_type, **rope})
    except ValueError as error:
        raise ValueError(f"{_NEW} or {_OLD} is {described}: {error}") from error
    return settings | {"rotary_scaling": scaling}


def write_rope(config: GPTConfig) -> dict[str, Any]:
    """Return the rotary settings of a config, in both layouts."""
    if config.rotary_scaling is None:
        return {_NEW: {"rope_theta": config.rotary_base, "rope_type": "default"}}
    rope = dataclasses.asdict(config.rotary_scaling)
    rope = {key: value for key, value in rope.items() if value is not None}
    if rope["rope_type"] == "factors":
        factors = list(rope["factors"])
        # Only `longrope` has a divisor for each frequency. It has two lists, for short and for
        # long texts; both get the same divisors.
        rope = {"rope_type": "longrope", "short_factor": factors, "long_factor": factors}
        rope |= {"factor": 1.0, "attention_factor": 1.0, _ORIGINAL: config.max_sequence_length}
    if rope["rope_type"] == "dynamic":
        del rope[_ORIGINAL]  # transformers uses `max_position_embeddings`
        rope.pop("sequence_length", None)
    return {_NEW: {"rope_theta": config.rotary_base, **rope}, _OLD: rope}


def _is_one_list(rope):
    return rope.get("short_factor") == rope.get("long_factor") and rope.get("attention_factor") == 1
