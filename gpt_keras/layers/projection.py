"""The projections inside attention and feed-forward."""

import keras
from keras import ops

from gpt_keras.layers.quantized_sublayers import dtype_arguments
from gpt_keras.layers.xla_cpu import RowsInInt8, is_one_vector, product_of_one_vector


@keras.saving.register_keras_serializable("gpt_keras")
class Projection(RowsInInt8):
    """A `Dense` layer that is fast for one vector. Arguments as in `Dense`.

    Products of one vector are most of a step for one new token.
    """

    def call(self, inputs, training=None):
        if not is_one_vector(inputs, self._kernel):
            return super().call(inputs, training=training)
        x = ops.cast(product_of_one_vector(inputs, self.kernel), self.compute_dtype)
        return x if self.bias is None else x + self.bias


def dense(
    units: int, use_bias: bool, initializer, dtype, name: str, regularizer=None
) -> Projection:
    """Return a projection whose kernel starts with numbers of its own.

    Keras does not copy an initializer object that several layers share, and each of them would
    start with the same numbers.

    Args:
        units: Width of the output.
        use_bias: Whether there is a bias.
        initializer: Initializer of the kernel.
        dtype: Dtype policy of the layer that this one is part of; it says whether this one is
            quantized.
        name: Name of the layer.
        regularizer: Regularizer of the kernel, or None.
    """
    return Projection(
        units,
        use_bias=use_bias,
        kernel_initializer=_own(initializer),
        kernel_regularizer=regularizer,
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
