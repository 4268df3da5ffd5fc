"""`tf.data` pipelines of batches of indices, and of arrays gathered by them.

What is in a batch is a function of the seed, the epoch and the batch's number: nothing is held in
a shuffle buffer, so an epoch may have any length.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf


def shuffled_indices(size: int, batch_size: int, num_batches: int, seed: int) -> tf.data.Dataset:
    """Batches of indices, in another order each time the dataset is gone through.

    The n-th pass is the same for the same seed.

    Args:
        size: Indices run from 0 to `size - 1`.
        batch_size: Indices in a batch.
        num_batches: Batches in an epoch. If it takes more than `size` indices, the last ones
            are -1.
        seed: Decides the orders.

    Returns:
        A dataset of `(batch_size,)` int64.
    """
    epochs = itertools.count()

    def next_epoch() -> np.ndarray:
        return np.array(next(epochs), np.int64)

    def one_epoch(_: tf.Tensor) -> tf.data.Dataset:
        epoch = tf.ensure_shape(tf.numpy_function(next_epoch, [], tf.int64), [])
        # Python is asked once an epoch; the order of a batch is computed by TensorFlow.
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
    """Batches of the indices 0 to `size - 1` in order; the last batch may be smaller.

    Args:
        size: Number of indices.
        batch_size: Indices in a batch.

    Returns:
        A dataset of `(None,)` int64.
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
        function: Takes such a vector as a numpy array, returns arrays.
        signature: Shape and dtype of each array.

    Returns:
        A dataset of tuples, prefetched.
    """

    def batch(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        arrays = tf.numpy_function(function, [index], [spec.dtype for spec in signature])
        return tuple(tf.ensure_shape(a, spec.shape) for a, spec in zip(arrays, signature))

    return indices.map(batch).prefetch(tf.data.AUTOTUNE)
