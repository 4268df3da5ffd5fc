"""Means over terms: each term has the same weight, whatever its number of items."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpt_keras.evaluation.bootstrap import bootstrap_estimate
from gpt_keras.evaluation.estimate import Estimate, mean_estimate


def term_numbers(terms: Sequence[Any]) -> np.ndarray:
    """Return a number for each item's term; None is a new term each time.

    Args:
        terms: Term of each item, or None.
    """
    numbers: dict[Any, int] = {}
    return np.array(
        [
            numbers.setdefault((i,) if term is None else term, len(numbers))
            for i, term in enumerate(terms)
        ]
    )


def mean_over_terms(values: np.ndarray, numbers: np.ndarray) -> float:
    """Return the mean over the terms of the mean of a term's items.

    Args:
        values: `(num_items,)` numbers.
        numbers: `(num_items,)` term numbers.

    Example:
        >>> import numpy as np
        >>> from gpt_keras.evaluation.tasks.term_means import mean_over_terms
        >>> mean_over_terms(np.array([0.0, 1.0, 1.0]), np.array([0, 0, 1]))
        0.75
    """
    counts = np.bincount(numbers)
    has_items = counts > 0  # a bootstrap sample may miss a term
    return float((np.bincount(numbers, values)[has_items] / counts[has_items]).mean())


def term_mean_estimate(values: Sequence[float], terms: Sequence[Any]) -> Estimate:
    """Return the mean over terms with its standard error by the bootstrap.

    Items are drawn, and the terms are fixed: the error says nothing about other terms.

    Args:
        values: One number for each item.
        terms: Term of each item. If all are None, the mean over the items is returned.

    Raises:
        ValueError: `values` is empty.
    """
    if all(term is None for term in terms):
        return mean_estimate(values)
    array, numbers = np.asarray(values, np.float64), term_numbers(terms)
    return bootstrap_estimate(
        lambda drawn: mean_over_terms(array[drawn], numbers[drawn]), len(array)
    )
