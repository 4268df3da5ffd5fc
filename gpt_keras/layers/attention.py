"""Multi-head attention, over a whole sequence or with a KV cache."""

import keras
from keras import ops

from gpt_keras.checks import check_head_groups, check_positive, check_positive_int, check_rate
from gpt_keras.layers.device import has_gpu
from gpt_keras.layers.initializers import gpt2_normal
from gpt_keras.layers.probing import probed
from gpt_keras.layers.projection import dense
from gpt_keras.layers.quantized_sublayers import serialized_policy
from gpt_keras.layers.shapes import check_axes

# Score of a masked key, finite in float32. A row without a visible key (left padding) then gives an
# average, which is never read, and not NaN.
_MASKED = -1e30

# Smallest number of queries in a block. Long sequences have larger blocks, at most _MOST_BLOCKS.
# Smaller blocks would save little more, and each block takes time to compile.
_BLOCK = 64
_MOST_BLOCKS = 8


@keras.saving.register_keras_serializable("gpt_keras")
class CausalMultiHeadAttention(keras.layers.Layer):
    """Causal multi-head self-attention with an optional KV cache.

    Each head computes `softmax(Q K^T / sqrt(head_dim)) V`, with the softmax in float32 (Vaswani et
    al. 2017, section 3.2). With fewer key and value heads than query heads it is grouped-query
    attention (Ainslie et al. 2023). With one key and value head it is multi-query attention
    (Shazeer 2019).

    By default, a token sees itself and all earlier tokens (causal mask). With a `window`, attention
    is locally banded: a token sees itself and the `window - 1` tokens before it (Sparse
    Transformer, Child et al. 2019; GPT-3; Mistral). With `causal=False`, a token also sees later
    tokens, as in an encoder.

    Calling the layer processes a whole sequence. `extend` processes new tokens with a KV cache: the
    keys and values of the earlier tokens.

    Args:
        num_heads: Number of query heads.
        num_key_value_heads: Number of key and value heads, a divisor of `num_heads`. Default:
            `num_heads`.
        head_dim: Width of a head. Default: `hidden_dim / num_heads`.
        dropout: Dropout rate for the attention weights, in [0, 1).
        use_bias: Whether the four projections have biases.
        use_qkv_bias: Whether the projections to queries, keys and values have biases. Default:
            `use_bias`.
        use_qk_norm: Whether the queries and keys of each head pass through an RMSNorm before the
            rotary embedding (query-key normalization, Henry et al. 2020).
        norm_epsilon: Number added to the mean square inside these norms.
        window: Number of tokens that a token sees, itself included; None for all. With
            `causal=False`, a token also sees the `window - 1` tokens after it.
        causal: Whether a token sees only itself and earlier tokens.
        rotary_embedding: A `RotaryEmbedding` that rotates queries and keys, or None.
        kernel_initializer: Initializer of the query, key and value kernels. Default: GPT-2's normal
            distribution with standard deviation 0.02.
        output_initializer: Initializer of the output kernel. Default: `kernel_initializer`.
        kernel_regularizer: Regularizer of the four kernels, or None.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: `(batch, length, hidden_dim)`.
        padding_mask: `(batch, length)` bool, False for padding, which no token may see. Default:
            the implicit mask of `x`, as `Embedding(mask_zero=True)` makes it, if there is one. Only
            with `causal=False`: in causal attention a token never sees right padding.
        training: Whether dropout is active.

    Returns:
        `(batch, length, hidden_dim)`.

    Raises:
        ValueError: The heads do not divide evenly, another argument is out of its range, the input
            does not have three axes, or `padding_mask` is given to causal attention.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> attention = gk.layers.CausalMultiHeadAttention(num_heads=4)
        >>> attention(np.zeros((2, 5, 16))).shape
        TensorShape([2, 5, 16])
    """

    def __init__(
        self,
        num_heads: int,
        num_key_value_heads: int | None = None,
        head_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        use_qkv_bias: bool | None = None,
        use_qk_norm: bool = False,
        norm_epsilon: float = 1e-5,
        window: int | None = None,
        causal: bool = True,
        rotary_embedding=None,
        kernel_initializer=None,
        output_initializer=None,
        kernel_regularizer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        check_positive_int("num_heads", num_heads)
        self.num_heads = num_heads
        self.num_key_value_heads = num_heads if num_key_value_heads is None else num_key_value_heads
        check_positive_int("num_key_value_heads", self.num_key_value_heads)
        check_head_groups(self.num_heads, self.num_key_value_heads)
        if head_dim is not None:
            check_positive_int("head_dim", head_dim)
        self.head_dim = head_dim
        check_rate("dropout", dropout)
        self.dropout = dropout
        self.use_bias = use_bias
        self.use_qkv_bias = use_bias if use_qkv_bias is None else use_qkv_bias
        self.use_qk_norm = use_qk_norm
        check_positive("norm_epsilon", norm_epsilon)
        self.norm_epsilon = norm_epsilon
        if window is not None:
            check_positive_int("window", window)
        self.window = window
        self.causal = causal
        self.rotary_embedding = rotary_embedding
        self.kernel_initializer = keras.initializers.get(kernel_initializer or gpt2_normal())
        self.output_initializer = keras.initializers.get(
            output_initializer or self.kernel_initializer
        )
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape):
        input_shape = tuple(input_shape)
        check_axes(input_shape, "batch", "length", "hidden_dim")
        hidden_dim = input_shape[-1]
        if self.head_dim is None:
            if hidden_dim % self.num_heads:
                raise ValueError(
                    f"`num_heads` must divide the width of the input unless `head_dim` is given, "
                    f"got num_heads={self.num_heads} and a width of {hidden_dim}."
                )
            self.head_dim = hidden_dim // self.num_heads
        query_dim = self.num_heads * self.head_dim
        key_value_dim = self.num_key_value_heads * self.head_dim
        self.query = self._qkv_dense(query_dim, "query")
        self.key = self._qkv_dense(key_value_dim, "key")
        self.value = self._qkv_dense(key_value_dim, "value")
        self.output_projection = dense(
            hidden_dim,
            self.use_bias,
            self.output_initializer,
            dtype=self.dtype_policy,
            name="output",
            regularizer=self.kernel_regularizer,
        )
        for projection in (self.query, self.key, self.value):
            projection.build(input_shape)
        self.output_projection.build((*input_shape[:-1], query_dim))
        if self.use_qk_norm:
            self.query_norm = self._head_norm("query_norm")
            self.key_norm = self._head_norm("key_norm")
        self.weights_dropout = keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy, name="weights_dropout"
        )
        if self.rotary_embedding is not None and not self.rotary_embedding.built:
            self.rotary_embedding.build((None, self.num_heads, None, self.head_dim))

    def _head_norm(self, name):
        norm = keras.layers.RMSNormalization(
            epsilon=self.norm_epsilon, dtype=self.dtype_policy, name=name
        )
        norm.build((None, None, None, self.head_dim))
        return norm

    def _qkv_dense(self, units, name):
        return dense(
            units,
            self.use_qkv_bias,
            self.kernel_initializer,
            dtype=self.dtype_policy,
            name=name,
            regularizer=self.kernel_regularizer,
        )

    def call(self, x, padding_mask=None, training=None, mask=None):
        check_axes(x.shape, "batch", "length", "hidden_dim")
        if padding_mask is not None and self.causal:
            raise ValueError(
                "`padding_mask` must be None for causal attention, in which a token never sees "
                "right padding; pass sample weights of 0 for the padding to the loss instead."
            )
        if padding_mask is None and not self.causal:
            padding_mask = mask
        query, key, value = self._project(x, positions=None)  # (batch, heads, length, head_dim)
        position = ops.arange(ops.shape(x)[1], dtype="int32")
        if padding_mask is not None:
            padding_mask = ops.cast(padding_mask, "bool")[:, None, None, None, :]
        if has_gpu() and not (training and self.dropout):
            mask = self._sees(position[:, None], position[None, :])[None, None]
            if padding_mask is not None:
                mask = mask & padding_mask[:, 0]
            return self._output([_fused(query, key, value, mask)])
        mixed = []
        for queries, keys in self._blocks(x.shape[1]):
            mask = self._sees(position[queries, None], position[None, keys])
            if padding_mask is not None:
                mask = mask & padding_mask
            part = query[:, :, queries], [key[:, :, keys]], [value[:, :, keys]]
            mixed.append(self._mix(*part, mask, training))
        return self._output(mixed)

    def _blocks(self, length):
        """Return slices of queries, each with the slice of the keys that its queries see.

        Products of all queries and all keys would be about twice the work that causal attention
        needs, and with a short window many times the work.
        """
        if not self.causal or length is None or length <= _BLOCK:
            return [(slice(None), slice(None))]
        size = _BLOCK * -(-length // (_BLOCK * _MOST_BLOCKS))
        blocks = []
        for first in range(0, length, size):
            end = min(first + size, length)
            first_key = 0 if self.window is None else max(0, first - self.window + 1)
            blocks.append((slice(first, end), slice(first_key, end)))
        return blocks

    def _sees(self, query, key):
        """Return whether the token at position `query` sees the token at `key`."""
        if not self.causal:
            return (
                ops.ones_like(query - key, "bool")
                if self.window is None
                else ops.abs(query - key) < self.window
            )
        sees = query >= key
        return sees if self.window is None else sees & (query - key < self.window)

    def extend(self, x, cache, index, starts, window=None):
        """Compute attention from new tokens to the KV cache and to each other.

        Args:
            x: The new tokens, `(batch, new, hidden_dim)`.
            cache: `(keys, values)` of the earlier tokens, each `(batch, num_key_value_heads,
                cached, head_dim)`. Positions from `index` on are ignored.
            index: Scalar, the position in the cache of the first new token.
            starts: `(batch,)`, the first valid position of each row; earlier positions are left
                padding. Negative for rows whose first positions are no longer in the cache.
            window: Largest number of tokens that a token sees, itself included, in addition to the
                layer's own `window`; None for no further limit.

        Returns:
            `(y, update)`: `y` has the shape of `x`; `update` is the `(keys, values)` of the new
            tokens alone, for `gk.layers.write_cache`.

        Raises:
            ValueError: The attention is not causal.

        Example:
            >>> import gpt_keras as gk, numpy as np
            >>> attention = gk.layers.CausalMultiHeadAttention(num_heads=4)
            >>> attention.build((None, None, 16))
            >>> cache = attention.initial_cache(batch_size=1, length=8)
            >>> x = np.zeros((1, 3, 16), "float32")
            >>> y, update = attention.extend(x, cache, index=0, starts=[0])
            >>> y.shape, update[0].shape
            (TensorShape([1, 3, 16]), TensorShape([1, 4, 3, 4]))
            >>> cache = gk.layers.write_cache(cache, update, 0)
        """
        if not self.causal:
            raise ValueError(
                "`extend` needs causal attention: with `causal=False`, earlier tokens see new ones."
            )
        index, starts = ops.cast(index, "int32"), ops.cast(starts, "int32")
        new = index + ops.arange(ops.shape(x)[1], dtype="int32")  # (new,)
        cached = ops.arange(ops.shape(cache[0])[2], dtype="int32")  # (cached,)
        positions = ops.maximum(new[None, :] - starts[:, None], 0)  # (batch, new)
        query, key, value = self._project(x, positions)

        query_position, cached_position = new[None, :, None], cached[None, None, :]
        sees_cached = (cached_position < index) & self._sees(query_position, cached_position)
        sees_new = self._sees(query_position, new[None, None, :])
        sees = ops.concatenate([sees_cached, sees_new], axis=-1)  # (1, new, cached + new)
        columns = ops.concatenate([cached, new])
        if window is not None:
            sees = sees & (query_position - columns[None, None, :] < window)
        valid = columns[None, None, :] >= starts[:, None, None]  # (batch, 1, cached + new)
        mask = (sees & valid)[:, None, None]  # one mask for all heads
        keys, values = [cache[0], key], [cache[1], value]
        mixed = self._mix(query, keys, values, mask, training=False)
        return self._output([mixed]), (key, value)

    def attention_weights(self, x, padding_mask=None):
        """Return the attention weights of an input, without dropout.

        Args:
            x: The layer's input, `(batch, length, hidden_dim)`.
            padding_mask: As in the call of the layer. Default: the implicit mask of `x`.

        Returns:
            `(batch, num_heads, length, length)`, float32: for each query the weights of the keys.
        """
        if padding_mask is None and not self.causal:
            padding_mask = getattr(x, "_keras_mask", None)
        query, key, _ = self._project(x, positions=None)
        key = ops.repeat(key, self.num_heads // self.num_key_value_heads, axis=1)
        scores = ops.matmul(query * self.head_dim**-0.5, ops.transpose(key, (0, 1, 3, 2)))
        position = ops.arange(ops.shape(x)[1], dtype="int32")
        mask = self._sees(position[:, None], position[None, :])
        if padding_mask is not None:
            mask = mask & ops.cast(padding_mask, "bool")[:, None, None, :]
        return _softmax(scores, mask)

    def initial_cache(self, batch_size, length):
        """Return an empty KV cache.

        Args:
            batch_size: Number of rows.
            length: Number of positions.

        Returns:
            `(keys, values)`, each `(batch_size, num_key_value_heads, length, head_dim)` of zeros.
        """
        shape = (batch_size, self.num_key_value_heads, length, self.head_dim)
        return ops.zeros(shape, self.compute_dtype), ops.zeros(shape, self.compute_dtype)

    def _project(self, x, positions):
        """Return queries, keys and values, each `(batch, heads, length, head_dim)`."""
        query = self._split_heads(self.query(x), self.num_heads)
        key = self._split_heads(self.key(x), self.num_key_value_heads)
        value = self._split_heads(self.value(x), self.num_key_value_heads)
        if self.use_qk_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        if self.rotary_embedding is not None:
            query = self.rotary_embedding(query, positions=positions)
            key = self.rotary_embedding(key, positions=positions)
        return query, key, value

    def _split_heads(self, x, num_heads):
        batch, length = ops.shape(x)[0], ops.shape(x)[1]
        x = ops.reshape(x, (batch, length, num_heads, self.head_dim))
        return ops.transpose(x, (0, 2, 1, 3))  # (batch, heads, length, head_dim)

    def _mix(self, query, keys, values, mask, training):
        """Return the values weighted by attention: `(batch, heads, length, head_dim)`.

        `keys` and `values` are lists of pieces (cached and new), which are never concatenated: that
        would copy the cache. Query heads that share a key head are adjacent, so they become rows of
        one product: `(batch, key heads, group * length, head_dim)`.
        """
        batch, length = ops.shape(query)[0], ops.shape(query)[2]
        group = self.num_heads // self.num_key_value_heads
        grouped = (batch, self.num_key_value_heads, group * length, self.head_dim)
        query = ops.reshape(query * self.head_dim**-0.5, grouped)

        scores = [ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) for key in keys]
        scores = ops.concatenate(scores, axis=-1) if len(scores) > 1 else scores[0]
        num_keys = ops.shape(scores)[-1]
        scores = ops.reshape(scores, (batch, self.num_key_value_heads, group, length, num_keys))
        weights = ops.cast(_softmax(scores, mask), query.dtype)
        weights = self.weights_dropout(weights, training=training)
        weights = ops.reshape(weights, (*grouped[:-1], num_keys))

        mixed, first = 0, 0
        for value in values:
            last = first + ops.shape(value)[2]
            mixed = mixed + ops.matmul(weights[..., first:last], value)
            first = last
        return ops.reshape(mixed, (batch, self.num_heads, length, self.head_dim))

    def _output(self, mixed):
        """Return the output projection of blocks of heads' outputs.

        Args:
            mixed: List of blocks of queries, each `(batch, heads, length, head_dim)`.
        """
        mixed = ops.concatenate(mixed, axis=2) if len(mixed) > 1 else mixed[0]
        mixed = probed(self, "heads", ops.transpose(mixed, (0, 2, 1, 3)))
        batch, length = ops.shape(mixed)[0], ops.shape(mixed)[1]
        mixed = ops.reshape(mixed, (batch, length, self.num_heads * self.head_dim))
        return self.output_projection(mixed)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "dtype": serialized_policy(self),
            "num_heads": self.num_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "use_qkv_bias": self.use_qkv_bias,
            "use_qk_norm": self.use_qk_norm,
            "norm_epsilon": self.norm_epsilon,
            "window": self.window,
            "causal": self.causal,
            "rotary_embedding": keras.saving.serialize_keras_object(self.rotary_embedding),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "output_initializer": keras.initializers.serialize(self.output_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["rotary_embedding"] = keras.saving.deserialize_keras_object(
            config["rotary_embedding"]
        )
        return cls(**config)


def _fused(query, key, value, mask):
    """Return attention by Keras's `dot_product_attention`, which is fused on GPUs.

    It has no dropout. This path is not tested on a GPU yet; `scripts/check_gpu.py` is the test.
    """
    group = query.shape[1] // key.shape[1]
    parts = query, ops.repeat(key, group, axis=1), ops.repeat(value, group, axis=1)
    parts = (ops.transpose(part, (0, 2, 1, 3)) for part in parts)
    return ops.transpose(ops.dot_product_attention(*parts, mask=mask), (0, 2, 1, 3))


def _softmax(scores, mask):
    """Return the softmax over keys in float32; masked keys get the weight 0."""
    if scores.shape[-1] == 1:  # a prompt of one token; Keras warns about a softmax over one number
        return ops.ones_like(scores, dtype="float32")
    return ops.softmax(ops.where(mask, ops.cast(scores, "float32"), _MASKED), axis=-1)
