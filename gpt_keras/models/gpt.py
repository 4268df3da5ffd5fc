"""The GPT network: token ids in, logits out."""

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
from gpt_keras.models.frozen import frozen_layers, make_from_config
from gpt_keras.models.vocabulary import check_token_ids_if_known, with_more_rows

_RANDOM_WEIGHTS = contextvars.ContextVar("random_weights", default=True)


@keras.saving.register_keras_serializable("gpt_keras")
class GPT(Backbone, keras.Model):
    """Decoder-only transformer: embeddings, blocks, a final norm, logits.

    A functional Keras model, so that `summary()`, `plot_model` and inner outputs work. Calling it
    runs whole sequences; `initial_cache`, `extend` and `write` run new tokens against a cache,
    which is what generation uses.

    The initial weights are GPT-2's: normal with deviation 0.02, 0.01 for positions, and
    `0.02 / sqrt(2 * num_layers)` for the projections into the residual stream (Radford et al. 2019,
    section 2.3). With `norm_position="post"`, as in GPT-1, those have 0.02, too.

    Args:
        config: A `GPTConfig`.
        residual: A layer such as `GRUGate` that takes the place of the sums in every block; its
            weights are not among the config's `num_parameters`.
        dtype: Dtype policy of every layer, such as `"mixed_bfloat16"`. Logits are always float32.
            Default: Keras's global policy.
        name: Name of the model.
        rematerialize: Whether training computes what is inside the blocks a second time instead of
            keeping it until the gradient is made: a third slower, in much less memory.

    Call arguments:
        token_ids: integers, `(batch, length)`. If the config is not causal, a dict of `token_ids`
            and `padding_mask`, `(batch, length)` bool, False where a token is padding.

    Returns:
        Logits of the next token (without `causal`: of the token itself) at each position, float32,
        `(batch, length, vocabulary_size)`.

    Raises:
        ValueError: The input is not `(batch, length)`, the sequence is longer than
            `max_sequence_length`, or (outside compiled functions, where values are known) a token
            id is outside the vocabulary.

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
        """Return the final hidden states, those from which `unembed` makes the logits.

        Args:
            inputs: As the model is called with.
            training: Whether dropout is active.

        Returns:
            `(batch, length, hidden_dim)`, after the final norm where there is one.
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
        """The vectors that the first block gets; `positions` as the position embedding takes it."""
        x = self.token_embedding(token_ids)
        if self.position_embedding is None:
            return x
        if isinstance(self.position_embedding, SinusoidalPositionalEncoding):
            x = x * x.shape[-1] ** 0.5
        return self.position_embedding(x, **positions)

    def unembed(self, hidden_states):
        """Return the logits that belong to final hidden states."""
        return self.logits(self.token_embedding(hidden_states, reverse=True))

    @property
    def rematerialize(self) -> bool:
        """Whether the blocks are computed anew for the gradient; may be set before `compile`."""
        return all(block.rematerialize for block in self.blocks)

    @rematerialize.setter
    def rematerialize(self, value: bool):
        for block in self.blocks:
            block.rematerialize = value

    @property
    def max_sequence_length(self) -> int:
        """Longest sequence, in tokens, that the model takes."""
        return self.config.max_sequence_length

    @property
    def has_learned_positions(self) -> bool:
        """Whether there are no positions beyond `max_sequence_length`."""
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
        """Return an empty cache: for each block `(keys, values)`.

        Args:
            batch_size: Number of sequences.
            length: Number of positions to make room for.

        Returns:
            A list of pairs of tensors `(batch_size, num_key_value_heads, length, head_dim)`.
        """
        return [block.initial_cache(batch_size, length) for block in self.blocks]

    def extend(self, token_ids, cache, index, starts, window=None):
        """Run new tokens against the cache of the earlier ones.

        Prompts of different lengths are padded on the left, so that all rows end together:
        row `i` begins at `starts[i]`, and its position 0 is there.

        Args:
            token_ids: The new tokens, `(batch, new)`.
            cache: What `initial_cache` made and `write` filled up to `index`.
            index: Scalar, the position in the cache of the first new token.
            starts: `(batch,)`, first valid position of each row; negative where the cache has lost
                the first ones, see `move`.
            window: How many tokens a token sees at most, itself among them; None for all.

        Returns:
            `(logits, update)`: logits `(batch, new, vocabulary_size)`, and the part of the cache
            that belongs to the new tokens, which `write` puts in its place.
        """
        index, starts = ops.cast(index, "int32"), ops.cast(starts, "int32")
        positions = index + ops.arange(ops.shape(token_ids)[1], dtype="int32")
        positions = ops.maximum(positions[None, :] - starts[:, None], 0)  # (batch, new)
        if self.has_learned_positions:
            # Of tokens that are guessed those past the last position are never read.
            positions = ops.minimum(positions, self.max_sequence_length - 1)
        x = self._embed(token_ids, positions=positions)
        updates = []
        for block, block_cache in zip(self.blocks, cache, strict=True):
            x, update = block.extend(x, block_cache, index, starts, window)
            updates.append(update)
        x = x if self.final_norm is None else self.final_norm(x)
        return self.unembed(computed_once(ops.cast(x, "float32"))), updates

    def with_vocabulary_size(self, vocabulary_size: int) -> "GPT":
        """Return a copy with more token ids, such as special ones that a task needs.

        Args:
            vocabulary_size: Number of ids of the copy. The weights of the new ones are drawn as
                those of a new model; all others are this model's.

        Raises:
            ValueError: `vocabulary_size` is below that of this model, or the model is quantized.
        """
        config = dataclasses.replace(self.config, vocabulary_size=vocabulary_size)
        return with_more_rows(self, vocabulary_size, {"config": config.to_dict()})

    def quantize(self, mode=None, config=None, **kwargs):
        """Round the weights in place to 8 bits, or fewer; `keras.Model.quantize`, only faster.

        Args:
            mode: `"int8"` or another one of Keras's: the inputs of each layer are rounded, too.
            config: Instead of `mode`, a `keras.quantizers.QuantizationConfig`, such as
                `Int8QuantizationConfig(activation_quantizer=None)`, which rounds weights only.
            **kwargs: `filters`, as in Keras.
        """
        with fast_and_quiet():
            super().quantize(mode=mode, config=config, **kwargs)

    def get_config(self):
        # `keras.models.clone_model` rebuilds a functional model as a plain one; to copy a GPT with
        # its cache methods use `GPT.from_config(gpt.get_config())`, as cloning a CausalLM does.
        return {
            "config": self.config.to_dict(),
            "residual": self._residual_config,
            "rematerialize": self.rematerialize,
            "dtype": serialized_policy(self),
            "name": self.name,
            "frozen": frozen_layers(self),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["config"] = GPTConfig.from_dict(config["config"])
        config["residual"] = keras.saving.deserialize_keras_object(config.get("residual"))
        return make_from_config(cls, config)


@contextlib.contextmanager
def random_weights(value: bool):
    """With False, a `GPT` made inside begins with zeros.

    For weights that are read right afterwards: random numbers take time, and more memory than the
    weights themselves.
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
            return None  # rotary positions live in the attention layers


def _block(config, layer, residual, policy):
    policy = policy_below(policy, f"block_{layer}")
    # The norms of post-norm blocks stand on the stream, which does not grow with the depth.
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
