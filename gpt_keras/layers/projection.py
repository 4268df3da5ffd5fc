"""Linear projections of the attention and feed-forward layers."""

import keras
from keras import ops

from gpt_keras.layers.lora import LowRankAdapted
from gpt_keras.layers.quantized_sublayers import dtype_arguments
from gpt_keras.layers.xla_cpu import is_one_vector, product_of_one_vector


@keras.saving.register_keras_serializable("gpt_keras")
class Projection(LowRankAdapted):
    """A `Dense` layer that is fast for a single vector.

    These products take most of the time when a model generates one token for one row.
    Its arguments are as in `keras.layers.Dense`.
    """

    def _project(self, inputs):
        if not is_one_vector(inputs, self._kernel):
            return super()._project(inputs)
        x = ops.cast(product_of_one_vector(inputs, self.kernel), self.compute_dtype)
        return x if self.bias is None else x + self.bias


def dense(
    units: int, use_bias: bool, initializer, dtype, name: str, regularizer=None
) -> Projection:
    """Return a projection whose kernel has initial values of its own.

    Keras does not copy an initializer object that several layers share. Each of these layers would
    start with the same numbers, so this function clones it.

    Args:
        units: Width of the output.
        use_bias: Whether the projection has a bias.
        initializer: Initializer of the kernel.
        dtype: Dtype policy of the parent layer, which also records whether this projection is
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
    """A `Dense` layer that keeps its float kernel when a model is quantized.

    It is for small but sensitive products, such as the logits of a router or of a classification
    head: quantization would save few bytes, and its rounding could change the decision. Its
    arguments are as in `keras.layers.Dense`.
    """

    def __init__(self, units: int, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(units, kernel_initializer=_own(kernel_initializer), **kwargs)

    def quantize(self, mode=None, type_check=True, config=None):
        """Do nothing; `keras.Model.quantize` calls this."""


def _own(initializer):
    if isinstance(initializer, keras.initializers.Initializer):
        return initializer.clone()
    return initializer
