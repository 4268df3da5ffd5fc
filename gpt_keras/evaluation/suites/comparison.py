"""Comparison of several models on the tasks of a suite."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from gpt_keras.evaluation.comparison import MetricDifference, compare
from gpt_keras.evaluation.suites.result import SuiteResult, aligned
from gpt_keras.evaluation.tasks.task import TaskResult


class SuiteComparison(NamedTuple):
    """Result of `compare_suites`. `print(comparison)` shows a table.

    Attributes:
        name: Name of the first model.
        results: The results of all models by name; the first model comes first.
        differences: For each other model and each task that both have, the difference of each
            metric: that of the first model minus that of the other one.

    Example:
        >>> import gpt_keras as gk
        >>> def result(*scores):
        ...     records = [{"place": str(i), "scores": {"acc": s}} for i, s in enumerate(scores)]
        ...     estimate = gk.evaluation.Estimate(sum(scores) / 4, 0.25, 4)
        ...     task = gk.evaluation.TaskResult("sums", {"acc": estimate}, records, 0)
        ...     entry = {"sha256": "12ab", "description_sha256": "34cd"}
        ...     return gk.evaluation.SuiteResult({"tasks": {"sums": entry}}, {"sums": task})
        >>> results = {"tuned": result(1, 1, 0, 1), "base": result(0, 1, 0, 1)}
        >>> print(gk.evaluation.compare_suites(results))
        task  metric          tuned           base      difference      p
        sums  acc     0.750 ± 0.250  0.500 ± 0.250  +0.250 ± 0.250  1.000
    """

    name: str
    results: dict[str, SuiteResult]
    differences: dict[str, dict[str, dict[str, MetricDifference]]]

    def __str__(self):
        titles, rows = self.table()
        return aligned(titles, rows, "ll" + "r" * (len(titles) - 2))

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return titles and rows: a row for each metric, columns for each model."""
        titles = ["task", "metric", self.name]
        for other in self.differences:
            titles += [other, "difference", "p"]
        names = {
            (task, metric): None
            for result in self.results.values()
            for task, found in result.tasks.items()
            for metric in found.metrics
        }
        rows, last = [], None
        for task, metric in names:
            row = [task if task != last else "", metric, self._value(self.name, task, metric)]
            for other, tasks in self.differences.items():
                found = tasks.get(task, {}).get(metric)
                row.append(self._value(other, task, metric))
                if found is None:
                    row += ["", ""]
                else:
                    value, error, _ = found.difference
                    row += [f"{value:+.3f} ± {error:.3f}", _p_value(found.p_value)]
            rows.append(row)
            last = task
        return titles, rows

    def _value(self, name: str, task: str, metric: str) -> str:
        found = self.results[name].tasks.get(task)
        return str(found.metrics[metric]) if found and metric in found.metrics else ""


def _p_value(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def compare_suites(results: Mapping[str, SuiteResult]) -> SuiteComparison:
    """Compare a model with others on the same items.

    Args:
        results: Results by the name of the model, of `evaluate_suite` or `load_results`. The first
            one is compared with each other one by `compare`.

    Returns:
        A `SuiteComparison`. Tasks that only one of two models has, and metrics that are no mean of
        the scores of all items, have no difference.

    Raises:
        ValueError: There is a single result, two have no task in common, or a task of the same name
            has other items, other data or another description.

    Example:
        >>> import gpt_keras as gk
        >>> gk.evaluation.compare_suites({"base": gk.evaluation.SuiteResult({}, {})})
        Traceback (most recent call last):
        ValueError: `results` must hold two models or more, got base.
    """
    if len(results) < 2:
        raise ValueError(f"`results` must hold two models or more, got {', '.join(results)}.")
    name, *others = results
    entries = {model: result.record["tasks"] for model, result in results.items()}
    differences = {}
    for other in others:
        check_comparable(name, entries[name], other, entries[other])
        differences[other] = {
            task: _differences(result, results[other].tasks[task], f"{name!r} and {other!r}")
            for task, result in results[name].tasks.items()
            if task in results[other].tasks
        }
    return SuiteComparison(name, dict(results), differences)


# Parts of the record of a task that must be the same in a comparison, and their names.
_SAME = {
    "description_sha256": "description",
    "sha256": "data",
    "examples_sha256": "examples",
    "seed": "seed",
    "num_items": "number of items",
}


def check_comparable(
    name: str, tasks: Mapping[str, Mapping], other: str, others: Mapping[str, Mapping]
) -> None:
    """Check that the tasks of two runs can be compared item by item.

    Args:
        name: Name of the first model.
        tasks: Its tasks, as in `results.json`.
        other: Name of the other model.
        others: Its tasks.

    Raises:
        ValueError: There is no task in common, or a task is of other items, other data or another
            description.
    """
    common = [task for task in tasks if task in others]
    if not common:
        raise ValueError(
            f"{name!r} and {other!r} must have a task in common, got {', '.join(tasks)} and "
            f"{', '.join(others)}."
        )
    for task in common:
        for key, meaning in _SAME.items():
            if tasks[task].get(key) != others[task].get(key):
                raise ValueError(
                    f"{name!r} and {other!r} must have the same {meaning} of the task {task!r}."
                )


def _differences(a: TaskResult, b: TaskResult, names: str) -> dict[str, MetricDifference]:
    if not any("scores" in record and record["scores"] for record in a.records + b.records):
        return {}
    try:
        differences = compare(a, b).metrics
    except ValueError as error:
        raise ValueError(f"{names}, task {a.task!r}: {error}") from error
    # A metric may be another figure than the mean of its scores, such as a mean of means by group.
    return {
        metric: found
        for metric, found in differences.items()
        if all(
            metric in result.metrics
            and math.isclose(mean.value, result.metrics[metric].value, abs_tol=1e-9)
            for result, mean in ((a, found.a), (b, found.b))
        )
    }
