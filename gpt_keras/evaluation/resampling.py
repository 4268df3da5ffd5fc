"""Standard errors by the bootstrap, with the resamples of lm-evaluation-harness."""

import math
from collections.abc import Callable, Sequence

import numpy as np

# Number of resamples that one seed draws in lm-evaluation-harness.
_OF_ONE_SEED = 1000


def bootstrap_error(
    statistic: Callable[[np.ndarray], Sequence[float]], num_items: int, *, num_resamples: int
) -> float:
    """Return the standard error of a statistic by the bootstrap.

    The standard error is the standard deviation of the statistic over resamples of the items with
    replacement (Efron and Tibshirani 1993, section 6.2). The resamples are the same
    as in lm-evaluation-harness, and so is the result.

    Args:
        statistic: Function from item numbers `(resamples, num_items)` to a value for each resample.
        num_items: Number of items.
        num_resamples: Number of resamples; above 1,000, a multiple of 1,000.

    Returns:
        The standard error; NaN for a single item.

    Example:
        >>> import numpy as np
        >>> from gpt_keras.evaluation.resampling import bootstrap_error
        >>> values = np.array([1.0, 0.0, 1.0, 1.0])
        >>> error = bootstrap_error(lambda rows: values[rows].mean(1), 4, num_resamples=1000)
        >>> round(error, 2)    # about 0.433 / sqrt(4)
        0.23
    """
    if num_items < 2:
        return math.nan
    size = min(_OF_ONE_SEED, num_resamples)
    values = []
    for seed in range(num_resamples // size):
        # With a list as its seed, NumPy's generator is that of `random.Random(seed)`.
        generator = np.random.RandomState([seed])
        rows = generator.random_sample((size, num_items)) * num_items
        values.append(np.asarray(statistic(rows.astype(np.int64)), np.float64))
    return float(np.concatenate(values).std(ddof=1))
