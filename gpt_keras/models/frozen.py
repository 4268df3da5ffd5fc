"""Frozen layers in the config of a model: Keras saves `trainable` for its own layers alone."""

from collections.abc import Iterable, Mapping
from typing import Any

import keras


def frozen_layers(model: keras.Model) -> list[str]:
    """Return the paths of the layers that do not learn, such as `"gpt/block_0"`.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, name="head")])
        >>> model.get_layer("head").trainable = False
        >>> frozen_layers(model)
        ['head']
    """
    # A dropout or an activation learns nothing; it is listed only to restore a flag.
    return [path for path, layer in _layers(model) if not layer.trainable]


def freeze(model: keras.Model, paths: Iterable[str]) -> None:
    """Freeze the layers of these paths, and make all others trainable."""
    frozen = set(paths)
    for path, layer in _layers(model):
        # Setting it also sets it for the layers below, which come later.
        if layer.trainable == (path in frozen):
            layer.trainable = path not in frozen


def make_from_config(cls: type[keras.Model], config: Mapping[str, Any]) -> keras.Model:
    """Return `cls(**config)` with the layers frozen that `frozen_layers` listed as `"frozen"`.

    Without `"frozen"` in the config every layer stays as the constructor leaves it.
    """
    config = dict(config)
    frozen = config.pop("frozen", None)
    model = cls(**config)
    if frozen is not None:
        freeze(model, frozen)
    return model


def _layers(model, path=""):
    """Yield paths and layers, from above to below; the model itself has the empty path."""
    yield path, model
    for layer in model._flatten_layers(include_self=False, recursive=False):
        yield from _layers(layer, f"{path}/{layer.name}".lstrip("/"))
