"""Hash table of integers in a TensorFlow graph."""

from collections.abc import Iterable

import tensorflow as tf


def hash_table(
    keys: Iterable[int], values: Iterable[int], default: int
) -> tf.lookup.StaticHashTable:
    """Return a table from int64 to int64 that a SavedModel can hold.

    Args:
        keys: Distinct integers.
        values: The value of each key.
        default: The value of every other key.
    """
    keys, values = list(keys), list(values)
    if not keys:  # TensorFlow does not accept an empty table
        keys, values = [default], [default]
    with tf.init_scope():  # must outlive a function that is being traced
        initializer = tf.lookup.KeyValueTensorInitializer(
            tf.constant(keys, tf.int64),
            tf.constant(values, tf.int64),
        )
        return tf.lookup.StaticHashTable(initializer, default_value=default)
