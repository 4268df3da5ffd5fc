"""Rotary angles as `config.json` has them: the base, and how it is scaled."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from gpt_keras.config import GPTConfig
from gpt_keras.rotary_scaling import make_rotary_scaling

# Where transformers writes the base and the scaling: since its version 5, and before.
_NEW, _OLD = "rope_parameters", "rope_scaling"

_ORIGINAL = "original_max_position_embeddings"

# Types that change nothing if their factor is 1.
_BY_ONE_FACTOR = ("linear", "dynamic", "yarn", "llama3")


def read_rope(settings: dict[str, Any]) -> dict[str, Any]:
    """Replace settings in either layout by `rope_theta` and `rotary_scaling`.

    Raises:
        ValueError: The angles are scaled in a way that is not known.
    """
    rope: dict[str, Any] = {}
    for name in (_NEW, _OLD):
        given = settings.pop(name, None)
        if given is not None and not isinstance(given, Mapping):
            raise ValueError(f"{name} is {given!r} and should be a mapping.")
        given = dict(given or {})
        # The key was called `type` once, and files may have both.
        if "type" in given:
            old_type = given.pop("type")
            given.setdefault("rope_type", old_type)
        rope |= given
    described = dict(rope)
    if "rope_theta" in rope:
        settings["rope_theta"] = rope.pop("rope_theta")
    if rope.get("partial_rotary_factor") == 1:
        del rope["partial_rotary_factor"]
    rope.pop("finetuned", None)  # whether the model was trained with it
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
        return settings  # scaled by nothing
    if rope_type == "longrope" and _is_one_list(rope):
        rope_type, rope = "factors", {"factors": rope["short_factor"]}
    try:
        scaling = make_rotary_scaling({"rope_type": rope_type, **rope})
    except ValueError as error:
        raise ValueError(f"{_NEW} or {_OLD} is {described}: {error}") from error
    return settings | {"rotary_scaling": scaling}


def write_rope(config: GPTConfig) -> dict[str, Any]:
    """Return the settings in both layouts."""
    if config.rotary_scaling is None:
        return {_NEW: {"rope_theta": config.rotary_base, "rope_type": "default"}}
    rope = dataclasses.asdict(config.rotary_scaling)
    rope = {key: value for key, value in rope.items() if value is not None}
    if rope["rope_type"] == "factors":
        factors = list(rope["factors"])
        # The one type with a divisor for each frequency has two lists, for short and long texts.
        rope = {"rope_type": "longrope", "short_factor": factors, "long_factor": factors}
        rope |= {"factor": 1.0, "attention_factor": 1.0, _ORIGINAL: config.max_sequence_length}
    if rope["rope_type"] == "dynamic":
        del rope[_ORIGINAL]  # transformers takes the context's length
        rope.pop("sequence_length", None)
    return {_NEW: {"rope_theta": config.rotary_base, **rope}, _OLD: rope}


def _is_one_list(rope):
    return rope.get("short_factor") == rope.get("long_factor") and rope.get("attention_factor") == 1
