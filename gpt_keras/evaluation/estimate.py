"""A measured figure with its standard error."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A figure measured on a sample of items, with its standard error.

    Attributes:
        value: The figure.
        standard_error: Standard error of the figure; NaN for a single item.
        num_items: Number of items.

    Example:
        >>> import gpt_keras as gk
        >>> print(gk.evaluation.Estimate(0.632, 0.0216, 500))
        0.632 ± 0.022
    """

    value: float
    standard_error: float
    num_items: int

    def __str__(self):
        return f"{self.value:.3f} ± {self.standard_error:.3f}"


def mean_estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of independent values and its standard error.

    The standard error is the sample standard deviation (divisor `n - 1`) divided by the root of
    `n`, as in lm-evaluation-harness.

    Args:
        values: One number for each item.

    Returns:
        The estimate.

    Raises:
        ValueError: `values` is empty.

    Example:
        >>> from gpt_keras.evaluation.estimate import mean_estimate
        >>> print(mean_estimate([1, 0, 1, 1]))
        0.750 ± 0.250
    """
    numbers = np.asarray(values, np.float64)
    if numbers.size == 0:
        raise ValueError("`values` must hold a number for each item, got none.")
    error = numbers.std(ddof=1) / math.sqrt(numbers.size) if numbers.size > 1 else math.nan
    return Estimate(float(numbers.mean()), float(error), numbers.size)
