"""Bucketed lengths of the KV cache, so that XLA compiles for few shapes."""

import tensorflow as tf


def bucket_length(length):
    """Round a scalar tensor up to the next of 32, 48, 64, 96, 128, 192, ...

    XLA compiles once for each shape. With these few lengths, a new prompt seldom needs a new
    compilation, and beyond 32 tokens less than a third of the cache is unused.

    Args:
        length: Scalar int32 tensor.

    Returns:
        Scalar int32 tensor.
    """
    power = tf.constant(32)
    power = tf.while_loop(lambda p: p < length, lambda p: [2 * p], [power])[0]
    return tf.where((power > 32) & (length <= power // 4 * 3), power // 4 * 3, power)


def bucket_lengths(longest: int) -> list[int]:
    """Return the different values of `bucket_length` for 1 to `longest`, in order."""
    lengths = [32]
    while lengths[-1] < longest:
        last = lengths[-1]
        is_power = last & (last - 1) == 0
        lengths.append(last * 3 // 2 if is_power else last * 4 // 3)
    return lengths
