"""The transformer block: attention and a feed-forward layer with residuals."""

import keras

from gpt_keras.checks import check_choice, check_positive, check_positive_int, check_rate
from gpt_keras.config import NORM_POSITIONS, NORMS
from gpt_keras.layers.activations import activation_function, serialized_activation
from gpt_keras.layers.attention import CausalMultiHeadAttention
from gpt_keras.layers.feed_forward import FeedForward
from gpt_keras.layers.initializers import gpt2_normal
from gpt_keras.layers.probing import probed
from gpt_keras.layers.quantized_sublayers import policy_below, serialized_policy
from gpt_keras.layers.rematerialization import rematerialized
from gpt_keras.layers.shapes import check_axes

# Arguments of the attention layer that users may pass to the block by mistake.
_OF_ATTENTION = ("head_dim", "use_qkv_bias", "use_qk_norm", "window", "causal")


@keras.saving.register_keras_serializable("gpt_keras")
class TransformerBlock(keras.layers.Layer):
    """A transformer block: causal attention and a feed-forward layer with residuals.

    Each of the two sub-layers has a norm, dropout and a residual connection:

    - `norm_position="pre"` (GPT-2, Radford et al. 2019, section 2.3):
      `x = x + attention(norm(x))`, then `x = x + feed_forward(norm(x))`.
    - `norm_position="post"` (GPT-1, and Vaswani et al. 2017, section 3.1):
      `x = norm(x + attention(x))`, then `x = norm(x + feed_forward(x))`.

    A `residual` layer, such as `GRUGate`, replaces both sums.

    A custom attention layer is a Keras layer from `(batch, length, hidden_dim)` to the same shape.
    Some uses need more:

    - A padding mask: `call` has an argument `padding_mask`. The block passes the implicit mask of
      its input only if the layer also has an attribute `causal` that is False.
    - Generation: `initial_cache(batch_size, length)` returns an empty KV cache, which is nested
      tuples of tensors `(batch, heads, length, dim)`. `extend(x, cache, index, starts, window)`
      returns the output for the new tokens and their part of the cache, as
      `CausalMultiHeadAttention.extend` does.
    - `gk.interpretation.attention_weights`: the layer has a method
      `attention_weights(x, padding_mask)`.

    Args:
        num_heads: Number of query heads. Required unless `attention` is given.
        num_key_value_heads: Number of key and value heads. Default: `num_heads`.
        intermediate_dim: Width inside the feed-forward layer. Default: `4 * hidden_dim`.
        activation: Activation of the feed-forward layer, as in `FeedForward`.
        dropout: Dropout rate, in [0, 1), for the attention weights and for the outputs of both
            sub-layers.
        norm: `"layer_norm"` or `"rms_norm"`.
        norm_position: `"pre"` or `"post"`.
        norm_epsilon: Number added to the variance inside the norms.
        use_bias: Whether the projections have biases.
        rotary_embedding: A `RotaryEmbedding` for queries and keys, or None.
        attention: A layer that replaces the default `CausalMultiHeadAttention`: a
            `CausalMultiHeadAttention` with other arguments, such as `window` or `causal`, or a
            custom layer. `num_heads`, `num_key_value_heads` and `rotary_embedding` must then be
            None, and the block's other arguments do not affect it.
        feed_forward: A layer that replaces the default `FeedForward`. `intermediate_dim` and
            `activation` then have no effect.
        residual: A layer that replaces the sum of the residual stream and a sub-layer's output. It
            is called with both tensors and built with both shapes. Each sub-layer gets a new layer
            with its config. None for sums.
        kernel_initializer: Initializer of the kernels. Default: GPT-2's normal distribution with
            standard deviation 0.02.
        residual_initializer: Initializer of the last kernel of each sub-layer, whose output is
            added to the residual stream. GPT-2 divides its standard deviation by
            `sqrt(2 * num_layers)`. Default: `kernel_initializer`.
        kernel_regularizer: Regularizer of the kernels of the layers that the block makes itself, or
            None.
        rematerialize: Gradient checkpointing: in training, the backward pass computes the
            activations inside the block again instead of storing them. Training is about a third
            slower and needs much less memory. Also an attribute, which can be set before the model
            is compiled.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: `(batch, length, hidden_dim)`.
        padding_mask: Padding mask, as in `CausalMultiHeadAttention`; only if the attention is not
            causal. Default: the implicit mask of `x`, if it has one.
        training: Whether dropout is active.

    Returns:
        `(batch, length, hidden_dim)`.

    Raises:
        ValueError: An argument is out of its range, both or neither of `num_heads` and `attention`
            are given, an argument belongs to the attention layer, or the input does not have three
            axes.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> gk.layers.TransformerBlock(num_heads=4)(np.zeros((2, 5, 16))).shape
        TensorShape([2, 5, 16])
        >>> attention = gk.layers.CausalMultiHeadAttention(num_heads=4, window=3)
        >>> gk.layers.TransformerBlock(attention=attention)(np.zeros((2, 5, 16))).shape
        TensorShape([2, 5, 16])
    """

    def __init__(
        self,
        num_heads: int | None = None,
        *,
        num_key_value_heads: int | None = None,
        intermediate_dim: int | None = None,
        activation="gelu_tanh",
        dropout: float = 0.0,
        norm: str = "layer_norm",
        norm_position: str = "pre",
        norm_epsilon: float = 1e-5,
        use_bias: bool = True,
        rotary_embedding=None,
        attention=None,
        feed_forward=None,
        residual=None,
        kernel_initializer=None,
        residual_initializer=None,
        kernel_regularizer=None,
        rematerialize: bool = False,
        **kwargs,
    ):
        for name in _OF_ATTENTION:
            if name in kwargs:
                raise ValueError(
                    f"`{name}` must be given to the attention layer, as in TransformerBlock("
                    f"attention=CausalMultiHeadAttention({num_heads or 'num_heads'}, "
                    f"{name}={kwargs[name]!r})); got it as an argument of the block."
                )
        super().__init__(**kwargs)
        if attention is None:
            if num_heads is None:
                raise ValueError("`num_heads` must be given unless `attention` is, got None.")
        else:
            given = {
                "num_heads": num_heads,
                "num_key_value_heads": num_key_value_heads,
                "rotary_embedding": rotary_embedding,
            }
            for name, value in given.items():
                if value is not None:
                    raise ValueError(
                        f"`{name}` must be None if `attention` is given, because it belongs to "
                        f"that layer; got {value!r}."
                    )
        if intermediate_dim is not None:
            check_positive_int("intermediate_dim", intermediate_dim)
        activation_function(activation)  # raises if there is none
        check_choice("norm", norm, NORMS)
        check_choice("norm_position", norm_position, NORM_POSITIONS)
        check_positive("norm_epsilon", norm_epsilon)
        self.intermediate_dim = intermediate_dim
        self.activation = activation
        self.norm = norm
        self.norm_position = norm_position
        self.norm_epsilon = norm_epsilon
        self.use_bias = use_bias
        self.supports_masking = True
        self.rematerialize = rematerialize
        self.kernel_initializer = keras.initializers.get(kernel_initializer or gpt2_normal())
        self.residual_initializer = keras.initializers.get(
            residual_initializer or self.kernel_initializer
        )
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        check_rate("dropout", dropout)
        self.dropout = dropout
        self._given_attention = attention is not None
        self.attention = attention
        if attention is None:
            self.attention = CausalMultiHeadAttention(
                num_heads,
                num_key_value_heads=num_key_value_heads,
                dropout=dropout,
                use_bias=use_bias,
                norm_epsilon=norm_epsilon,
                rotary_embedding=rotary_embedding,
                kernel_initializer=self.kernel_initializer,
                output_initializer=self.residual_initializer,
                kernel_regularizer=self.kernel_regularizer,
                dtype=policy_below(self.dtype_policy, "attention"),
                name="attention",
            )
        self.feed_forward = feed_forward
        self._given_feed_forward = feed_forward is not None
        self.attention_norm = self._make_norm("attention_norm")
        self.feed_forward_norm = self._make_norm("feed_forward_norm")
        self.residual_dropout = keras.layers.Dropout(
            dropout, dtype=self.dtype_policy, name="residual_dropout"
        )

        # Keep only the config of `residual`: Keras would track the layer, which is never built.
        self._residual_config = keras.saving.serialize_keras_object(residual)
        self.attention_residual = self._copy_of(residual, "attention_residual")
        self.feed_forward_residual = self._copy_of(residual, "feed_forward_residual")

    def _copy_of(self, layer, name):
        if layer is None:
            return None
        dtype = policy_below(self.dtype_policy, name)
        return type(layer).from_config({**layer.get_config(), "name": name, "dtype": dtype})

    def _make_norm(self, name):
        return make_norm(self.norm, self.norm_epsilon, dtype=self.dtype_policy, name=name)

    def build(self, input_shape):
        input_shape = tuple(input_shape)
        check_axes(input_shape, "batch", "length", "hidden_dim")
        if self.feed_forward is None:
            self.feed_forward = FeedForward(
                self.intermediate_dim or 4 * input_shape[-1],
                activation=self.activation,
                use_bias=self.use_bias,
                kernel_initializer=self.kernel_initializer,
                output_initializer=self.residual_initializer,
                kernel_regularizer=self.kernel_regularizer,
                dtype=policy_below(self.dtype_policy, "feed_forward"),
                name="feed_forward",
            )
        for layer in (
            self.attention_norm,
            self.attention,
            self.feed_forward_norm,
            self.feed_forward,
        ):
            if not layer.built:
                layer.build(input_shape)
        for layer in (self.attention_residual, self.feed_forward_residual):
            if layer is not None and not layer.built:
                layer.build(input_shape, input_shape)

    def call(self, x, padding_mask=None, training=None, mask=None):
        check_axes(x.shape, "batch", "length", "hidden_dim")
        if padding_mask is None and not getattr(self.attention, "causal", True):
            padding_mask = mask

        def run(x):
            return self._run(x, padding_mask, training)

        return rematerialized(self, run, x) if self.rematerialize and training else run(x)

    def _run(self, x, padding_mask, training):
        x = probed(self, "input", x)
        h = self._before(self.attention_norm, x)
        padding = {} if padding_mask is None else {"padding_mask": padding_mask}
        h = self.attention(h, **padding, training=training)
        h = self.residual_dropout(probed(self, "attention", h), training=training)
        x = self._after(self.attention_norm, _add(self.attention_residual, x, h))
        # Pass `training` explicitly: Keras's call context is lost under rematerialization.
        h = self.feed_forward(self._before(self.feed_forward_norm, x), training=training)
        h = self.residual_dropout(probed(self, "feed_forward", h), training=training)
        x = self._after(self.feed_forward_norm, _add(self.feed_forward_residual, x, h))
        return probed(self, "output", x)

    def extend(self, x, cache, index, starts, window=None):
        """Process new tokens with the KV cache of the earlier tokens.

        Args:
            x: The new tokens, `(batch, new, hidden_dim)`.
            cache: This block's cache, in the structure that `initial_cache` returns.
            index: Scalar, the position in the cache of the first new token.
            starts: `(batch,)`, the first valid position of each row; earlier ones are left padding.
            window: Largest number of tokens that a token sees, itself included; None for all.

        Returns:
            `(y, update)`: `y` has the shape of `x`; `update` holds the keys and values of the new
            tokens, for `gk.layers.write_cache`.
        """
        h, update = self.attention.extend(
            self._before(self.attention_norm, x), cache, index, starts, window
        )
        x = self._after(self.attention_norm, _add(self.attention_residual, x, h))
        h = self.feed_forward(self._before(self.feed_forward_norm, x))
        return self._after(self.feed_forward_norm, _add(self.feed_forward_residual, x, h)), update

    def attention_weights(self, x, padding_mask=None):
        """Return the weights of this block's attention layer.

        Args:
            x: The block's input, `(batch, length, hidden_dim)`.
            padding_mask: As in `CausalMultiHeadAttention.attention_weights`.

        Returns:
            `(batch, heads, length, length)`, float32.
        """
        return self.attention.attention_weights(self._before(self.attention_norm, x), padding_mask)

    def initial_cache(self, batch_size, length):
        """Return an empty KV cache of this block.

        Args:
            batch_size: Number of rows.
            length: Number of positions.
        """
        return self.attention.initial_cache(batch_size, length)

    def _before(self, norm, x):
        return norm(x) if self.norm_position == "pre" else x

    def _after(self, norm, x):
        return norm(x) if self.norm_position == "post" else x

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        feed_forward = self.feed_forward if self._given_feed_forward else None
        if self._given_attention:
            attention = {"attention": serialize(self.attention)}
        else:
            attention = {
                "num_heads": self.attention.num_heads,
                "num_key_value_heads": self.attention.num_key_value_heads,
                "rotary_embedding": serialize(self.attention.rotary_embedding),
            }
        return {
            **super().get_config(),
            "dtype": serialized_policy(self),
            **attention,
            "intermediate_dim": self.intermediate_dim,
            "activation": serialized_activation(self.activation),
            "dropout": self.dropout,
            "norm": self.norm,
            "norm_position": self.norm_position,
            "norm_epsilon": self.norm_epsilon,
            "use_bias": self.use_bias,
            "feed_forward": serialize(feed_forward),
            "residual": self._residual_config,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "residual_initializer": keras.initializers.serialize(self.residual_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "rematerialize": self.rematerialize,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for name in ("rotary_embedding", "attention", "feed_forward", "residual"):
            config[name] = keras.saving.deserialize_keras_object(config.get(name))
        return cls(**config)


def _add(residual, x, h):
    return x + h if residual is None else residual(x, h)


def make_norm(norm: str, epsilon: float, **kwargs) -> keras.layers.Layer:
    """Return a Keras normalization layer, which computes in float32.

    Args:
        norm: `"layer_norm"` or `"rms_norm"`.
        epsilon: Number added to the variance.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.
    """
    if norm == "layer_norm":
        return keras.layers.LayerNormalization(epsilon=epsilon, **kwargs)
    layer = keras.layers.RMSNormalization(epsilon=epsilon, **kwargs)
    layer.supports_masking = True  # Keras 3.15 sets this for LayerNormalization only
    return layer
