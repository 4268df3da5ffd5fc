"""The backbone protocol: the methods that generation and task models call."""

import abc
from typing import Any

import keras
from keras import ops

from gpt_keras.backend import LayersFirst
from gpt_keras.layers import PositionalEmbedding, move_cache, write_cache

# With these methods, `generate` runs only the new tokens against a KV cache.
CACHE_METHODS = ("initial_cache", "extend", "write")


class _default:
    """A computed property that a subclass or an instance can override by assignment."""

    def __init__(self, compute):
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, instance, owner=None):
        return self if instance is None else self._compute(instance)


class Backbone(LayersFirst):
    """Base class of networks that predict the next token and keep a KV cache.

    List it before `keras.Model` among the base classes, and implement `initial_cache` and `extend`.
    The methods `write` and `move` are inherited. The model then generates, streams, exports and
    uses prompt caches like a `GPT`. Inheriting is optional: any Keras model that has these methods
    works. A model that lacks them runs the whole sequence again for each new token.

    The protocol:

    | name | needed for |
    |---|---|
    | `initial_cache(batch_size, length)` | generation with a KV cache |
    | `extend(token_ids, cache, index, starts)` | generation with a KV cache |
    | `write(cache, update, index)` | generation with a KV cache; inherited |
    | `move(cache, length, offsets)` | prompt caches, speculative decoding; inherited |
    | `extend(..., window=None)` | `sliding_window` |
    | `hidden_states(inputs, training=None)`, `hidden_dim` | task models, such as `GPTClassifier` |
    | `token_embedding`, a `keras.layers.ReversibleEmbedding` | task models; `unembed` |
    | `unembed(hidden_states)` | task models; inherited |
    | `max_sequence_length`, `has_learned_positions` | limits of the length; inherited |

    A backbone maps token ids `(batch, length)` to logits `(batch, length, vocabulary_size)`.
    `extend` runs inside a compiled function, so its Python code must not depend on the values of
    tensors. An axis that is static in its inputs must be static in its results. A recurrent
    network keeps a state of fixed size instead of a KV cache: it overrides `write` to return
    `update`, and sets `move = None`, because it cannot return to an earlier token.

    Example:
        >>> import gpt_keras as gk, keras
        >>> class Tiny(gk.Backbone, keras.Model):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.token_embedding = keras.layers.ReversibleEmbedding(50, 16)
        ...         self.block = gk.layers.TransformerBlock(
        ...             num_heads=2, rotary_embedding=gk.layers.RotaryEmbedding()
        ...         )
        ...
        ...     def call(self, token_ids, training=None):
        ...         x = self.block(self.token_embedding(token_ids), training=training)
        ...         return self.unembed(x)
        ...
        ...     def initial_cache(self, batch_size, length):
        ...         return [self.block.initial_cache(batch_size, length)]
        ...
        ...     def extend(self, token_ids, cache, index, starts):
        ...         x, update = self.block.extend(
        ...             self.token_embedding(token_ids), cache[0], index, starts
        ...         )
        ...         return self.unembed(x), [update]
        >>> model = gk.CausalLM(Tiny())
        >>> len(model.generate([1, 2, 3], max_new_tokens=5, temperature=0))
        8
    """

    @abc.abstractmethod
    def initial_cache(self, batch_size, length) -> Any:
        """Return an empty cache.

        Args:
            batch_size: Scalar, number of sequences.
            length: Scalar, number of positions that the cache must hold.

        Returns:
            Nested lists and tuples of tensors whose first axis is the batch. The inherited `write`
            and `move` require the shape `(batch_size, heads, length, dim)`.
        """

    @abc.abstractmethod
    def extend(self, token_ids, cache, index, starts) -> tuple[Any, Any]:
        """Run new tokens against the cache of the earlier ones.

        Prompts of different lengths are padded on the left, so that all rows end in the same
        column of the cache.

        Args:
            token_ids: `(batch, new)`, the new tokens.
            cache: The cache from `initial_cache`, filled by `write` up to `index`.
            index: Scalar, position in the cache of the first new token.
            starts: `(batch,)`, position in the cache of each row's first token; earlier positions
                are padding. With a sliding window that has dropped the first tokens of a row, its
                start is negative.

        Returns:
            `(logits, update)`: logits `(batch, new, vocabulary_size)`, and the new tokens' part of
            the cache. `update` has the structure of `cache`, with `new` positions.
        """

    def write(self, cache, update, index) -> Any:
        """Return the cache with the new tokens' part written at `index`.

        Args:
            cache: The cache.
            update: The second result of `extend`.
            index: Scalar, position in the cache of the first new token.
        """
        return write_cache(cache, update, index)

    def move(self, cache, length, offsets) -> Any:
        """Return the cache with its positions moved; see `gk.layers.move_cache`.

        Args:
            cache: The cache; its batch may be 1 for all rows.
            length: Scalar, number of positions of the new cache.
            offsets: `(batch,)`, number of positions by which each row moves to the right; negative
                to the left.
        """
        return move_cache(cache, length, offsets)

    def unembed(self, hidden_states):
        """Return the float32 logits of hidden states, projected by `token_embedding`.

        Args:
            hidden_states: `(batch, length, hidden_dim)`, the output of the last layer.

        Returns:
            `(batch, length, vocabulary_size)`.
        """
        return ops.cast(self.token_embedding(hidden_states, reverse=True), "float32")

    @_default
    def max_sequence_length(self) -> int | None:
        """Longest sequence, in tokens; None for no limit.

        By default the length of the backbone's `PositionalEmbedding`, if it contains one.
        """
        return num_learned_positions(self)

    @_default
    def has_learned_positions(self) -> bool:
        """True if the backbone has no positions beyond `max_sequence_length`."""
        return num_learned_positions(self) is not None


def num_learned_positions(model: keras.Model) -> int | None:
    """Return the length of the shortest `PositionalEmbedding` in a model.

    None if the model contains no `PositionalEmbedding`.
    """
    layers = model._flatten_layers(include_self=False)
    lengths = [
        layer.max_sequence_length for layer in layers if isinstance(layer, PositionalEmbedding)
    ]
    return min(lengths, default=None)


def max_sequence_length(backbone: keras.Model) -> int | None:
    """Return the longest sequence that a model accepts, in tokens; None for no limit."""
    if hasattr(backbone, "max_sequence_length"):
        return backbone.max_sequence_length
    length = fixed_length(backbone)
    return num_learned_positions(backbone) if length is None else length


def fixed_length(backbone: keras.Model) -> int | None:
    """Return the fixed input length of a model; None if it accepts any length.

    A functional model made from `keras.Input((length,))` accepts only this length.
    """
    shape = getattr(backbone, "input_shape", None)
    return shape[1] if isinstance(shape, tuple) and len(shape) == 2 else None


def missing(backbone: keras.Model, *names: str) -> list[str]:
    """Return the given names that a backbone lacks.

    A method counts as missing if it is None, or abstract in `Backbone` and not overridden.

    Args:
        backbone: A Keras model.
        *names: Methods and attributes of `Backbone`.
    """

    def lacks(name):
        part = getattr(backbone, name, None)
        return part is None or getattr(part, "__isabstractmethod__", False)

    return [name for name in names if lacks(name)]


def require(backbone: keras.Model, *names: str, what: str) -> None:
    """Raise `ValueError` unless a backbone has the given methods and attributes.

    Args:
        backbone: A Keras model.
        *names: Methods and attributes of `Backbone`.
        what: Name of the feature that needs them, for the message.
    """
    lacking = missing(backbone, *names)
    if lacking:
        raise ValueError(
            f"{what} needs a backbone with {', '.join(f'`{name}`' for name in names)}; "
            f"{getattr(backbone, 'name', backbone)!r} lacks "
            f"{', '.join(f'`{name}`' for name in lacking)}. See gk.Backbone for the protocol."
        )


def num_logits(backbone: keras.Model) -> int:
    """Return the vocabulary size of a backbone: the last axis of its logits.

    Raises:
        ValueError: The backbone does not return logits `(batch, length, vocabulary_size)`.
    """
    token_ids = keras.KerasTensor((None, fixed_length(backbone)), dtype="int32")
    shape = getattr(backbone(token_ids), "shape", None)
    if shape is None or len(shape) != 3 or shape[-1] is None:
        raise ValueError(
            "`backbone` must return logits (batch, length, vocabulary_size) for token ids "
            f"(batch, length); {backbone.name!r} returns the shape {shape}."
        )
    return int(shape[-1])
