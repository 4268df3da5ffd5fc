"""Sampling of tokens, with a stream of random numbers for each row."""

import tensorflow as tf

# Random numbers are drawn in blocks of a fixed size, so that the n-th number of a row does not
# depend on `count`.
_BLOCK = 64


def sample(logits, uniform):
    """Sample one token for each row, by inverse transform sampling.

    Args:
        logits: `(batch, vocabulary_size)`, with at least one finite logit in each row.
        uniform: `(batch,)`, random numbers in [0, 1).

    Returns:
        `(batch,)` int32 token ids. A token of probability 0 is never sampled.

    Example:
        >>> import tensorflow as tf
        >>> from gpt_keras.generation.sampling import sample
        >>> logits = tf.math.log([[0.25, 0.25, 0.5]])
        >>> sample(logits, tf.constant([0.3])).numpy()
        array([1], dtype=int32)
    """
    cumulative = tf.cumsum(tf.nn.softmax(logits), axis=-1)
    passed = cumulative <= uniform[:, None] * cumulative[:, -1:]
    return tf.reduce_sum(tf.cast(passed, tf.int32), axis=-1)


def fold_in(seed, row):
    """Return the seed of one row of a batch.

    `generate(prompts, seed=seed)` gives row i the seed `fold_in(seed, i)`. So
    `generate([prompts[i]], seed=[int(fold_in(seed, i))])` generates the text of this row alone.

    Args:
        seed: Integer, the seed of the batch.
        row: Integer, the index of the row.

    Returns:
        Scalar int64 tensor.

    Example:
        >>> import gpt_keras as gk
        >>> seeds = [int(gk.generation.fold_in(7, row)) for row in range(3)]
        >>> len(set(seeds)), seeds[1] == int(gk.generation.fold_in(7, 1))
        (3, True)
    """
    seeds = tf.stack([tf.cast(seed, tf.int64), tf.cast(row, tf.int64)])
    return tf.random.stateless_uniform([], seeds, minval=None, maxval=None, dtype=tf.int64)


def row_seeds(seed, batch_size):
    """Return `(batch_size,)` int64 seeds: `fold_in(seed, i)` for row i."""
    return tf.map_fn(lambda i: fold_in(seed, i), tf.range(tf.cast(batch_size, tf.int64)))


def uniforms(seeds, count):
    """Return random numbers in [0, 1) for each row, determined by the seed of the row.

    Args:
        seeds: `(batch,)` int64, one seed for each row.
        count: Scalar int32, smallest number of random numbers for each row.

    Returns:
        `(batch, n)` float32, where n is `count` rounded up to a multiple of 64.
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
