"""The GPT network, from token ids to logits."""

import contextlib
import contextvars
import dataclasses

import keras
from keras import ops

from gpt_keras.config import GPTConfig
from gpt_keras.generation.backbone import Backbone
from gpt_keras.layers import (
    CausalMultiHeadAttention,
    MixtureOfExperts,
    PositionalEmbedding,
    RotaryEmbedding,
    SinusoidalPositionalEncoding,
    TransformerBlock,
)
from gpt_keras.layers.initializers import STANDARD_DEVIATION
from gpt_keras.layers.positional_embedding import check_length
from gpt_keras.layers.quantized_sublayers import (
    dtype_arguments,
    fast_and_quiet,
    policy_below,
    serialized_policy,
)
from gpt_keras.layers.shapes import check_axes
from gpt_keras.layers.transformer_block import make_norm
from gpt_keras.layers.xla_cpu import computed_once
from gpt_keras.models.adapters import Adaptable
from gpt_keras.models.saved_state import make_from_config, saved_state
from gpt_keras.models.vocabulary import check_token_ids_if_known, with_more_rows

_RANDOM_WEIGHTS = contextvars.ContextVar("random_weights", default=True)


@keras.saving.register_keras_serializable("gpt_keras")
class GPT(Adaptable, Backbone, keras.Model):
    """Decoder-only transformer: embeddings, blocks, a final norm, logits.

    It is a functional Keras model, so `summary()`, `plot_model` and outputs of inner layers work.
    A call runs whole sequences. Generation uses `initial_cache`, `extend` and `write` instead,
    which run only new tokens, against a KV cache.

    The initial weights are GPT-2's: normal with standard deviation 0.02, 0.01 for position
    embeddings, and `0.02 / sqrt(2 * num_layers)` for projections into the residual stream (Radford
    et al. 2019, section 2.3). With `norm_position="post"`, as in GPT-1, these projections have
    0.02 as well.

    Args:
        config: A `GPTConfig`.
        residual: A layer such as `GRUGate` that replaces the residual sums in every block. The
            config's `num_parameters` does not count its weights.
        dtype: Dtype policy of every layer, such as `"mixed_bfloat16"`. Logits are always float32.
            Default: Keras's global policy.
        name: Name of the model.
        rematerialize: Whether the backward pass recomputes the activations inside each block
            instead of storing them (gradient checkpointing, Chen et al. 2016). Training is a third
            slower and needs much less memory.

    Call arguments:
        token_ids: Integers, `(batch, length)`. If the config is not causal, a dict of `token_ids`
            and the bool `padding_mask`, `(batch, length)`, which is False at padding.

    Returns:
        Logits, float32, `(batch, length, vocabulary_size)`. Each position predicts the next token,
        or the token itself if the config is not causal.

    Raises:
        ValueError: `config` is not a `GPTConfig`, the input is not `(batch, length)`, the sequence
            is longer than `max_sequence_length`, or a token id is outside the vocabulary. Ids are
            checked only outside compiled functions, where their values are known.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> config = gk.GPTConfig(vocabulary_size=100, max_sequence_length=16, num_layers=2,
        ...                       num_heads=2, hidden_dim=8)
        >>> gpt = gk.GPT(config)
        >>> gpt(np.array([[1, 2, 3]])).shape
        TensorShape([1, 3, 100])
        >>> gpt.count_params() == config.num_parameters
        True
    """

    def __init__(
        self,
        config: GPTConfig,
        residual=None,
        dtype=None,
        name: str = "gpt",
        rematerialize: bool = False,
    ):
        if not isinstance(config, GPTConfig):
            raise ValueError(f"`config` must be a GPTConfig, got {config!r}.")
        policy = keras.dtype_policies.get(dtype)

        # Layers
        self.token_embedding = keras.layers.ReversibleEmbedding(
            config.vocabulary_size,
            config.hidden_dim,
            tie_weights=config.tie_embeddings,
            embeddings_initializer=_normal(STANDARD_DEVIATION),
            name="token_embedding",
            **dtype_arguments(policy, "token_embedding"),
        )
        self.position_embedding = _position_embedding(config, policy)
        self.embedding_dropout = keras.layers.Dropout(
            config.dropout, dtype=policy, name="embedding_dropout"
        )
        self.blocks = [_block(config, i, residual, policy) for i in range(config.num_layers)]
        self.final_norm = None
        if config.norm_position == "pre":
            self.final_norm = make_norm(
                config.norm, config.norm_epsilon, dtype=policy, name="final_norm"
            )
        self.logits = keras.layers.Activation("linear", dtype="float32", name="logits")

        # Functional graph
        inputs = keras.Input((None,), dtype="int32", name="token_ids")
        if not config.causal:
            padding_mask = keras.Input((None,), dtype="bool", name="padding_mask")
            inputs = {"token_ids": inputs, "padding_mask": padding_mask}
        x = self.hidden_states(inputs)  # (batch, length, hidden_dim)
        super().__init__(inputs=inputs, outputs=self.unembed(x), name=name)

        # Config
        self.config = config
        self._residual_config = keras.saving.serialize_keras_object(residual)
        self.dtype_policy = policy
        self.rematerialize = rematerialize

    def hidden_states(self, inputs, training=None):
        """Return the final hidden states, the input of `unembed`.

        Args:
            inputs: The inputs of a call of the model.
            training: Whether dropout is active.

        Returns:
            `(batch, length, hidden_dim)`, after the final norm if there is one.
        """
        token_ids, padding = inputs, {}
        if isinstance(inputs, dict):  # the config is not causal
            token_ids, padding = inputs["token_ids"], {"padding_mask": inputs["padding_mask"]}
        x = self._embed(token_ids)
        x = self.embedding_dropout(x, training=training)
        for block in self.blocks:
            x = block(x, **padding, training=training)
        return x if self.final_norm is None else self.final_norm(x)

    def _embed(self, token_ids, **positions):
        """Return the input of the first block; `positions` go to the position embedding."""
        x = self.token_embedding(token_ids)
        if self.position_embedding is None:
            return x
        if isinstance(self.position_embedding, SinusoidalPositionalEncoding):
            x = x * x.shape[-1] ** 0.5
        return self.position_embedding(x, **positions)

    def unembed(self, hidden_states):
        """Return the logits of final hidden states, `(..., vocabulary_size)` float32."""
        return self.logits(self.token_embedding(hidden_states, reverse=True))

    @property
    def rematerialize(self) -> bool:
        """True if training uses gradient checkpointing; may be set before `compile`."""
        return all(block.rematerialize for block in self.blocks)

    @rematerialize.setter
    def rematerialize(self, value: bool):
        for block in self.blocks:
            block.rematerialize = value

    @property
    def max_sequence_length(self) -> int:
        """Longest sequence of the model, in tokens."""
        return self.config.max_sequence_length

    @property
    def has_learned_positions(self) -> bool:
        """True if positions are learned, so that `max_sequence_length` is a hard limit."""
        return self.config.position_embedding == "learned"

    @property
    def hidden_dim(self) -> int:
        """Width of the hidden states."""
        return self.config.hidden_dim

    def call(self, inputs, training=None, mask=None):
        token_ids = inputs if self.config.causal else inputs["token_ids"]
        check_axes(token_ids.shape, "batch", "length")
        check_length(token_ids, self.config.max_sequence_length)
        check_token_ids_if_known(token_ids, self.config.vocabulary_size)
        return super().call(inputs, training=training, mask=mask)

    def initial_cache(self, batch_size, length):
        """Return an empty KV cache: `(keys, values)` of each block.

        Args:
            batch_size: Number of sequences.
            length: Number of positions in the cache.

        Returns:
            A list of pairs of tensors `(batch_size, num_key_value_heads, length, head_dim)`.
        """
        return [block.initial_cache(batch_size, length) for block in self.blocks]

    def extend(self, token_ids, cache, index, starts, window=None):
        """Run new tokens against the KV cache of earlier tokens.

        Prompts of different lengths are left-padded, so that all rows end together. Row `i` begins
        at `starts[i]` of the cache, and this is its position 0.

        Args:
            token_ids: The new tokens, `(batch, new)`.
            cache: A cache of `initial_cache`, which `write` has filled up to `index`.
            index: Scalar, position in the cache of the first new token.
            starts: `(batch,)`, position in the cache of each row's first token; negative if `move`
                has dropped the first tokens.
            window: Most tokens that a token attends to, itself included; None for all.

        Returns:
            `(logits, update)`: logits `(batch, new, vocabulary_size)`, and the keys and values of
            the new tokens. `write` copies them into the cache.

        Example:
            >>> import gpt_keras as gk, numpy as np
            >>> gpt = gk.GPT(gk.presets.get("tiny"))
            >>> cache = gpt.initial_cache(batch_size=1, length=8)
            >>> logits, update = gpt.extend(np.array([[1, 2, 3]]), cache, 0, np.array([0]))
            >>> cache = gpt.write(cache, update, 0)
            >>> logits.shape
            TensorShape([1, 3, 256])
        """
        index, starts = ops.cast(index, "int32"), ops.cast(starts, "int32")
        positions = index + ops.arange(ops.shape(token_ids)[1], dtype="int32")
        positions = ops.maximum(positions[None, :] - starts[:, None], 0)  # (batch, new)
        if self.has_learned_positions:
            # Speculative decoding may guess tokens past the last position. Nobody reads their
            # logits, so any position will do.
            positions = ops.minimum(positions, self.max_sequence_length - 1)
        x = self._embed(token_ids, positions=positions)
        updates = []
        for block, block_cache in zip(self.blocks, cache, strict=True):
            x, update = block.extend(x, block_cache, index, starts, window)
            updates.append(update)
        x = x if self.final_norm is None else self.final_norm(x)
        return self.unembed(computed_once(ops.cast(x, "float32"))), updates

    def with_vocabulary_size(self, vocabulary_size: int) -> "GPT":
        """Return a copy with more token ids, for example for special tokens of a task.

        Args:
            vocabulary_size: Number of ids of the copy.

        Returns:
            A new model. The rows of the new ids are initialized at random, as in a new model. All
            other weights are copied.

        Raises:
            ValueError: `vocabulary_size` is below the model's own, or the model is quantized.

        Example:
            >>> import gpt_keras as gk
            >>> gpt = gk.GPT(gk.presets.get("tiny"))
            >>> gpt.with_vocabulary_size(259).config.vocabulary_size
            259
        """
        config = dataclasses.replace(self.config, vocabulary_size=vocabulary_size)
        return with_more_rows(self, vocabulary_size, {"config": config.to_dict()})

    def quantize(self, mode=None, config=None, **kwargs):
        """Quantize the weights in place, as `keras.Model.quantize` but faster.

        Args:
            mode: `"int8"` or another mode of Keras. It quantizes the inputs of each layer too.
            config: Instead of `mode`, a `keras.quantizers.QuantizationConfig`. For example,
                `Int8QuantizationConfig(activation_quantizer=None)` quantizes only the weights.
            **kwargs: `filters`, as in Keras.
        """
        with fast_and_quiet():
            super().quantize(mode=mode, config=config, **kwargs)

    def get_config(self):
        # `keras.models.clone_model` turns a functional model into a plain one, without the cache
        # methods. `GPT.from_config(gpt.get_config())` keeps them; cloning a CausalLM does this.
        return {
            "config": self.config.to_dict(),
            "residual": self._residual_config,
            "rematerialize": self.rematerialize,
            "dtype": serialized_policy(self),
            "name": self.name,
            **saved_state(self),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["config"] = GPTConfig.from_dict(config["config"])
        config["residual"] = keras.saving.deserialize_keras_object(config.get("residual"))
        return make_from_config(cls, config)


@contextlib.contextmanager
def random_weights(value: bool):
    """Choose random or zero initial weights for each `GPT` built inside the block.

    Zeros are enough for a model whose weights are loaded next. Random numbers take time, and more
    memory than the weights themselves.

    Args:
        value: True for random weights, False for zeros.
    """
    token = _RANDOM_WEIGHTS.set(value)
    try:
        yield
    finally:
        _RANDOM_WEIGHTS.reset(token)


def _normal(stddev):
    if not _RANDOM_WEIGHTS.get():
        return keras.initializers.Zeros()
    return keras.initializers.RandomNormal(stddev=stddev)


def _position_embedding(config, policy):
    match config.position_embedding:
        case "learned":
            return PositionalEmbedding(
                config.max_sequence_length,
                initializer=_normal(0.01),
                dtype=policy,
                name="position_embedding",
            )
        case "sinusoidal":
            return SinusoidalPositionalEncoding(dtype=policy, name="position_embedding")
        case _:
            return None  # rotary positions belong to the attention layers


def _block(config, layer, residual, policy):
    policy = policy_below(policy, f"block_{layer}")
    # Post-norm blocks normalize the residual stream itself. It does not grow with the depth, so
    # the projections into it need no smaller weights.
    into_stream = (2 * config.num_layers) ** -0.5 if config.norm_position == "pre" else 1.0
    residual_initializer = _normal(STANDARD_DEVIATION * into_stream)
    kernel_initializer = _normal(STANDARD_DEVIATION)
    feed_forward = None
    if config.num_experts is not None:
        feed_forward = MixtureOfExperts(
            config.num_experts,
            config.num_experts_per_token,
            config.intermediate_dim,
            activation=config.activation,
            use_bias=config.use_feed_forward_bias,
            router_loss_weight=config.router_loss_weight,
            kernel_initializer=kernel_initializer,
            output_initializer=residual_initializer,
            dtype=policy_below(policy, "feed_forward"),
            name="feed_forward",
        )
    rotary_embedding = None
    if config.position_embedding == "rotary":
        rotary_embedding = RotaryEmbedding(
            config.rotary_base,
            scaling=config.rotary_scaling,
            dtype=policy,
            name="rotary_embedding",
        )
    attention = CausalMultiHeadAttention(
        config.num_heads,
        num_key_value_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        dropout=config.dropout,
        use_bias=config.use_bias,
        use_qkv_bias=config.use_qkv_bias,
        use_qk_norm=config.use_qk_norm,
        norm_epsilon=config.norm_epsilon,
        window=config.attention_window(layer),
        causal=config.causal,
        rotary_embedding=rotary_embedding,
        kernel_initializer=kernel_initializer,
        output_initializer=residual_initializer,
        dtype=policy_below(policy, "attention"),
        name="attention",
    )
    return TransformerBlock(
        attention=attention,
        intermediate_dim=config.intermediate_dim,
        activation=config.activation,
        dropout=config.dropout,
        norm=config.norm,
        norm_position=config.norm_position,
        norm_epsilon=config.norm_epsilon,
        use_bias=config.use_feed_forward_bias,
        feed_forward=feed_forward,
        residual=residual,
        kernel_initializer=kernel_initializer,
        residual_initializer=residual_initializer,
        dtype=policy,
        name=f"block_{layer}",
    )
