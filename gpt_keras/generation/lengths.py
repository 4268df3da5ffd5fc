"""Lengths to which a KV cache is rounded up, so that XLA compiles for few shapes."""

import tensorflow as tf


def bucket_length(length):
    """Round a scalar tensor up to the next of 32, 48, 64, 96, 128, 192, ...

    XLA compiles once for each shape; with these few lengths a new prompt seldom brings a new
    shape, and at most a third of the room is unused.
    """
    power = tf.constant(32)
    power = tf.while_loop(lambda p: p < length, lambda p: [2 * p], [power])[0]
    return tf.where((power > 32) & (length <= power // 4 * 3), power // 4 * 3, power)


def bucket_lengths(longest: int) -> list[int]:
    """Return what `bucket_length` gives for 1 to `longest` tokens, in order."""
    lengths = [32]
    while lengths[-1] < longest:
        last = lengths[-1]
        is_power = last & (last - 1) == 0
        lengths.append(last * 3 // 2 if is_power else last * 4 // 3)
    return lengths
