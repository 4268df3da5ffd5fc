"""Frozen layers in the config of a model.

Keras saves `trainable` in the config of each layer. These models build their layers in the
constructor, so the configs of their layers are not saved. Their own config lists the frozen layers.
"""

from collections.abc import Iterable, Iterator

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
    return [path for path, layer in named_layers(model) if not layer.trainable]


def freeze(model: keras.Model, paths: Iterable[str]) -> None:
    """Freeze the layers with these paths, and make all other layers trainable."""
    frozen = set(paths)
    for path, layer in named_layers(model):
        # Setting `trainable` also sets it for all sublayers, which the loop visits later.
        if layer.trainable == (path in frozen):
            layer.trainable = path not in frozen


def named_layers(model: keras.Model, path: str = "") -> Iterator[tuple[str, keras.layers.Layer]]:
    """Yield paths and layers, parents first; the path of the model itself is empty."""
    yield path, model
    for layer in model._flatten_layers(include_self=False, recursive=False):
        yield from named_layers(layer, f"{path}/{layer.name}".lstrip("/"))
