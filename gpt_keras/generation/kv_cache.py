"""Room for what a model remembers of the tokens it has seen."""

import keras
import tensorflow as tf


def write_cache(cache, update, index):
    """Write the new tokens' part of a cache in its place.

    Outside XLA this works in place inside a graph loop, which is why the compiled step returns only
    what is new.

    Args:
        cache: nested lists and tuples of tensors `(batch, heads, length, dim)`.
        update: the same structure, `(batch, heads, new, dim)`.
        index: scalar, the position along `length` at which the new part begins.

    Returns:
        The filled cache, of the structure of `cache`.

    Example:
        >>> import gpt_keras as gk
        >>> import tensorflow as tf
        >>> cache, new = tf.zeros((1, 1, 4, 1)), tf.ones((1, 1, 2, 1))
        >>> gk.generation.write_cache([cache], [new], 1)[0][0, 0, :, 0].numpy().tolist()
        [0.0, 1.0, 1.0, 0.0]
    """
    return keras.tree.map_structure(lambda old, new: _write_slice(old, new, index), cache, update)


def _write_slice(old, new, index):
    index = tf.cast(index, tf.int32)
    written = tf.raw_ops.TensorStridedSliceUpdate(
        input=old,
        begin=tf.stack([0, 0, index, 0]),
        end=tf.stack([0, 0, index + tf.shape(new)[2], 0]),
        strides=[1, 1, 1, 1],
        value=new,
        begin_mask=0b1011,  # all of axes 0, 1 and 3
        end_mask=0b1011,
    )
    written.set_shape(old.shape)
    return written


def bucket_length(length):
    """Round a scalar tensor up to the next of 32, 48, 64, 96, 128, 192, ...

    XLA compiles once for each shape; with these few lengths a new prompt seldom brings a new
    shape, and at most a third of the room is unused.
    """
    power = tf.constant(32)
    power = tf.while_loop(lambda p: p < length, lambda p: [2 * p], [power])[0]
    return tf.where((power > 32) & (length <= power // 4 * 3), power // 4 * 3, power)
