"""The projections inside attention and feed-forward."""

import keras

from gpt_keras.layers.quantized_sublayers import dtype_arguments


def dense(units: int, use_bias: bool, initializer, dtype, name: str) -> keras.layers.Dense:
    """Return a `Dense` layer whose kernel starts with numbers of its own.

    Keras does not copy an initializer object that several layers share, and each of them would
    start with the same numbers.

    Args:
        units: width of the output.
        use_bias: whether there is a bias.
        initializer: initializer of the kernel.
        dtype: dtype policy of the layer that this one is part of; it says whether this one is
            quantized.
        name: name of the layer.
    """
    return keras.layers.Dense(
        units,
        use_bias=use_bias,
        kernel_initializer=_own(initializer),
        name=name,
        **dtype_arguments(dtype, name),
    )


@keras.saving.register_keras_serializable("gpt_keras")
class FloatDense(keras.layers.Dense):
    """A `Dense` layer that stays as it is when the model around it is quantized.

    For small products that decide something, such as those of a router or of a head for a few
    classes: their bytes do not count, and their rounding would. Arguments as in `Dense`.
    """

    def __init__(self, units: int, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(units, kernel_initializer=_own(kernel_initializer), **kwargs)

    def quantize(self, mode=None, type_check=True, config=None):
        """Do nothing; `keras.Model.quantize` calls this."""


def _own(initializer):
    if isinstance(initializer, keras.initializers.Initializer):
        return initializer.clone()
    return initializer
