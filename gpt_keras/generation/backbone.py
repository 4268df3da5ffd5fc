"""The protocol of a backbone: what generation and task models need of a network."""

import abc
from typing import Any

import keras
from keras import ops

from gpt_keras.backend import LayersFirst
from gpt_keras.layers import PositionalEmbedding, move_cache, write_cache

# What `generate` needs to run only the new tokens.
CACHE_METHODS = ("initial_cache", "extend", "write")


class _default:
    """A property that a subclass or an instance may simply set."""

    def __init__(self, compute):
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, instance, owner=None):
        return self if instance is None else self._compute(instance)


class Backbone(LayersFirst):
    """Base class of networks that predict the next token and keep a KV cache.

    Inherit from it, before `keras.Model`, and write `initial_cache` and `extend`; it has `write`
    and `move`. The model then generates, streams, exports and takes prompt caches like a `GPT`.
    Inheriting is optional: any Keras model with methods of these names works, and one without them
    generates by running the whole sequence for each new token.

    The protocol, and what each part is for:

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

    A backbone is called with token ids `(batch, length)` and returns logits `(batch, length,
    vocabulary_size)`. `extend` runs inside a compiled function, so it must not depend on values of
    tensors in Python, and its results must have static shapes where its inputs have them. A cache
    that is a state of fixed size, as of a recurrent network, overrides `write` to return `update`
    and sets `move = None`, which says that it cannot go back.

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
            length: Scalar, number of positions to make room for.

        Returns:
            Nested lists and tuples of tensors whose first axis is the batch. For the inherited
            `write` and `move` their shape is `(batch_size, heads, length, dim)`.
        """

    @abc.abstractmethod
    def extend(self, token_ids, cache, index, starts) -> tuple[Any, Any]:
        """Run new tokens against the cache of the earlier ones.

        Prompts of different lengths are padded on the left, so that all rows end together.

        Args:
            token_ids: The new tokens, `(batch, new)`.
            cache: What `initial_cache` made and `write` filled up to `index`.
            index: Scalar, position in the cache of the first new token.
            starts: `(batch,)`, position in the cache of each row's first token; positions before
                it are padding. Negative where the cache has lost the first tokens.

        Returns:
            `(logits, update)`: logits `(batch, new, vocabulary_size)`, and the part of the cache
            that belongs to the new tokens: the structure of `cache`, with `new` positions.
        """

    def write(self, cache, update, index) -> Any:
        """Return the cache with `update`, as `extend` returned it, written at `index`."""
        return write_cache(cache, update, index)

    def move(self, cache, length, offsets) -> Any:
        """Return the cache with its positions moved; see `gk.layers.move_cache`."""
        return move_cache(cache, length, offsets)

    def unembed(self, hidden_states):
        """Return the logits of final hidden states, float32, by the transposed embedding."""
        return ops.cast(self.token_embedding(hidden_states, reverse=True), "float32")

    @_default
    def max_sequence_length(self) -> int | None:
        """Longest sequence, in tokens; by default that of its `PositionalEmbedding`, if any."""
        return num_learned_positions(self)

    @_default
    def has_learned_positions(self) -> bool:
        """Whether there are no positions beyond `max_sequence_length`."""
        return num_learned_positions(self) is not None


def num_learned_positions(model: keras.Model) -> int | None:
    """Return the fewest positions that a `PositionalEmbedding` inside has; None without any."""
    layers = model._flatten_layers(include_self=False)
    lengths = [
        layer.max_sequence_length for layer in layers if isinstance(layer, PositionalEmbedding)
    ]
    return min(lengths, default=None)


def max_sequence_length(backbone: keras.Model) -> int | None:
    """Return the longest sequence that any model takes; None if nothing inside has a limit."""
    if hasattr(backbone, "max_sequence_length"):
        return backbone.max_sequence_length
    length = fixed_length(backbone)
    return num_learned_positions(backbone) if length is None else length


def fixed_length(backbone: keras.Model) -> int | None:
    """Return the one length of a model made from `keras.Input((length,))`; None for any length."""
    shape = getattr(backbone, "input_shape", None)
    return shape[1] if isinstance(shape, tuple) and len(shape) == 2 else None


def missing(backbone: keras.Model, *names: str) -> list[str]:
    """Return which of these parts of the protocol a backbone lacks.

    A method that is `None`, or inherited from `Backbone` without a body, is lacking.
    """

    def lacks(name):
        part = getattr(backbone, name, None)
        return part is None or getattr(part, "__isabstractmethod__", False)

    return [name for name in names if lacks(name)]


def require(backbone: keras.Model, *names: str, what: str) -> None:
    """Raise `ValueError` unless a backbone has these parts of the protocol.

    Args:
        backbone: A Keras model.
        *names: Methods and attributes of `Backbone`.
        what: The feature that needs them, the subject of the message.
    """
    lacking = missing(backbone, *names)
    if lacking:
        raise ValueError(
            f"{what} needs a backbone with {', '.join(f'`{name}`' for name in names)}; "
            f"{getattr(backbone, 'name', backbone)!r} lacks "
            f"{', '.join(f'`{name}`' for name in lacking)}. See gk.Backbone for the protocol."
        )


def num_logits(backbone: keras.Model) -> int:
    """Return the number of token ids that a backbone has logits for.

    Raises:
        ValueError: The backbone does not return one row of logits for each token.
    """
    token_ids = keras.KerasTensor((None, fixed_length(backbone)), dtype="int32")
    shape = getattr(backbone(token_ids), "shape", None)
    if shape is None or len(shape) != 3 or shape[-1] is None:
        raise ValueError(
            "`backbone` must return logits (batch, length, vocabulary_size) for token ids "
            f"(batch, length); {backbone.name!r} returns the shape {shape}."
        )
    return int(shape[-1])
