"""Request, state and result of the generation loop, as tuples of tensors."""

from typing import Any, NamedTuple

import tensorflow as tf


class Request(NamedTuple):
    """Prompts and limits: the input of the generation loop.

    Attributes:
        token_ids: `(prompts, longest)` int32, padded on the right.
        lengths: `(prompts,)` int32, number of tokens of each prompt, at least 1.
        limits: `(prompts,)` int32, largest number of new tokens of each prompt.
        seeds: `(rows,)` int64, one for each continuation.
        cache_length: Scalar int32, smallest number of columns of the cache.
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
        start: Scalar int32, column of the row's first token.
        length: Scalar int32, number of tokens of the prefix.
    """

    cache: Any
    start: tf.Tensor
    length: tf.Tensor


class State(NamedTuple):
    """State of the generation loop between two steps.

    With left padding all rows end in the same column, so one scalar `index` is enough.

    Attributes:
        cache: The backbone's cache, filled up to `index`.
        token_ids: `(rows, columns)` int32, prompts and generated tokens.
        log_probs: `(rows, columns)` float32, log-probabilities of the generated tokens; `()`
            if they are not kept.
        index: Scalar int32, column of the newest token, which the next step runs.
        first: Scalar int32, column of the first generated token.
        dropped: Scalar int32, number of columns that a sliding window has dropped from the left of
            the cache.
        starts: `(rows,)` int32, column of each row's first token.
        lengths: `(rows,)` int32, number of tokens of each row so far, prompt included.
        max_lengths: `(rows,)` int32, largest number of tokens of each row, prompt included.
        finished: `(rows,)` bool, whether the row gets no more tokens.
        ended: `(rows,)` bool, whether an end token finished the row.
        uniforms: `(rows, steps)` float32, random numbers in [0, 1), one for each new token.
        memory: The strategy's own tensors.
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
        """Return the state with the given rows of cache, tokens and log-probabilities.

        Args:
            rows: `(rows,)` int32, indices of rows; an index may occur several times.
        """
        parts = (self.cache, self.token_ids, self.log_probs)
        parts = tf.nest.map_structure(lambda part: tf.gather(part, rows), parts)
        return self._replace(cache=parts[0], token_ids=parts[1], log_probs=parts[2])


class Sequences(NamedTuple):
    """Generated sequences of each prompt, best first.

    Attributes:
        token_ids: `(prompts, continuations, columns)` int32, prompts and continuations without
            their end tokens, padded on the right.
        lengths: `(prompts, continuations)` int32, number of tokens of each sequence.
        log_probs: `(prompts, continuations, columns)` float32, log-probability of each generated
            token. 0 for the other columns, and everywhere if log-probabilities are not kept.
        scores: `(prompts, continuations)` float32, in descending order.
    """

    token_ids: tf.Tensor
    lengths: tf.Tensor
    log_probs: tf.Tensor
    scores: tf.Tensor


def write_column(matrix, column, index):
    """Write one column of a matrix, in place where TensorFlow can.

    Args:
        matrix: `(rows, columns)`.
        column: `(rows,)`, the new values.
        index: Scalar int32, the column to write.

    Returns:
        The new matrix, `(rows, columns)`.
    """
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
    """Move each row to the left, so that its column `starts` becomes column 0.

    Args:
        matrix: `(rows, columns)`.
        starts: `(rows,)` int32.

    Returns:
        `(rows, columns)`; the columns that become free repeat the last one.
    """
    width = tf.shape(matrix)[1]
    columns = tf.minimum(tf.range(width)[None, :] + starts[:, None], width - 1)
    return tf.gather(matrix, columns, batch_dims=1)
