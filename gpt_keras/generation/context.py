"""Context of a logits processor: the tokens so far."""

from typing import NamedTuple

import tensorflow as tf


class Context(NamedTuple):
    """The tokens so far, which a logits processor gets with the logits.

    Attributes:
        token_ids: `(rows, width)` int32, prompts and generated tokens. Rows are padded on the left,
            so all of them end in the same column.
        starts: `(rows,)` int32, column of the first token of each row.
        first: Scalar int32, column of the first generated token; prompts end before it.
        index: Scalar int32, column of the next token. The columns from `index` on are undefined.
        end_token_ids: `(n,)` int32, ids that end a row; n may be 0.

    Example:
        >>> import gpt_keras as gk
        >>> context = gk.generation.Context.of_rows([[3, 1, 4]], num_new=1)
        >>> context.token_ids[:, context.first : context.index].numpy()  # the generated tokens
        array([[4]], dtype=int32)
    """

    token_ids: tf.Tensor
    starts: tf.Tensor
    first: tf.Tensor
    index: tf.Tensor
    end_token_ids: tf.Tensor

    @classmethod
    def of_rows(cls, token_ids, num_new: int = 0, end_token_ids=()) -> "Context":
        """Return the context of rows of equal length, without padding.

        Args:
            token_ids: `(rows, length)`, all tokens so far.
            num_new: Number of generated tokens at the end of each row; the others are the prompt.
            end_token_ids: `(n,)`, ids that end a row.

        Example:
            >>> from gpt_keras.generation.context import Context
            >>> context = Context.of_rows([[3, 1, 4]], num_new=1)
            >>> int(context.first), int(context.index)
            (2, 3)
        """
        token_ids = tf.convert_to_tensor(token_ids, tf.int32)
        num_rows, length = token_ids.shape
        return cls(
            token_ids,
            starts=tf.zeros([num_rows], tf.int32),
            first=tf.constant(length - num_new),
            index=tf.constant(length),
            end_token_ids=tf.constant(end_token_ids, tf.int32, [len(end_token_ids)]),
        )

    def holds_token(self, begin=0):
        """Return `(rows, width)` bool: the column holds a token and is at least `begin`."""
        columns = tf.range(tf.shape(self.token_ids)[1])
        begins = tf.maximum(self.starts, begin)
        return (columns >= begins[:, None]) & (columns < self.index)

    def token_before(self, distance):
        """Return `(rows,)` int32: the token `distance` columns before `index`, or -1.

        -1 means that the row is shorter than `distance`.
        """
        column = self.index - distance
        token = self.token_ids[:, tf.maximum(column, 0)]
        return tf.where(column >= self.starts, token, -1)


CONTEXT_SPECS = Context(
    token_ids=tf.TensorSpec([None, None], tf.int32),
    starts=tf.TensorSpec([None], tf.int32),
    first=tf.TensorSpec([], tf.int32),
    index=tf.TensorSpec([], tf.int32),
    end_token_ids=tf.TensorSpec([None], tf.int32),
)


def sum_by_token(token_ids, values, like):
    """Sum `values` by token id within each row: a segment sum.

    Args:
        token_ids: `(rows, n)` int32; ids outside the vocabulary are ignored.
        values: `(rows, n)` float.
        like: `(rows, vocabulary_size)`, a tensor with the shape of the result.

    Returns:
        `(rows, vocabulary_size)`, 0 for tokens that do not occur in the row.

    Example:
        >>> import tensorflow as tf
        >>> from gpt_keras.generation.context import sum_by_token
        >>> sum_by_token(tf.constant([[2, 0, 2]]), tf.ones((1, 3)), tf.zeros((1, 4))).numpy()
        array([[1., 0., 2., 0.]], dtype=float32)
    """
    shape = tf.shape(like)
    num_rows, vocabulary_size = shape[0], shape[1]
    is_known = (token_ids >= 0) & (token_ids < vocabulary_size)
    cells = token_ids + tf.range(num_rows)[:, None] * vocabulary_size
    sums = tf.math.unsorted_segment_sum(
        tf.reshape(values, [-1]),
        tf.reshape(tf.where(is_known, cells, -1), [-1]),  # TensorFlow ignores negative ids
        num_rows * vocabulary_size,
    )
    return tf.reshape(sums, shape)
