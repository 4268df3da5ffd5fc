"""Which layers of a model are frozen, for its config: Keras keeps it for its own layers alone."""

from collections.abc import Iterable

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
        # Setting it sets it below, too; what lies below comes later.
        if layer.trainable == (path in frozen):
            layer.trainable = path not in frozen


def _layers(model, path=""):
    """Yield paths and layers, from above to below; the model itself has the empty path."""
    yield path, model
    for layer in model._flatten_layers(include_self=False, recursive=False):
        yield from _layers(layer, f"{path}/{layer.name}".lstrip("/"))
