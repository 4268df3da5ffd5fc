"""`tf.data` pipelines of batches of indices, and of the arrays at these indices.

The content of a batch depends only on the seed, the epoch and the number of the batch. There is no
shuffle buffer, so an epoch may have any length.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf


def shuffled_indices(size: int, batch_size: int, num_batches: int, seed: int) -> tf.data.Dataset:
    """Return batches of indices, in a different order in each epoch.

    The n-th iteration over the dataset is the same for the same seed.

    Args:
        size: Indices are in `[0, size)`.
        batch_size: Number of indices in a batch.
        num_batches: Number of batches in an epoch. If an epoch has more than `size` indices, the
            last ones are -1.
        seed: Seed of the orders.

    Returns:
        A dataset of int64 tensors `(batch_size,)`.
    """
    epochs = itertools.count()

    def next_epoch() -> np.ndarray:
        return np.array(next(epochs), np.int64)

    def one_epoch(_: tf.Tensor) -> tf.data.Dataset:
        epoch = tf.ensure_shape(tf.numpy_function(next_epoch, [], tf.int64), [])
        # Python runs once in each epoch; TensorFlow computes the order inside a batch.
        return tf.data.Dataset.range(num_batches).map(lambda batch: indices(epoch, batch))

    def indices(epoch: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        place = batch * batch_size + tf.range(batch_size, dtype=tf.int64)
        shuffled = tf.random.experimental.index_shuffle(
            tf.minimum(place, size - 1), tf.stack([tf.constant(seed, tf.int64), epoch]), size - 1
        )
        return tf.where(place < size, shuffled, -1)

    dataset = tf.data.Dataset.range(1).flat_map(one_epoch)
    return dataset.apply(tf.data.experimental.assert_cardinality(num_batches))


def ordered_indices(size: int, batch_size: int) -> tf.data.Dataset:
    """Return batches of the indices 0 to `size - 1` in order.

    Args:
        size: Number of indices.
        batch_size: Number of indices in a batch; the last batch may be smaller.

    Returns:
        A dataset of int64 tensors `(None,)`.
    """
    return tf.data.Dataset.range(-(-size // batch_size)).map(
        lambda batch: tf.range(batch * batch_size, tf.minimum((batch + 1) * batch_size, size))
    )


def gather(
    indices: tf.data.Dataset,
    function: Callable[[np.ndarray], tuple[np.ndarray, ...]],
    signature: Sequence[tf.TensorSpec],
) -> tf.data.Dataset:
    """Turn batches of indices into batches of arrays.

    Args:
        indices: Dataset of int64 vectors.
        function: A function from a vector of indices, as a NumPy array, to a tuple of arrays.
        signature: Shape and dtype of each array.

    Returns:
        A prefetched dataset of tuples of tensors.
    """

    def batch(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        arrays = tf.numpy_function(function, [index], [spec.dtype for spec in signature])
        return tuple(tf.ensure_shape(a, spec.shape) for a, spec in zip(arrays, signature))

    return indices.map(batch).prefetch(tf.data.AUTOTUNE)
