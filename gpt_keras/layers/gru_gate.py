"""A gate that replaces the residual sum of a sub-layer."""

import keras
from keras import ops

from gpt_keras.layers.initializers import gpt2_normal
from gpt_keras.layers.projection import dense
from gpt_keras.layers.quantized_sublayers import serialized_policy


@keras.saving.register_keras_serializable("gpt_keras")
class GRUGate(keras.layers.Layer):
    """A GRU gate that joins a sub-layer's output to the residual stream.

    From Gated Transformer-XL (Parisotto et al. 2019, "Stabilizing Transformers for Reinforcement
    Learning", section 3.2, "Gated-Recurrent-Unit-type gating"). With the stream `x` and the
    sub-layer's output `y`:

        r = sigmoid(W_r y + U_r x)
        z = sigmoid(W_z y + U_z x - bias)
        h = tanh(W_h y + U_h (r * x))
        output = (1 - z) * x + z * h

    No published GPT uses it. Pass it to `TransformerBlock(residual=...)`.

    Args:
        bias: Initial value of the trained bias. A positive value keeps the gate nearly shut, so the
            block starts close to the identity.
        kernel_initializer: Initializer of the six kernels. Default: GPT-2's normal distribution
            with standard deviation 0.02.
        kernel_regularizer: Regularizer of the six kernels, or None.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: The residual stream, `(batch, length, hidden_dim)`.
        y: The output of the sub-layer, `(batch, length, hidden_dim)`.

    Returns:
        The residual stream after the sub-layer, `(batch, length, hidden_dim)`.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> x, y = np.ones((1, 1, 8)), np.full((1, 1, 8), 3.0)
        >>> gate = gk.layers.GRUGate(bias=20.0)
        >>> bool(np.allclose(gate(x, y), x, atol=1e-6))    # the gate is shut
        True
        >>> block = gk.layers.TransformerBlock(num_heads=2, residual=gk.layers.GRUGate())
    """

    def __init__(
        self, bias: float = 2.0, kernel_initializer=None, kernel_regularizer=None, **kwargs
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.bias = float(bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer or gpt2_normal())
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, x_shape, y_shape=None):
        x_shape = tuple(x_shape)
        hidden_dim = x_shape[-1]
        for name in ("reset_y", "reset_x", "update_y", "update_x", "candidate_y", "candidate_x"):
            projection = dense(
                hidden_dim,
                False,
                self.kernel_initializer,
                dtype=self.dtype_policy,
                name=name,
                regularizer=self.kernel_regularizer,
            )
            projection.build(x_shape)
            setattr(self, name, projection)
        self.update_bias = self.add_weight(
            name="update_bias",
            shape=(hidden_dim,),
            initializer=keras.initializers.Constant(self.bias),
        )

    def call(self, x, y):
        reset = ops.sigmoid(self.reset_y(y) + self.reset_x(x))
        update = ops.sigmoid(self.update_y(y) + self.update_x(x) - self.update_bias)
        candidate = ops.tanh(self.candidate_y(y) + self.candidate_x(reset * x))
        return (1 - update) * x + update * candidate

    def compute_output_shape(self, x_shape, y_shape=None):
        return x_shape

    def get_config(self):
        return {
            **super().get_config(),
            "dtype": serialized_policy(self),
            "bias": self.bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }
