"""From logits to a token: one draw for each row, from random numbers that are the row's own."""

import tensorflow as tf

# Uniform numbers are drawn in blocks of one fixed shape, so that a row's n-th number does not
# depend on how many are asked for.
_BLOCK = 64


def sample(logits, uniform):
    """Draw one token for each row, by inverting the cumulative distribution.

    Args:
        logits: `(batch, vocabulary_size)`, at least one of each row finite.
        uniform: `(batch,)`, numbers in [0, 1).

    Returns:
        `(batch,)` int32 token ids, none of which has probability 0.
    """
    cumulative = tf.cumsum(tf.nn.softmax(logits), axis=-1)
    passed = cumulative <= uniform[:, None] * cumulative[:, -1:]
    return tf.reduce_sum(tf.cast(passed, tf.int32), axis=-1)


def fold_in(seed, row):
    """Return the seed of row `row` of a batch whose seed is `seed`.

    Args:
        seed: Integer, the seed of the batch.
        row: Integer, the row's number.

    Returns:
        Scalar int64 tensor.

    Example:
        >>> import gpt_keras as gk
        >>> int(gk.generation.fold_in(0, 1)) == int(gk.generation.fold_in(0, 1))
        True
    """
    seeds = tf.stack([tf.cast(seed, tf.int64), tf.cast(row, tf.int64)])
    return tf.random.stateless_uniform([], seeds, minval=None, maxval=None, dtype=tf.int64)


def row_seeds(seed, batch_size):
    """Return `(batch_size,)` seeds: `fold_in(seed, i)` for row i."""
    return tf.map_fn(lambda i: fold_in(seed, i), tf.range(tf.cast(batch_size, tf.int64)))


def uniforms(seeds, count):
    """Draw `count` numbers in [0, 1) for each row; a row's numbers depend on its seed alone.

    Args:
        seeds: `(batch,)` int64.
        count: Scalar, how many are needed.

    Returns:
        float32 `(batch, at least count)`.
    """
    batch_size = tf.shape(seeds)[0]
    num_blocks = (count + _BLOCK - 1) // _BLOCK
    blocks = tf.range(tf.cast(num_blocks, tf.int64))
    keys = tf.stack(
        [tf.repeat(seeds, num_blocks), tf.tile(blocks, [batch_size])], axis=-1
    )  # (batch * num_blocks, 2)
    drawn = tf.map_fn(
        lambda key: tf.random.stateless_uniform([_BLOCK], key), keys, fn_output_signature=tf.float32
    )
    return tf.reshape(drawn, [batch_size, num_blocks * _BLOCK])
