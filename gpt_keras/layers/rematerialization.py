"""Training in less memory: what a layer computes inside is computed anew for the gradient."""

from collections.abc import Callable

import keras


def rematerialized(layer: keras.layers.Layer, function: Callable, x):
    """Return `function(x)`, of which nothing is kept for the gradient but `x` (Chen et al. 2016).

    As `keras.remat`, for a function that belongs to a layer: dropout draws the same masks again,
    and losses that sublayers add arrive at `layer`.

    Args:
        layer: The layer whose variables `function` uses.
        function: From one tensor to one tensor.
        x: The tensor.

    Example:
        >>> import keras, numpy as np
        >>> dense = keras.layers.Dense(3)
        >>> dense.build((None, 2))
        >>> rematerialized(dense, dense.call, np.ones((1, 2), "float32")).shape
        TensorShape([1, 3])
    """
    weights = {id(variable) for variable in layer.weights}
    seeds = [variable for variable in layer.variables if id(variable) not in weights]
    before = [seed.value + 0 for seed in seeds]  # of a variable a copy, which stays as it is
    after = []

    def run(x):
        # Both times seeds begin with the same values; what becomes of them is kept the first time.
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
