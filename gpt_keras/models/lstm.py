"""The recurrent language model that preceded GPT, as a backbone of `gk.CausalLM`."""

import math

import keras
from keras import ops

from gpt_keras.checks import check_positive_int, check_rate
from gpt_keras.generation.backbone import Backbone
from gpt_keras.layers.positional_embedding import check_length
from gpt_keras.layers.quantized_sublayers import dtype_arguments, serialized_policy
from gpt_keras.layers.shapes import check_axes
from gpt_keras.models.saved_state import make_from_config, saved_state
from gpt_keras.models.vocabulary import check_token_ids_if_known, with_more_rows


@keras.saving.register_keras_serializable("gpt_keras")
class LSTMBackbone(Backbone, keras.Model):
    """Stacked LSTMs between embedding and logits (Zaremba et al. 2014).

    It replaces a `GPT` in a `gk.CausalLM`, with the same `fit`, `generate`, `save` and `export`.
    Its memory of a sequence is a state of fixed size. The cache therefore does not grow, and
    without `max_sequence_length` sequences may have any length.

    Dropout applies to the embeddings and to the outputs of each LSTM to the layer above. It does
    not apply to the recurrent connections (Zaremba et al. 2014, section 3.2).

    Args:
        vocabulary_size: Number of token ids.
        num_layers: Number of stacked LSTM layers.
        hidden_dim: Width of the embeddings and of every LSTM.
        max_sequence_length: Longest sequence, in tokens; None for no limit.
        dropout: Dropout rate, in [0, 1).
        tie_embeddings: Whether the output projection is the transposed token embedding
            (Press and Wolf 2016).
        dtype: Dtype policy of every layer. Logits are always float32. Default: Keras's global
            policy.
        name: Name of the model.

    Call arguments:
        token_ids: Integers, `(batch, length)`.

    Returns:
        Logits of the next token at each position, float32, `(batch, length, vocabulary_size)`.

    Raises:
        ValueError: An argument is out of its range, the input is not `(batch, length)`, the
            sequence is longer than `max_sequence_length`, or a token id is outside the vocabulary.
            Ids are checked only outside compiled functions, where their values are known.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> lstm = gk.LSTMBackbone(vocabulary_size=100, num_layers=2, hidden_dim=8)
        >>> lstm(np.array([[1, 2, 3]])).shape
        TensorShape([1, 3, 100])
        >>> lstm.num_parameters == lstm.count_params() == 100 * 8 + 2 * (4 * 8 * (8 + 8 + 1))
        True
    """

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        hidden_dim: int,
        max_sequence_length: int | None = None,
        dropout: float = 0.0,
        tie_embeddings: bool = True,
        dtype=None,
        name: str = "lstm_backbone",
    ):
        check_positive_int("vocabulary_size", vocabulary_size)
        check_positive_int("num_layers", num_layers)
        check_positive_int("hidden_dim", hidden_dim)
        if max_sequence_length is not None:
            check_positive_int("max_sequence_length", max_sequence_length)
        check_rate("dropout", dropout)
        policy = keras.dtype_policies.get(dtype)

        # Layers
        self.token_embedding = keras.layers.ReversibleEmbedding(
            vocabulary_size,
            hidden_dim,
            tie_weights=tie_embeddings,
            embeddings_initializer=keras.initializers.RandomUniform(-0.1, 0.1),
            name="token_embedding",
            **dtype_arguments(policy, "token_embedding"),
        )
        self.dropouts = [
            keras.layers.Dropout(dropout, dtype=policy, name=f"dropout_{i}")
            for i in range(num_layers + 1)
        ]
        in_bfloat16 = policy.variable_dtype == "bfloat16"
        # cuDNN's kernel runs on one kind of GPU only, so a step compiled by XLA and a SavedModel
        # for any device cannot use it.
        self.lstms = [
            keras.layers.LSTM(
                hidden_dim,
                return_sequences=True,
                return_state=True,
                use_cudnn=False,
                recurrent_initializer=_Orthogonal() if in_bfloat16 else "orthogonal",
                dtype=policy,
                name=f"lstm_{i}",
            )
            for i in range(num_layers)
        ]
        self.logits = keras.layers.Activation("linear", dtype="float32", name="logits")

        # Functional graph
        token_ids = keras.Input((None,), dtype="int32", name="token_ids")
        x = self.hidden_states(token_ids)  # (batch, length, hidden_dim)
        super().__init__(inputs=token_ids, outputs=self.unembed(x), name=name)

        # Config
        self.vocabulary_size = vocabulary_size
        self.num_layers = num_layers
        self.hidden_dim = hidden_dim
        self.max_sequence_length = max_sequence_length
        self.dropout = float(dropout)
        self.tie_embeddings = tie_embeddings
        self.dtype_policy = policy

    @classmethod
    def of_size(
        cls, num_parameters: int, vocabulary_size: int, num_layers: int = 2, **kwargs
    ) -> "LSTMBackbone":
        """Return the model whose parameter count is nearest to a given number.

        Args:
            num_parameters: Wanted number of parameters.
            vocabulary_size: Number of token ids.
            num_layers: Number of stacked LSTM layers.
            **kwargs: The other arguments of the constructor.

        Returns:
            A new model; `hidden_dim` follows from the other sizes.

        Raises:
            ValueError: `num_parameters` is too small even for a `hidden_dim` of 1.

        Example:
            >>> import gpt_keras as gk
            >>> lstm = gk.LSTMBackbone.of_size(1_000_000, vocabulary_size=1024)
            >>> lstm.hidden_dim, lstm.num_parameters
            (220, 1001440)
        """
        check_positive_int("num_parameters", num_parameters)
        check_positive_int("vocabulary_size", vocabulary_size)
        check_positive_int("num_layers", num_layers)
        # Solve 8 L d^2 + (4 L + V) d = N for the width d; with untied embeddings V counts twice.
        tables = 1 if kwargs.get("tie_embeddings", True) else 2
        square, linear = 8 * num_layers, 4 * num_layers + tables * vocabulary_size
        width = (math.sqrt(linear**2 + 4 * square * num_parameters) - linear) / (2 * square)
        if width < 1:
            raise ValueError(
                f"`num_parameters` must be at least {square + linear} for num_layers={num_layers} "
                f"and vocabulary_size={vocabulary_size}, got {num_parameters}."
            )
        hidden_dim = min(
            math.floor(width), math.ceil(width),
            key=lambda d: abs(square * d**2 + linear * d - num_parameters),
        )  # fmt: skip
        return cls(vocabulary_size, num_layers, hidden_dim, **kwargs)

    @property
    def num_parameters(self) -> int:
        """Exact number of parameters."""
        tables = 1 if self.tie_embeddings else 2
        lstm = 4 * self.hidden_dim * (2 * self.hidden_dim + 1)
        return tables * self.vocabulary_size * self.hidden_dim + self.num_layers * lstm

    def hidden_states(self, token_ids, training=None):
        """Return the outputs of the last LSTM, `(batch, length, hidden_dim)`."""
        x = self.dropouts[0](self.token_embedding(token_ids), training=training)
        for lstm, dropout in zip(self.lstms, self.dropouts[1:], strict=True):
            x = dropout(lstm(x, training=training)[0], training=training)
        return x

    def unembed(self, hidden_states):
        """Return the logits of final hidden states, `(..., vocabulary_size)` float32."""
        return self.logits(self.token_embedding(hidden_states, reverse=True))

    def call(self, token_ids, training=None, mask=None):
        check_axes(token_ids.shape, "batch", "length")
        if self.max_sequence_length is not None:
            check_length(token_ids, self.max_sequence_length)
        check_token_ids_if_known(token_ids, self.vocabulary_size)
        return super().call(token_ids, training=training, mask=mask)

    # None marks the method as missing: an LSTM's state cannot return to an earlier token, as prompt
    # caches and speculative decoding require.
    move = None

    def initial_cache(self, batch_size, length):
        """Return the state before the first token: `(output, cell)` of each LSTM, all 0.

        Args:
            batch_size: Number of sequences.
            length: Ignored, since the size of the state does not depend on the length.

        Returns:
            A list of pairs of tensors `(batch_size, hidden_dim)`.
        """
        del length
        zeros = ops.zeros((batch_size, self.hidden_dim), self.dtype_policy.compute_dtype)
        return [(zeros, zeros) for _ in self.lstms]

    def extend(self, token_ids, cache, index, starts):
        """Run new tokens, starting from the state after the earlier tokens.

        Args:
            token_ids: The new tokens, `(batch, new)`.
            cache: The state after the tokens before `index`.
            index: Scalar, column of the first new token.
            starts: `(batch,)`, column of each row's first token. Earlier columns are left padding,
                which does not change the state.

        Returns:
            `(logits, update)`: logits `(batch, new, vocabulary_size)`, and the new state.
        """
        index, starts = ops.cast(index, "int32"), ops.cast(starts, "int32")
        columns = index + ops.arange(ops.shape(token_ids)[1], dtype="int32")  # (new,)
        is_token = columns[None, :] >= starts[:, None]  # (batch, new)
        x, update = self.token_embedding(token_ids), []
        for lstm, state in zip(self.lstms, cache, strict=True):
            x, *state = lstm(x, initial_state=list(state), mask=is_token, training=False)
            update.append(tuple(state))
        # `where` returns a tensor without a Keras mask. Keras attached one to the LSTM's output,
        # and would warn when a later layer ignores it.
        x = ops.where(is_token[:, :, None], x, 0)
        return self.unembed(x), update

    def write(self, cache, update, index):
        """Return `update`, the new state, which replaces the old one."""
        del cache, index
        return update

    def with_vocabulary_size(self, vocabulary_size: int) -> "LSTMBackbone":
        """Return a copy with more token ids; see `GPT.with_vocabulary_size`."""
        return with_more_rows(self, vocabulary_size, {"vocabulary_size": vocabulary_size})

    def get_config(self):
        return {
            "vocabulary_size": self.vocabulary_size,
            "num_layers": self.num_layers,
            "hidden_dim": self.hidden_dim,
            "max_sequence_length": self.max_sequence_length,
            "dropout": self.dropout,
            "tie_embeddings": self.tie_embeddings,
            "dtype": serialized_policy(self),
            "name": self.name,
            **saved_state(self),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return make_from_config(cls, config)


class _Orthogonal(keras.initializers.Orthogonal):
    """Orthogonal initializer that also works in bfloat16.

    Keras's own fails there: TensorFlow has no QR decomposition in bfloat16.
    """

    def __call__(self, shape, dtype=None):
        return ops.cast(super().__call__(shape, "float32"), dtype)
