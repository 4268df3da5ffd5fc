"""The projections inside attention and feed-forward."""

import keras
from keras import ops

from gpt_keras.layers.device import has_gpu
from gpt_keras.layers.quantized_sublayers import dtype_arguments

_NUM_PARTS = 4
_LEAST_SIZE = 2**16  # numbers in a kernel; what is smaller stays in the cores' caches


@keras.saving.register_keras_serializable("gpt_keras")
class Projection(keras.layers.Dense):
    """A `Dense` layer that is fast for one vector. Arguments as in `Dense`.

    Such products are most of a step for one new token. Weights in float32 and bfloat16 are
    multiplied part by part, see `product_of_one_vector`. Weights in int8 whose inputs stay as
    they are have another form, a little faster and not one that training could use: XLA casts
    them while it reads them, without a copy, if those of one output lie side by side. So they are
    stored as `(units, inputs)`.
    """

    def call(self, inputs, training=None):
        if not _is_one_vector(inputs, self._kernel):
            return super().call(inputs, training=training)
        x = ops.cast(product_of_one_vector(inputs, self.kernel), self.compute_dtype)
        return x if self.bias is None else x + self.bias

    @property
    def _has_rows(self):
        return self.quantization_mode == "int8" and self.inputs_quantizer is None

    def quantize(self, mode=None, type_check=True, config=None):
        """Quantize the weights in place; `keras.Model.quantize` calls this."""
        if mode != "int8" or config.activation_quantizer is not None:
            super().quantize(mode, type_check=False, config=config)
            return
        quantizer = config.weight_quantizer or keras.quantizers.AbsMaxQuantizer(axis=0)
        kernel, scale = quantizer(self._kernel, to_numpy=True)
        self.quantization_config = config
        del self._kernel
        self.quantized_build(tuple(kernel.shape), mode, config)
        self._kernel.assign(ops.transpose(kernel))
        self.kernel_scale.assign(ops.squeeze(scale, axis=0))
        self.dtype_policy = keras.dtype_policies.get(f"int8_from_{self.dtype_policy.name}")

    def _int8_build(self, kernel_shape, config=None):
        has_rows = config is not None and config.activation_quantizer is None
        super()._int8_build(kernel_shape[::-1] if has_rows else kernel_shape, config)

    @property
    def kernel(self):
        """The kernel, `(inputs, units)`."""
        return ops.transpose(self._kernel) if self._has_rows else super().kernel

    def _int8_call(self, inputs, training=None):
        if not self._has_rows:
            return super()._int8_call(inputs, training=training)
        x = computed_once(ops.cast(inputs, "float32"))
        x = ops.matmul(x, ops.cast(self.kernel, "float32")) / self.kernel_scale
        if self.lora_enabled:
            low_rank = ops.matmul(ops.matmul(inputs, self.lora_kernel_a), self.lora_kernel_b)
            x = x + (self.lora_alpha / self.lora_rank) * low_rank
        x = ops.cast(x, self.compute_dtype)
        return x if self.bias is None else x + self.bias

    def _get_kernel_with_merged_lora(self):
        if not self._has_rows:
            return super()._get_kernel_with_merged_lora()
        if not self.lora_enabled:
            return self._kernel, self.kernel_scale, None
        merged = ops.cast(self.kernel, "float32") / self.kernel_scale
        low_rank = ops.matmul(self.lora_kernel_a, self.lora_kernel_b)
        merged += (self.lora_alpha / self.lora_rank) * low_rank
        kernel, scale = keras.quantizers.abs_max_quantize(merged, axis=0)
        return ops.transpose(kernel), ops.squeeze(scale, axis=0), None


def product_of_one_vector(vector, matrix):
    """Return the product of one vector and a matrix, summed in float32.

    On a CPU XLA runs `matmul` of one vector on one core once the sum of a bias follows, and copies
    a matrix of bfloat16 to float32 first. A sum of four parts of the matrix is a loop over rows,
    which reads the parts side by side, on all cores, and casts as it reads.

    Args:
        vector: `(..., inputs)`, all dimensions but the last 1.
        matrix: `(inputs, outputs)`, of any dtype; `inputs` a multiple of 4.

    Returns:
        `(..., outputs)` float32.

    Example:
        >>> import numpy as np
        >>> x, kernel = np.ones((1, 1, 16)), np.ones((16, 3))
        >>> product_of_one_vector(x, kernel).numpy().tolist()
        [[[16.0, 16.0, 16.0]]]
    """
    num_inputs, num_outputs = matrix.shape
    column = ops.reshape(ops.cast(vector, "float32"), (num_inputs, 1))
    # Cast before it is cut: XLA does not cut bfloat16, and would round around each cut.
    matrix = ops.cast(matrix, "float32")
    size = num_inputs // _NUM_PARTS
    parts = [slice(i * size, (i + 1) * size) for i in range(_NUM_PARTS)]
    total = sum(column[part] * matrix[part] for part in parts)  # (size, outputs)
    return ops.reshape(ops.sum(total, axis=0), (*vector.shape[:-1], num_outputs))


def _is_one_vector(inputs, matrix) -> bool:
    num_inputs, num_outputs = matrix.shape
    return (
        all(dim == 1 for dim in inputs.shape[:-1])
        and num_inputs % _NUM_PARTS == 0
        and num_inputs * num_outputs >= _LEAST_SIZE
        and not has_gpu()
    )


def computed_once(x):
    """Return `x`, float32, such that XLA computes it once and not for each value that reads it.

    On a CPU XLA fuses the product of a vector and a matrix with what makes the vector, such as a
    normalization, and then makes it again for every row of the matrix. It does not look through
    another product: this one multiplies with 1.
    """
    pairs = ops.stack([x, ops.zeros_like(x)], axis=-1)  # (..., dim, 2)
    return ops.squeeze(ops.matmul(pairs, ops.ones((2, 1))), axis=-1)


def dense(units: int, use_bias: bool, initializer, dtype, name: str) -> Projection:
    """Return a projection whose kernel starts with numbers of its own.

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
    return Projection(
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
