"""Comparison of two results on the same items."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpt_keras.evaluation.estimate import Estimate
from gpt_keras.evaluation.tasks.task import TaskResult
from gpt_keras.evaluation.tasks.term_means import term_mean_estimate

# Keys of a record that say which item it is.
_IDENTITY = ("prompt", "choices", "target")


class MetricDifference(NamedTuple):
    """Difference of one metric between two results on the same items.

    Attributes:
        a: The metric of the first result.
        b: The metric of the second result.
        difference: `a - b`, with the standard error of the mean of the paired differences.
        p_value: Two-sided p-value for "there is no difference".
        test: Name of the test: `"sign test"` or `"normal"`.

    Example:
        >>> import gpt_keras as gk
        >>> Estimate = gk.evaluation.Estimate
        >>> a, b = Estimate(0.65, 0.02, 500), Estimate(0.63, 0.02, 500)
        >>> print(gk.evaluation.MetricDifference(a, b, Estimate(0.02, 0.01, 500), 0.046, "normal"))
        0.650 - 0.630 = 0.020 ± 0.010, p = 0.046 (normal)
    """

    a: float
    b: float
    difference: Estimate
    p_value: float
    test: str

    def __str__(self):
        return (
            f"{self.a.value:.3f} - {self.b.value:.3f} = {self.difference}, "
            f"p = {self.p_value:.2g} ({self.test})"
        )


class Comparison(NamedTuple):
    """Result of `compare`. `print(comparison)` shows it as text.

    Attributes:
        task: Name of the task.
        num_items: Number of items.
        metrics: The difference of each metric.

    Example:
        >>> import gpt_keras as gk
        >>> gk.evaluation.Comparison("piqa", 500, {})
        Comparison(task='piqa', num_items=500, metrics={})
    """

    task: str
    num_items: int
    metrics: dict[str, MetricDifference]

    def __str__(self):
        width = max(map(len, self.metrics), default=0)
        head = f"{self.task}: {self.num_items} items"
        return "\n".join([head, *(f"{name:{width}} {m}" for name, m in self.metrics.items())])


def compare(a: TaskResult, b: TaskResult, metric: str | None = None) -> Comparison:
    """Test whether two results on the same items differ.

    Both models answer the same items, so the test is paired: it uses the difference on each item.
    The standard error of the mean difference is smaller than the two standard errors suggest, since
    both models find the same items hard (Miller 2024, "Adding Error Bars to Evals", section 4).

    The test of a metric that is 0 or 1 for each item, such as accuracy, is the exact sign test on
    the items where the two differ, which is McNemar's exact test. It also serves other metrics
    whose differences all have one size. The test of all other metrics is the normal approximation
    for the mean difference, which needs some 30 items or more.

    A p-value is the probability of a difference at least as large between two equally good models.
    If you compare several metrics or tasks, expect a small p-value by chance: with 20 tests of
    equal models, one in 20 is below 0.05.

    Args:
        a: Result of `evaluate`. Each record has `scores`, a dict from metrics to numbers.
        b: Result on the same items.
        metric: Name of a metric. Default: all metrics that both results have for each item.

    Returns:
        A `Comparison` of means over the items, or over target terms if the records have a `target`,
        as in StereoSet. Metrics of a whole corpus, such as BLEU, have no value for each item and
        are not compared.

    Raises:
        ValueError: The results are of different items, or have no value of `metric` for each item.

    Example:
        >>> import gpt_keras as gk
        >>> def result(*scores):
        ...     records = [
        ...         {"place": f"row {i}", "prompt": f"{i} + 1 =", "scores": {"acc": score}}
        ...         for i, score in enumerate(scores)
        ...     ]
        ...     return gk.evaluation.TaskResult("sums", {}, records, 0)
        >>> print(gk.evaluation.compare(result(1, 1, 1, 1, 0, 1), result(1, 0, 0, 0, 0, 0)))
        sums: 6 items
        acc 0.833 - 0.167 = 0.667 ± 0.211, p = 0.12 (sign test)
    """
    for name, result in (("a", a), ("b", b)):
        if not isinstance(result, TaskResult):
            raise ValueError(f"`{name}` must be a TaskResult of `evaluate`, got {result!r}.")
    _check_same_items(a.records, b.records)
    names_of_b = _metrics_by_item("b", b)
    names = [name for name in _metrics_by_item("a", a) if name in names_of_b]
    if metric is not None:
        if metric not in names:
            raise ValueError(
                "`metric` must have a value for each item of both results: "
                f"{', '.join(names) or 'there is none'}; got {metric!r}."
            )
        names = [metric]
    elif not names:
        raise ValueError("`a` and `b` must have a metric in common that has a value for each item.")
    return Comparison(
        a.task, len(a.records), {name: _difference(a.records, b.records, name) for name in names}
    )


def _check_same_items(a: Sequence[Mapping], b: Sequence[Mapping]) -> None:
    if not a or len(a) != len(b):
        raise ValueError(
            f"`a` and `b` must be results on the same items, got {len(a)} and {len(b)} items."
        )
    for i, (first, second) in enumerate(zip(a, b)):
        for key, values in {
            "place": [_file_and_line(record) for record in (first, second)],
            **{key: [record.get(key) for record in (first, second)] for key in _IDENTITY},
        }.items():
            if values[0] != values[1]:
                raise ValueError(
                    f"`a` and `b` must be results on the same items, but the {key} of item {i} is "
                    f"{values[0]!r} in `a` and {values[1]!r} in `b`."
                )


def _file_and_line(record: Mapping[str, Any]) -> str | None:
    """Return the place of a record without the folder, since files are copied."""
    place = record.get("place")
    return None if place is None else os.path.basename(str(place).replace("\\", "/"))


def _metrics_by_item(name: str, result: TaskResult) -> list[str]:
    """Return the metrics that each record has."""
    for i, record in enumerate(result.records):
        if not isinstance(record.get("scores"), Mapping):
            raise ValueError(
                f"`{name}` must have `scores`, a dict from metrics to numbers, in each record; "
                f"record {i} has the keys {', '.join(record)}."
            )
    return [
        metric
        for metric in result.records[0]["scores"]
        if all(metric in record["scores"] for record in result.records)
    ]


def _difference(a: Sequence[Mapping], b: Sequence[Mapping], name: str) -> MetricDifference:
    first, second = (
        np.array([record["scores"][name] for record in records], np.float64) for records in (a, b)
    )
    terms = [record.get("target") for record in a]
    has_terms = any(term is not None for term in terms)
    difference = term_mean_estimate(first - second, terms)
    if not has_terms and _is_sign_test(first - second):
        test, p_value = "sign test", _sign_test(first - second)
    else:
        test, p_value = "normal", _normal_test(difference)
    return MetricDifference(
        term_mean_estimate(first, terms),
        term_mean_estimate(second, terms),
        difference,
        p_value,
        test,
    )


def _normal_test(difference: Estimate) -> float:
    """Return the two-sided p-value of the normal approximation."""
    if difference.value == 0:
        return 1.0
    if not difference.standard_error > 0:  # no error to compare with
        return math.nan
    return math.erfc(abs(difference.value / difference.standard_error) / math.sqrt(2))


def _is_sign_test(differences: np.ndarray) -> bool:
    sizes = np.abs(differences[differences != 0])
    return sizes.size == 0 or bool((sizes == sizes[0]).all())


def _sign_test(differences: np.ndarray) -> float:
    """Return the two-sided p-value of the exact sign test; equal items do not count."""
    num_above, num_below = int((differences > 0).sum()), int((differences < 0).sum())
    num_items = num_above + num_below
    tail = sum(math.comb(num_items, i) for i in range(min(num_above, num_below) + 1))
    return min(1.0, float(2 * tail / 2**num_items)) if num_items else 1.0
