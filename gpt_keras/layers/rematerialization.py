"""Gradient checkpointing: less memory in training, more computation.

The backward pass computes the activations inside a layer again instead of storing them.
"""

from collections.abc import Callable

import keras


def rematerialized(layer: keras.layers.Layer, function: Callable, x):
    """Return `function(x)` without storing its activations for the gradient.

    The backward pass calls `function` again (gradient checkpointing, Chen et al. 2016). This is
    `keras.remat` for a function that belongs to a layer. Dropout draws the same masks both times,
    and the losses that sublayers add are added to `layer`.

    Args:
        layer: The layer whose variables `function` uses.
        function: A function from one tensor to one tensor.
        x: The input tensor.

    Returns:
        The output tensor of `function`.

    Example:
        >>> import keras, numpy as np
        >>> dense = keras.layers.Dense(3)
        >>> dense.build((None, 2))
        >>> rematerialized(dense, dense.call, np.ones((1, 2), "float32")).shape
        TensorShape([1, 3])
    """
    weights = {id(variable) for variable in layer.weights}
    seeds = [variable for variable in layer.variables if id(variable) not in weights]
    before = [seed.value + 0 for seed in seeds]  # + 0 copies: assigning to a seed keeps the copy
    after = []

    def run(x):
        # Both runs begin with the same seeds; the seeds after the first run are kept.
        scope = keras.StatelessScope(list(zip(seeds, before)), collect_losses=True)
        with scope:
            y = function(x)
        if not after:
            after.extend(scope.get_current_value(seed) for seed in seeds)
        return (y, *scope.losses)

    y, *losses = keras.remat(run)(x)
    for seed, value in zip(seeds, after):
        seed.assign(value)
    for loss in losses:
        layer.add_loss(loss)
    return y
