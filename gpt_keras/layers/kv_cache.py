"""The KV cache: functions that write new keys and values and move columns."""

import keras
import tensorflow as tf


def write_cache(cache, update, index):
    """Write the keys and values of new tokens into a KV cache.

    In a graph loop outside XLA, TensorFlow updates the cache in place. This is why the compiled
    generation step returns only the new tokens' part and not the whole cache.

    Args:
        cache: Nested lists and tuples of tensors `(batch, heads, length, dim)`.
        update: The new tokens' part in the same structure, `(batch, heads, new, dim)`.
        index: Scalar, the position along `length` of the first new token.

    Returns:
        The filled cache, in the structure of `cache`.

    Example:
        >>> import gpt_keras as gk
        >>> import tensorflow as tf
        >>> cache, new = tf.zeros((1, 1, 4, 1)), tf.ones((1, 1, 2, 1))
        >>> gk.layers.write_cache([cache], [new], 1)[0][0, 0, :, 0].numpy().tolist()
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


def move_cache(cache, length, offsets):
    """Return a KV cache whose columns are moved to the right or left.

    Args:
        cache: Nested lists and tuples of tensors `(batch, heads, cached, dim)`. A batch of 1 is
            broadcast to all rows.
        length: Scalar, the number of columns of the new cache.
        offsets: `(batch,)`, the number of columns by which each row moves to the right; negative
            numbers move it to the left.

    Returns:
        A new cache, `(batch, heads, length, dim)`. Columns that received no data are undefined.

    Example:
        >>> import gpt_keras as gk
        >>> import tensorflow as tf
        >>> cache = [tf.reshape([1.0, 2.0, 3.0], (1, 1, 3, 1))]
        >>> moved = gk.layers.move_cache(cache, 4, tf.constant([1]))
        >>> moved[0][0, 0, 1:, 0].numpy().tolist()
        [1.0, 2.0, 3.0]
    """
    columns = tf.range(length)[None, :] - tf.cast(offsets, tf.int32)[:, None]  # (batch, length)
    columns = tf.clip_by_value(columns, 0, num_columns(cache) - 1)

    def move(part):
        shape, heads = tf.shape(part), tf.shape(part)[1]
        part = tf.broadcast_to(part, tf.concat([[tf.shape(columns)[0]], shape[1:]], axis=0))
        index = tf.repeat(columns[:, None, :], heads, axis=1)  # (batch, heads, length)
        return tf.gather(part, index, axis=2, batch_dims=2)

    return keras.tree.map_structure(move, cache)


def num_columns(cache):
    """Return the number of tokens that a KV cache has room for, a scalar tensor."""
    return tf.shape(keras.tree.flatten(cache)[0])[2]
