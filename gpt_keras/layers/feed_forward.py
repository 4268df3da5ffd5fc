"""The feed-forward layer of a transformer block."""

import keras

from gpt_keras.checks import check_positive_int
from gpt_keras.layers.activations import activation_function, serialized_activation
from gpt_keras.layers.initializers import gpt2_normal
from gpt_keras.layers.projection import dense
from gpt_keras.layers.quantized_sublayers import serialized_policy


@keras.saving.register_keras_serializable("gpt_keras")
class FeedForward(keras.layers.Layer):
    """Two projections with an activation between them, applied to each token alone.

    The activations:

    - `"relu"`: Vaswani et al. 2017, section 3.3.
    - `"gelu_tanh"`: the tanh approximation of GELU (Hendrycks and Gimpel 2016), used by GPT-1 and
      GPT-2.
    - `"gelu"`: the exact GELU.
    - `"relu_squared"`: the square of ReLU, from Primer (So et al. 2021).
    - `"swiglu"`: `silu(gate(x)) * up(x)` with a third projection `gate` (Shazeer 2020).

    Args:
        intermediate_dim: Width between the projections.
        activation: `"gelu_tanh"`, `"gelu"`, `"relu"`, `"relu_squared"` or `"swiglu"`; or, as in
            other Keras layers, a name in `keras.activations` or a callable.
        use_bias: Whether the projections have biases.
        kernel_initializer: Initializer of the kernels. Default: GPT-2's normal distribution with
            standard deviation 0.02.
        output_initializer: Initializer of the last kernel. Default: `kernel_initializer`.
        kernel_regularizer: Regularizer of the kernels, or None.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: `(batch, length, hidden_dim)`.

    Returns:
        `(batch, length, hidden_dim)`.

    Raises:
        ValueError: `intermediate_dim` is not a positive integer, or `activation` is unknown.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> gk.layers.FeedForward(intermediate_dim=32)(np.zeros((2, 5, 8))).shape
        TensorShape([2, 5, 8])
    """

    def __init__(
        self,
        intermediate_dim: int,
        activation="gelu_tanh",
        use_bias: bool = True,
        kernel_initializer=None,
        output_initializer=None,
        kernel_regularizer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive_int("intermediate_dim", intermediate_dim)
        self.supports_masking = True
        self.intermediate_dim = intermediate_dim
        self.activation = activation
        self._function = activation_function(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer or gpt2_normal())
        self.output_initializer = keras.initializers.get(
            output_initializer or self.kernel_initializer
        )
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape):
        input_shape = tuple(input_shape)
        self.up = self._dense(self.intermediate_dim, self.kernel_initializer, "up")
        self.up.build(input_shape)
        if self.activation == "swiglu":
            self.gate = self._dense(self.intermediate_dim, self.kernel_initializer, "gate")
            self.gate.build(input_shape)
        self.down = self._dense(input_shape[-1], self.output_initializer, "down")
        self.down.build((*input_shape[:-1], self.intermediate_dim))

    def _dense(self, units, initializer, name):
        return dense(
            units,
            self.use_bias,
            initializer,
            dtype=self.dtype_policy,
            name=name,
            regularizer=self.kernel_regularizer,
        )

    def call(self, x):
        h = self.up(x)  # (batch, length, intermediate_dim)
        h = self._function(self.gate(x)) * h if self.activation == "swiglu" else self._function(h)
        return self.down(h)  # (batch, length, hidden_dim)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "dtype": serialized_policy(self),
            "intermediate_dim": self.intermediate_dim,
            "activation": serialized_activation(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "output_initializer": keras.initializers.serialize(self.output_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }
