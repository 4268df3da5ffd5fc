"""Compiled passes that score continuations: with a KV cache, or over whole rows."""

import functools
import math
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from gpt_keras.generation.backbone import CACHE_METHODS, fixed_length, missing

# Columns that one step of `fill` runs. They limit the memory for attention scores.
_CHUNK = 256


class Targets(NamedTuple):
    """Tokens whose log-probabilities are computed: three vectors.

    Attributes:
        rows: Row of the batch.
        columns: Column whose logits predict the token.
        token_ids: The token.
    """

    rows: Any
    columns: Any
    token_ids: Any


_VECTOR = tf.TensorSpec([None], tf.int32)
_MATRIX = tf.TensorSpec([None, None], tf.int32)
_SCALAR = tf.TensorSpec([], tf.int32)
_TARGETS = Targets(_VECTOR, _VECTOR, _VECTOR)

# All functions are ordinary graphs with dynamic shapes, which are traced once. XLA would compile
# for each shape, and takes 12 s each time for a model of 135M parameters.


class WholeRowPasses:
    """Passes of a model without a KV cache: each row runs from its first token.

    Args:
        model: A Keras model from ids `(batch, length)` to logits.
        vocabulary_size: Ids from `vocabulary_size` on get probability 0. None: all logits count.
    """

    def __init__(self, model: keras.Model, vocabulary_size: int | None = None):
        self._model = model
        self._fixed_length = fixed_length(model)
        self._vocabulary_size = vocabulary_size

    @functools.cached_property
    def score(self):
        """`score(token_ids, targets) -> (log_probabilities, is_greedy)`, compiled."""
        return _compiled(self._score, _MATRIX, _TARGETS)

    def _score(self, token_ids, targets):
        if self._fixed_length is not None:
            missing_columns = self._fixed_length - tf.shape(token_ids)[1]
            token_ids = tf.pad(token_ids, [[0, 0], [0, missing_columns]])
            token_ids = tf.ensure_shape(token_ids, [None, self._fixed_length])
        logits = self._model(token_ids, training=False)
        return _scores(logits, targets, self._vocabulary_size)


class CachedPasses:
    """Passes of a backbone with the cache protocol.

    Attributes:
        can_move: Whether the columns of a cache can be moved.

    Args:
        backbone: A model with `initial_cache`, `extend` and `write`.
        vocabulary_size: Ids from `vocabulary_size` on get probability 0. None: all logits count.
    """

    def __init__(self, backbone: keras.Model, vocabulary_size: int | None = None):
        self._backbone = backbone
        self._vocabulary_size = vocabulary_size
        self.can_move = not missing(backbone, "move")

    @functools.cached_property
    def _cache_spec(self):
        cache = self.empty.get_concrete_function().structured_outputs
        return tf.nest.map_structure(lambda part: tf.TensorSpec(part.shape, part.dtype), cache)

    @functools.cached_property
    def bytes_per_column(self) -> int:
        """Bytes of one column of one row of the cache; unknown sizes count as 1."""
        return sum(
            part.dtype.size * math.prod(size or 1 for size in part.shape)
            for part in tf.nest.flatten(self._cache_spec)
        )

    @functools.cached_property
    def empty(self):
        """`empty(num_rows, length) -> cache`, compiled."""
        return _compiled(self._backbone.initial_cache, _SCALAR, _SCALAR)

    @functools.cached_property
    def _extend(self):
        # Tracing takes most of the time before the first result, so `fill` and `score` share it.
        # TensorFlow inlines it into both before it removes what nothing reads.
        return _compiled(self._backbone.extend, _MATRIX, self._cache_spec, _SCALAR, _VECTOR)

    @functools.cached_property
    def take(self):
        """`take(cache, rows, length, offsets) -> cache`, compiled; see `_take`."""
        return _compiled(self._take, self._cache_spec, _VECTOR, _SCALAR, _VECTOR)

    @functools.cached_property
    def fill(self):
        """`fill(token_ids, cache, index, starts) -> cache`, compiled; see `_fill`."""
        return _compiled(self._fill, _MATRIX, self._cache_spec, _SCALAR, _VECTOR)

    @functools.cached_property
    def score(self):
        """`score(token_ids, cache, index, starts, targets)`, compiled; see `_score`."""
        return _compiled(self._score, _MATRIX, self._cache_spec, _SCALAR, _VECTOR, _TARGETS)

    def _take(self, cache, rows, length, offsets):
        """Return rows of a cache; an index may occur several times.

        Args:
            cache: The cache.
            rows: `(rows,)`, indices of rows.
            length: Number of columns of the new cache.
            offsets: `(rows,)`, number of columns by which each row moves to the right. Length and
                offsets have no effect if the cache cannot be moved.
        """
        cache = tf.nest.map_structure(lambda part: tf.gather(part, rows), cache)
        return self._backbone.move(cache, length, offsets) if self.can_move else cache

    def _fill(self, token_ids, cache, index, starts):
        """Run tokens and return the cache with their part.

        Nothing reads the logits, so TensorFlow removes the output projection from the graph.

        Args:
            token_ids: `(rows, new)`.
            cache: The cache of the rows, filled up to `index`.
            index: Scalar, column of the first new token.
            starts: `(rows,)`, column of each row's first token.
        """
        num_new = tf.shape(token_ids)[1]

        def run_chunk(first, cache):
            chunk = token_ids[:, first : first + _CHUNK]
            update = self._extend(chunk, cache, index + first, starts)[1]
            return first + _CHUNK, self._backbone.write(cache, update, index + first)

        return tf.while_loop(lambda first, _: first < num_new, run_chunk, (0, cache))[1]

    def _score(self, token_ids, cache, index, starts, targets):
        """Run tokens and return the scores of targets, and the new cache.

        Args:
            token_ids: `(rows, new)`.
            cache: The cache of the rows, filled up to `index`.
            index: Scalar, column of the first new token.
            starts: `(rows,)`, column of each row's first token.
            targets: The targets; their columns count from `index`.

        Returns:
            `(log_probabilities, is_greedy, cache)`: two vectors, and the cache.
        """
        logits, update = self._extend(token_ids, cache, index, starts)
        scores = _scores(logits, targets, self._vocabulary_size)
        return *scores, self._backbone.write(cache, update, index)


def make_passes(
    backbone: keras.Model, vocabulary_size: int | None = None
) -> CachedPasses | WholeRowPasses:
    """Return the passes of a backbone, with its KV cache if it has one.

    Args:
        backbone: A Keras model from ids to logits.
        vocabulary_size: Ids from `vocabulary_size` on get probability 0. None: all logits count.
    """
    kind = WholeRowPasses if missing(backbone, *CACHE_METHODS) else CachedPasses
    return kind(backbone, vocabulary_size)


def _compiled(function, *specs):
    return tf.function(function, input_signature=specs, autograph=False)


def _scores(logits, targets, vocabulary_size):
    """Return log-probabilities of targets, and whether each is the most likely token."""
    logits = tf.cast(logits, tf.float32)
    # A model may have more logits than its tokenizer has tokens.
    if vocabulary_size is not None and vocabulary_size < logits.shape[-1]:
        logits = logits[:, :, :vocabulary_size]
    # One number for each position instead of a `log_softmax` over the vocabulary.
    totals = tf.reduce_logsumexp(logits, axis=-1)
    best = tf.argmax(logits, axis=-1, output_type=tf.int32)
    cells = tf.stack([targets.rows, targets.columns], axis=1)
    is_possible = targets.token_ids < tf.shape(logits)[-1]
    token_ids = tf.where(is_possible, targets.token_ids, 0)
    chosen = tf.gather_nd(logits, tf.concat([cells, token_ids[:, None]], axis=1))
    log_probabilities = tf.where(is_possible, chosen - tf.gather_nd(totals, cells), -math.inf)
    return log_probabilities, tf.gather_nd(best, cells) == targets.token_ids
