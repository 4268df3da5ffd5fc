"""Adapters and frozen layers in the config of a model."""

from collections.abc import Mapping
from typing import Any

import keras

from gpt_keras.models.adapters import adapter_config, add_adapters
from gpt_keras.models.frozen import freeze, frozen_layers


def saved_state(model: keras.Model) -> dict[str, Any]:
    """Return what a model's config holds beside the arguments of its constructor.

    Args:
        model: The model.

    Returns:
        A dict of `frozen`, the frozen layers, and `lora`, the adapters, without empty ones.
    """
    state = {"frozen": frozen_layers(model), "lora": adapter_config(model)}
    return {name: value for name, value in state.items() if value}


def make_from_config(cls: type[keras.Model], config: Mapping[str, Any]) -> keras.Model:
    """Build a model from its config, with its adapters and frozen layers.

    Args:
        cls: Class of the model.
        config: Arguments of the constructor, and the entries of `saved_state`.

    Returns:
        The model.
    """
    config = dict(config)
    frozen, adapters = config.pop("frozen", None), config.pop("lora", None)
    model = cls(**config)
    if adapters:
        add_adapters(model, adapters)
    if frozen is not None:
        freeze(model, frozen)
    return model
