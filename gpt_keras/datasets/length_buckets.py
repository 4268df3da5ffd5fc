"""Batches of rows of similar length, so that there is little padding."""

import itertools

import numpy as np
import tensorflow as tf

# Rows are padded to a multiple of this length.
_STEP = 8


def row_lengths(sizes: np.ndarray, num_lengths: int) -> np.ndarray:
    """Return the lengths of batches: quantiles of the sizes, the largest size at most.

    Args:
        sizes: Number of tokens of each row, `(rows,)`.
        num_lengths: Largest number of different lengths.

    Returns:
        Increasing lengths; the last one is the largest size.

    Example:
        >>> import numpy as np
        >>> from gpt_keras.datasets.length_buckets import row_lengths
        >>> row_lengths(np.array([3, 5, 6, 21, 29, 50]), num_lengths=2).tolist()
        [8, 50]
    """
    shares = np.arange(1, num_lengths + 1) / num_lengths
    quantiles = np.quantile(sizes, shares, method="inverted_cdf")
    return np.unique(np.minimum(-(-quantiles // _STEP) * _STEP, sizes.max())).astype(np.int64)


def bucketed_order(groups: np.ndarray, batch_size: int, seed=None) -> np.ndarray:
    """Return the rows of each batch of an epoch, in batches of one group.

    Rows that do not fill a batch move on to the next group. The last batch is filled up with -1.

    Args:
        groups: Number of the length of each row, `(rows,)`; larger numbers are longer.
        batch_size: Number of rows in a batch.
        seed: Seed of the order, any seed of `np.random.default_rng`; None keeps the order of the
            rows inside each group.

    Returns:
        int64 numbers of rows, `(batches, batch_size)`.

    Example:
        >>> import numpy as np
        >>> from gpt_keras.datasets.length_buckets import bucketed_order
        >>> bucketed_order(np.array([1, 0, 0, 1, 0]), batch_size=2).tolist()
        [[1, 2], [4, 0], [3, -1]]
    """
    generator = None if seed is None else np.random.default_rng(seed)
    batches, rest = [], np.empty(0, np.int64)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        if generator is not None:
            generator.shuffle(rows)
        rows = np.concatenate([rest, rows])
        num_full = len(rows) // batch_size
        batches.append(rows[: num_full * batch_size].reshape(num_full, batch_size))
        rest = rows[num_full * batch_size :]
    if len(rest):
        filled = np.full((1, batch_size), -1, np.int64)
        filled[0, : len(rest)] = rest
        batches.append(filled)
    order = np.concatenate(batches)
    return order if generator is None else generator.permutation(order)


def bucketed_indices(groups: np.ndarray, batch_size: int, seed: int | None) -> tf.data.Dataset:
    """Return batches of row numbers as a dataset, in a new order in each epoch.

    The n-th iteration over the dataset is the same for the same seed.

    Args:
        groups: As in `bucketed_order`.
        batch_size: As in `bucketed_order`.
        seed: Seed of the orders; None keeps the given order.

    Returns:
        A dataset of int64 tensors `(batch_size,)`; -1 is no row.
    """
    epochs = itertools.count()

    def next_order() -> np.ndarray:
        return bucketed_order(groups, batch_size, None if seed is None else (seed, next(epochs)))

    def one_epoch(_: tf.Tensor) -> tf.data.Dataset:
        order = tf.ensure_shape(tf.numpy_function(next_order, [], tf.int64), [None, batch_size])
        return tf.data.Dataset.from_tensor_slices(order)

    indices = tf.data.Dataset.range(1).flat_map(one_epoch)
    num_batches = -(-len(groups) // batch_size)
    return indices.apply(tf.data.experimental.assert_cardinality(num_batches))
