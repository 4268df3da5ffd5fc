"""Request, state and result of the generation loop."""

from typing import Any, NamedTuple

import tensorflow as tf


class Request(NamedTuple):
    """Prompts, and how far to continue them.

    Attributes:
        token_ids: `(prompts, longest)` int32, padded on the right.
        lengths: `(prompts,)` int32, tokens of each prompt, at least 1.
        limits: `(prompts,)` int32, how many tokens each may get.
        seeds: `(rows,)` int64, one for each continuation.
        cache_length: Scalar int32, the fewest columns that the cache may have.
    """

    token_ids: tf.Tensor
    lengths: tf.Tensor
    limits: tf.Tensor
    seeds: tf.Tensor
    cache_length: tf.Tensor


REQUEST_SPEC = Request(
    token_ids=tf.TensorSpec([None, None], tf.int32, "token_ids"),
    lengths=tf.TensorSpec([None], tf.int32, "lengths"),
    limits=tf.TensorSpec([None], tf.int32, "limits"),
    seeds=tf.TensorSpec([None], tf.int64, "seeds"),
    cache_length=tf.TensorSpec([], tf.int32, "cache_length"),
)


class Prefix(NamedTuple):
    """KV cache of a prefix that all prompts share.

    Attributes:
        cache: The backbone's cache of one row.
        start: Scalar int32, the column of the row's first token.
        length: Scalar int32, how many of its tokens the prompts begin with.
    """

    cache: Any
    start: tf.Tensor
    length: tf.Tensor


class State(NamedTuple):
    """State of the generation loop between two steps.

    The rows are padded on the left, so that all of them end in the same column and one scalar
    index serves.

    Attributes:
        cache: The backbone's cache, filled up to `index`.
        token_ids: `(rows, columns)` int32, prompts and what was generated.
        log_probs: `(rows, columns)` float32, log-probabilities of the generated tokens; `()`
            if they are not kept.
        index: Scalar, column of the newest token, whose successor comes next.
        first: Scalar, column of the first generated token.
        dropped: Scalar, how many columns the cache has lost on its left.
        starts: `(rows,)`, column of each row's first token.
        lengths: `(rows,)`, tokens of each row so far, those of the prompt included.
        max_lengths: `(rows,)`, how many each row may have.
        finished: `(rows,)` bool.
        ended: `(rows,)` bool, whether it was an end token that finished the row.
        uniforms: `(rows, steps)`, the random number of each row for each token.
        memory: What the strategy keeps for itself.
    """

    cache: Any
    token_ids: tf.Tensor
    log_probs: tf.Tensor
    index: tf.Tensor
    first: tf.Tensor
    dropped: tf.Tensor
    starts: tf.Tensor
    lengths: tf.Tensor
    max_lengths: tf.Tensor
    finished: tf.Tensor
    ended: tf.Tensor
    uniforms: tf.Tensor
    memory: Any

    def take_rows(self, rows):
        """Return the state with these rows of the cache and the tokens, in this order."""
        parts = (self.cache, self.token_ids, self.log_probs)
        parts = tf.nest.map_structure(lambda part: tf.gather(part, rows), parts)
        return self._replace(cache=parts[0], token_ids=parts[1], log_probs=parts[2])


class Sequences(NamedTuple):
    """Generated sequences, best first.

    Attributes:
        token_ids: `(prompts, continuations, columns)` int32, prompts and continuations, padded on
            the right, without the token that ended them.
        lengths: `(prompts, continuations)` int32.
        log_probs: `(prompts, continuations, columns)` float32, the log-probability of each
            generated token; elsewhere, and where they are not kept, 0.
        scores: `(prompts, continuations)` float32, by which they are ordered.
    """

    token_ids: tf.Tensor
    lengths: tf.Tensor
    log_probs: tf.Tensor
    scores: tf.Tensor


def write_column(matrix, column, index):
    """Return `matrix` `(rows, columns)` with `column` `(rows,)` written at `index`, in place."""
    written = tf.raw_ops.TensorStridedSliceUpdate(
        input=matrix,
        begin=tf.stack([0, index]),
        end=tf.stack([0, index + 1]),
        strides=[1, 1],
        value=column[:, None],
        begin_mask=0b01,  # every row
        end_mask=0b01,
    )
    written.set_shape(matrix.shape)
    return written


def to_the_left(matrix, starts):
    """Return `(rows, columns)` with each row moved so that column `starts` becomes column 0."""
    width = tf.shape(matrix)[1]
    columns = tf.minimum(tf.range(width)[None, :] + starts[:, None], width - 1)
    return tf.gather(matrix, columns, batch_dims=1)
