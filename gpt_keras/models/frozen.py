"""Frozen layers in the config of a model.

Keras saves `trainable` in the config of each layer. These models build their layers in the
constructor, so the configs of their layers are not saved. Their own config lists the frozen layers.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import keras


def frozen_layers(model: keras.Model) -> list[str]:
    """Return the paths of the frozen layers, such as `"gpt/block_0"`.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, name="head")])
        >>> model.get_layer("head").trainable = False
        >>> frozen_layers(model)
        ['head']
    """
    # Layers without weights, such as dropout, are listed too, to restore their flag as well.
    return [path for path, layer in _layers(model) if not layer.trainable]


def freeze(model: keras.Model, paths: Iterable[str]) -> None:
    """Freeze the layers with these paths, and make all other layers trainable."""
    frozen = set(paths)
    for path, layer in _layers(model):
        # Setting `trainable` also sets it for all sublayers, which the loop visits later.
        if layer.trainable == (path in frozen):
            layer.trainable = path not in frozen


def make_from_config(cls: type[keras.Model], config: Mapping[str, Any]) -> keras.Model:
    """Build a model from its config, and freeze the layers that the config lists.

    Args:
        cls: Class of the model.
        config: Arguments of the constructor, and under `"frozen"` the result of `frozen_layers`.
            Without `"frozen"`, `trainable` of the layers is not changed.

    Returns:
        The model.
    """
    config = dict(config)
    frozen = config.pop("frozen", None)
    model = cls(**config)
    if frozen is not None:
        freeze(model, frozen)
    return model


def _layers(model, path=""):
    """Yield paths and layers, parents first; the path of the model itself is empty."""
    yield path, model
    for layer in model._flatten_layers(include_self=False, recursive=False):
        yield from _layers(layer, f"{path}/{layer.name}".lstrip("/"))
