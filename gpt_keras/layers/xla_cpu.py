"""Matrix products in the forms that XLA compiles to fast code for CPUs.

Without them the results are the same, but generating a token takes longer.
"""

import keras
from keras import ops

from gpt_keras.layers.device import has_gpu

_NUM_PARTS = 4
_LEAST_SIZE = 2**16  # numbers in a kernel; smaller kernels stay in the cores' caches


def is_one_vector(inputs, matrix) -> bool:
    """Return whether `product_of_one_vector` is faster than `matmul`.

    Args:
        inputs: `(..., inputs)`.
        matrix: `(inputs, outputs)`.
    """
    num_inputs, num_outputs = matrix.shape
    return (
        all(dim == 1 for dim in inputs.shape[:-1])
        and num_inputs % _NUM_PARTS == 0
        and num_inputs * num_outputs >= _LEAST_SIZE
        and keras.backend.backend() == "tensorflow"
        and not has_gpu()
    )


def product_of_one_vector(vector, matrix):
    """Return the product of one vector and a matrix, summed in float32.

    On a CPU, XLA runs `matmul` of one vector on a single core if a bias is added afterwards. Before
    that, it copies a bfloat16 matrix to float32. This function instead splits the rows of the
    matrix into four blocks, scales each row with its number of the vector, and sums blocks and
    rows. XLA compiles this to one loop, which reads the blocks side by side, uses all cores, and
    casts while it reads.

    Args:
        vector: `(..., inputs)`; all dimensions except the last are 1.
        matrix: `(inputs, outputs)`, of any dtype; `inputs` is a multiple of 4.

    Returns:
        `(..., outputs)`, float32, or float64 for a float64 matrix.

    Example:
        >>> import numpy as np
        >>> x, kernel = np.ones((1, 1, 16), "float32"), np.ones((16, 3), "float32")
        >>> product_of_one_vector(x, kernel).numpy().tolist()
        [[[16.0, 16.0, 16.0]]]
    """
    num_inputs, num_outputs = matrix.shape
    dtype = keras.backend.result_type(matrix.dtype, "float32")
    column = ops.reshape(ops.cast(vector, dtype), (num_inputs, 1))
    # Cast before slicing: XLA does not slice bfloat16, and would round around each slice.
    matrix = ops.cast(matrix, dtype)
    size = num_inputs // _NUM_PARTS
    parts = [slice(i * size, (i + 1) * size) for i in range(_NUM_PARTS)]
    total = sum(column[part] * matrix[part] for part in parts)  # (size, outputs)
    return ops.reshape(ops.sum(total, axis=0), (*vector.shape[:-1], num_outputs))


def computed_once(x):
    """Return `x` in a form that XLA computes once and not again for each reader.

    On a CPU, XLA fuses the product of a vector and a matrix with the operations that compute the
    vector, such as a normalization. It then repeats these operations for every row of the matrix.
    XLA does not fuse through another product, so this function multiplies `x` with 1.

    Args:
        x: `(..., dim)`, float32.
    """
    pairs = ops.stack([x, ops.zeros_like(x)], axis=-1)  # (..., dim, 2)
    return ops.squeeze(ops.matmul(pairs, ops.ones((2, 1), x.dtype)), axis=-1)


class RowsInInt8(keras.layers.Dense):
    """A `Dense` layer with a fast layout for a weight-only int8 kernel.

    If the inputs are not quantized, the int8 kernel is stored as `(units, inputs)`. The weights of
    one output are then contiguous, and XLA casts them to float32 while it reads, without a copy.
    This is a little faster than `product_of_one_vector`. Only int8 kernels have this layout, so it
    does not help training.
    """

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
        """The kernel in the usual layout, `(inputs, units)`."""
        return ops.transpose(self._kernel) if self._has_rows else super().kernel

    def _int8_call(self, inputs, training=None):
        if not self._has_rows:
            return super()._int8_call(inputs, training=training)
        x = computed_once(ops.cast(inputs, "float32"))
        x = ops.matmul(x, ops.cast(self.kernel, "float32")) / self.kernel_scale
        x = ops.cast(x, self.compute_dtype)
        return x if self.bias is None else x + self.bias
