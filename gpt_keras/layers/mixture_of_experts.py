"""A mixture of experts: several feed-forward layers and a router."""

import keras
from keras import ops

from gpt_keras.checks import check_at_least_0, check_positive_int
from gpt_keras.layers.feed_forward import FeedForward
from gpt_keras.layers.initializers import gpt2_normal
from gpt_keras.layers.projection import FloatDense
from gpt_keras.layers.quantized_sublayers import policy_below, serialized_policy
from gpt_keras.layers.shapes import check_axes


@keras.saving.register_keras_serializable("gpt_keras")
class MixtureOfExperts(keras.layers.Layer):
    """A mixture of experts: a router weights feed-forward layers for each token.

    The router's softmax gives each expert a probability. The `num_experts_per_token` largest ones
    are divided by their sum. The output is the sum of these experts' outputs with these weights
    (Mixtral, Jiang et al. 2024, section 2.1).

    Every expert is computed for every token, and most outputs get the weight 0. All shapes are thus
    known at compile time. The layer has the quality of a mixture of experts, but not its speed.

    In training, the layer adds the load-balancing loss of Switch Transformers (Fedus et al. 2021,
    section 2.2), which is smallest when the experts share the tokens evenly:
    `router_loss_weight * num_experts * sum_e f_e P_e`. Here `f_e` is the fraction of tokens that
    expert `e` receives, and `P_e` is the router's mean probability of expert `e`.

    Args:
        num_experts: Number of experts.
        num_experts_per_token: Number of experts that the router chooses for each token.
        intermediate_dim: Width inside each expert.
        activation: Activation of the experts, as in `FeedForward`.
        use_bias: Whether the experts' projections have biases. The router never has a bias.
        router_loss_weight: Weight of the load-balancing loss; 0 for none.
        kernel_initializer: Initializer of the kernels. Default: GPT-2's normal distribution with
            standard deviation 0.02.
        output_initializer: Initializer of the experts' last kernels. Default: `kernel_initializer`.
        kernel_regularizer: Regularizer of the kernels, or None.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: `(batch, length, hidden_dim)`.
        training: Whether the load-balancing loss is added.

    Returns:
        `(batch, length, hidden_dim)`.

    Raises:
        ValueError: `num_experts_per_token` is above `num_experts`, another argument is out of its
            range, or the input does not have three axes.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> experts = gk.layers.MixtureOfExperts(
        ...     num_experts=4, num_experts_per_token=2, intermediate_dim=32
        ... )
        >>> experts(np.zeros((2, 5, 8))).shape
        TensorShape([2, 5, 8])
    """

    def __init__(
        self,
        num_experts: int,
        num_experts_per_token: int,
        intermediate_dim: int,
        activation="swiglu",
        use_bias: bool = False,
        router_loss_weight: float = 0.01,
        kernel_initializer=None,
        output_initializer=None,
        kernel_regularizer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        check_positive_int("num_experts", num_experts)
        check_positive_int("num_experts_per_token", num_experts_per_token)
        if num_experts_per_token > num_experts:
            raise ValueError(
                f"`num_experts_per_token` must be at most `num_experts`={num_experts}, "
                f"got {num_experts_per_token}."
            )
        check_at_least_0("router_loss_weight", router_loss_weight)
        self.num_experts = num_experts
        self.num_experts_per_token = num_experts_per_token
        self.router_loss_weight = router_loss_weight
        self.kernel_initializer = keras.initializers.get(kernel_initializer or gpt2_normal())
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        # The router compares probabilities, so it computes in float32 with experts of any dtype.
        self.router = FloatDense(
            num_experts,
            use_bias=False,
            kernel_initializer=self.kernel_initializer,
            kernel_regularizer=self.kernel_regularizer,
            dtype="float32",
            name="router",
        )
        self.experts = [
            FeedForward(
                intermediate_dim,
                activation=activation,
                use_bias=use_bias,
                kernel_initializer=self.kernel_initializer,
                output_initializer=output_initializer,
                kernel_regularizer=self.kernel_regularizer,
                dtype=policy_below(self.dtype_policy, f"expert_{i}"),
                name=f"expert_{i}",
            )
            for i in range(num_experts)
        ]

    def build(self, input_shape):
        input_shape = tuple(input_shape)
        check_axes(input_shape, "batch", "length", "hidden_dim")
        for layer in (self.router, *self.experts):
            layer.build(input_shape)

    def call(self, x, training=None):
        check_axes(x.shape, "batch", "length", "hidden_dim")
        probabilities = ops.softmax(self.router(x))  # (batch, length, num_experts)
        largest, chosen = ops.top_k(probabilities, self.num_experts_per_token)
        largest = largest / ops.sum(largest, axis=-1, keepdims=True)
        # (batch, length, per token, experts)
        is_chosen = ops.one_hot(chosen, self.num_experts, dtype=probabilities.dtype)
        weights = ops.sum(largest[..., None] * is_chosen, axis=-2)  # (batch, length, num_experts)
        if training and self.router_loss_weight:
            loss = self.router_loss_weight * self._imbalance(probabilities, is_chosen)
            self.add_loss(ops.cast(loss, keras.config.floatx()))  # Keras adds losses of one dtype
        weights = ops.cast(weights, self.compute_dtype)
        y = 0
        for i, expert in enumerate(self.experts):
            y = y + weights[..., i : i + 1] * expert(x)
        return y

    def _imbalance(self, probabilities, is_chosen):
        """Return the load-balancing loss: `num_experts_per_token` for an even load."""
        share = ops.mean(ops.sum(is_chosen, axis=-2), axis=(0, 1))  # (num_experts,)
        return self.num_experts * ops.sum(share * ops.mean(probabilities, axis=(0, 1)))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        expert = self.experts[0].get_config()
        return {
            **super().get_config(),
            "dtype": serialized_policy(self),
            "num_experts": self.num_experts,
            "num_experts_per_token": self.num_experts_per_token,
            "intermediate_dim": expert["intermediate_dim"],
            "activation": expert["activation"],
            "use_bias": expert["use_bias"],
            "router_loss_weight": self.router_loss_weight,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "output_initializer": expert["output_initializer"],
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }
