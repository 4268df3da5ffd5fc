"""Stratified splits of labeled rows, in which some rows stay together."""

from collections.abc import Sequence

import numpy as np


def units_of(*keys: Sequence) -> np.ndarray:
    """Return the unit of each row; rows that share a key are in the same unit.

    Two rows are also in the same unit if a chain of shared keys connects them.

    Args:
        *keys: Sequences of one hashable value for each row.

    Returns:
        int64 numbers `(rows,)`, from 0 up to the number of units.

    Example:
        >>> from gpt_keras.datasets.splits import units_of
        >>> units_of(["a", "b", "a", "c"], [1, 2, 3, 3]).tolist()
        [0, 1, 0, 0]
    """
    parents = list(range(len(keys[0])))

    def root(row):
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    for values in keys:
        first = {}
        for row, value in enumerate(values):
            a, b = root(first.setdefault(value, row)), root(row)
            parents[max(a, b)] = min(a, b)
    return np.unique([root(row) for row in range(len(parents))], return_inverse=True)[1]


def draw_splits(
    labels: np.ndarray, units: np.ndarray, fractions: Sequence[float], seed: int
) -> np.ndarray:
    """Draw the split of each row, so that every split has the same shares of classes.

    The units are drawn in a random order, large ones first. Each goes to the split that needs its
    rows most. That choice minimizes the sum of squared differences between the number of rows that
    a split has and the number that it should have. The sum runs over the splits, and in each over
    the classes and the total. A class without rows in split 0 then gives its smallest unit to it.

    Args:
        labels: `(rows,)`, number of the class of each row, 0 to the number of classes - 1.
        units: `(rows,)`, number of the unit of each row, as `units_of` returns.
        fractions: Fraction of the rows for each split; their sum is 1.
        seed: Seed of the order.

    Returns:
        int64 numbers of splits, `(rows,)`.

    Example:
        >>> import numpy as np
        >>> from gpt_keras.datasets.splits import draw_splits
        >>> labels = np.array([0, 0, 0, 0, 1, 1])
        >>> splits = draw_splits(labels, np.arange(6), [0.5, 0.5], seed=0)
        >>> np.bincount(labels[splits == 0]).tolist(), np.bincount(labels[splits == 1]).tolist()
        ([2, 1], [2, 1])
    """
    sizes = np.bincount(units)
    rows_of = np.split(np.argsort(units, kind="stable"), np.cumsum(sizes)[:-1])
    num_classes = int(labels.max()) + 1
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    totals = np.append(np.bincount(labels), len(labels))
    needed = np.outer(np.array(fractions, float), totals)  # (splits, classes + 1)
    # A split of fraction 0 gets no rows, even where the others have too many.
    needed[np.equal(fractions, 0)] = -np.inf
    split_of = np.zeros(len(sizes), np.int64)
    for unit in order:
        classes, counts = np.unique(labels[rows_of[unit]], return_counts=True)
        places, counts = np.append(classes, num_classes), np.append(counts, sizes[unit])
        # (needed - counts)^2 - needed^2 is smallest where the product is largest.
        split_of[unit] = np.argmax(needed[:, places] @ counts)
        needed[split_of[unit], places] -= counts
    for label in range(num_classes):
        own = np.unique(units[labels == label])
        if len(own) and not (split_of[own] == 0).any():
            split_of[own[np.argmin(sizes[own])]] = 0
    return split_of[units]
