"""Bootstrap: intervals and standard errors by resampling the items."""

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpt_keras.checks import check_positive_int, check_seed
from gpt_keras.evaluation.estimate import Estimate

# Number of resamples that one seed draws in lm-evaluation-harness.
_OF_ONE_SEED = 1000


class Interval(NamedTuple):
    """A figure measured on a sample of items, with a confidence interval.

    Attributes:
        value: The figure.
        low: Lower end of the interval.
        high: Upper end of the interval.
        confidence: Confidence level of the interval, such as 0.95.
        num_items: Number of resampled items.

    Example:
        >>> import gpt_keras as gk
        >>> print(gk.evaluation.Interval(0.632, 0.59, 0.674, 0.95, 500))
        0.632 [0.590, 0.674]
    """

    value: float
    low: float
    high: float
    confidence: float
    num_items: int

    def __str__(self):
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_interval(
    values: Sequence,
    statistic: Callable[[np.ndarray], float] = np.mean,
    *,
    confidence: float = 0.95,
    num_samples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return a statistic of independent items with its percentile bootstrap interval.

    The items are drawn with replacement `num_samples` times, as many as there are, and the
    statistic is computed on each sample. The interval ends at the percentiles of these figures
    (Efron and Tibshirani 1993, section 13.3). With few items, about 20 or less, it is too narrow.

    Items must be independent. If several rows belong together, such as rows about one target term,
    pass one entry for each group of rows.

    Args:
        values: One entry for each item: `(num_items,)` numbers, or `(num_items, ...)` for a
            statistic of several numbers.
        statistic: Function of an array of drawn items, shaped as `values`. Returns one number.
        confidence: Confidence level, between 0 and 1.
        num_samples: Number of bootstrap samples.
        seed: Seed of the drawing.

    Returns:
        An `Interval`.

    Raises:
        ValueError: `values` is empty or holds something else than finite numbers; `confidence`,
            `num_samples` or `seed` is out of range; or `statistic` does not return a number.

    Example:
        >>> import gpt_keras as gk
        >>> interval = gk.evaluation.bootstrap_interval([1] * 30 + [0] * 20)
        >>> print(interval)
        0.600 [0.460, 0.740]
    """
    array = _finite_array("values", values)
    check_confidence(confidence)
    value, samples = _resample(lambda rows: statistic(array[rows]), len(array), num_samples, seed)
    low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high), float(confidence), len(array))


def bootstrap_estimate(
    statistic: Callable[[np.ndarray], float],
    num_items: int,
    *,
    num_samples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Return a figure of a whole corpus with its standard error, by the bootstrap.

    It is for figures that are no means over items, such as BLEU. The standard error is the standard
    deviation of the figure over samples of the items, drawn with replacement (Efron and Tibshirani
    1993, chapter 6; Koehn 2004 for BLEU).

    Args:
        statistic: Function of item indices, `(num_items,)` integers. Returns one number.
        num_items: Number of items.
        num_samples: Number of bootstrap samples, at least 2.
        seed: Seed of the drawing.

    Returns:
        An `Estimate`.

    Raises:
        ValueError: `num_items`, `num_samples` or `seed` is out of range, or `statistic` does not
            return a number.

    Example:
        >>> import gpt_keras as gk
        >>> predictions = ["a small cat sat here", "the dog ran off today", "it rains a lot"]
        >>> references = ["a small cat sat there", "a dog ran off today", "it snows a lot"]
        >>> def chrf(rows):
        ...     return gk.evaluation.chrf([predictions[i] for i in rows],
        ...                               [references[i] for i in rows])
        >>> print(gk.evaluation.bootstrap_estimate(chrf, len(predictions), num_samples=100))
        72.723 ± 13.469
    """
    check_positive_int("num_items", num_items)
    check_positive_int("num_samples", num_samples)
    if num_samples < 2:
        raise ValueError(f"`num_samples` must be at least 2, got {num_samples}.")
    value, samples = _resample(statistic, num_items, num_samples, seed)
    error = float(np.std(samples, ddof=1)) if num_items > 1 else np.nan
    return Estimate(value, error, num_items)


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
        >>> from gpt_keras.evaluation.bootstrap import bootstrap_error
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


def check_confidence(confidence: Any) -> None:
    """Raise `ValueError` unless `confidence` is a number between 0 and 1."""
    if not isinstance(confidence, numbers.Real) or not 0 < confidence < 1:
        raise ValueError(f"`confidence` must be between 0 and 1, got {confidence!r}.")


def _finite_array(name: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must hold numbers, got {values!r}.") from error
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"`{name}` must hold an entry for each item, got {values!r}.")
    if not np.isfinite(array).all():
        item = int(np.argwhere(~np.isfinite(array))[0][0])
        raise ValueError(
            f"`{name}` must hold finite numbers, got {array[item]} as item number {item}."
        )
    return array


def _resample(
    statistic: Callable[[np.ndarray], float], num_items: int, num_samples: int, seed: int
) -> tuple[float, np.ndarray]:
    """Return a statistic of item indices for all items, and for each bootstrap sample."""
    check_positive_int("num_samples", num_samples)
    check_seed(seed)
    generator = np.random.default_rng(seed)
    value = _number(statistic(np.arange(num_items)))
    samples = [
        _number(statistic(generator.integers(num_items, size=num_items)))
        for _ in range(num_samples)
    ]
    return value, np.array(samples)


def _number(found: Any) -> float:
    if np.ndim(found) != 0 or np.asarray(found).dtype.kind not in "biuf":
        raise ValueError(f"`statistic` must return one number, got {found!r}.")
    return float(found)
