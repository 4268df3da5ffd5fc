"""The projections inside attention and feed-forward."""

import keras


def dense(units: int, use_bias: bool, initializer, **kwargs) -> keras.layers.Dense:
    """Return a `Dense` layer whose kernel starts with numbers of its own.

    Keras does not copy an initializer object that several layers share, and each of them would
    start with the same numbers.
    """
    if isinstance(initializer, keras.initializers.Initializer):
        initializer = initializer.clone()
    return keras.layers.Dense(units, use_bias=use_bias, kernel_initializer=initializer, **kwargs)
