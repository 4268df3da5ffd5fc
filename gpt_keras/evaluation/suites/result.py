"""Results of a suite, and `load_results`, which reads them from their folder."""

import math
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gpt_keras.evaluation.estimate import Estimate
from gpt_keras.evaluation.suites.folder import RESULTS, items_file, read_items, read_results
from gpt_keras.evaluation.tasks.task import TaskResult


class SuiteResult(NamedTuple):
    """Result of `evaluate_suite`. `print(result)` shows a table.

    Attributes:
        record: The content of `results.json`: model, settings, digests of the data, versions,
            seconds, metrics.
        tasks: The `TaskResult` of each task, by name.

    Example:
        >>> import gpt_keras as gk
        >>> Estimate = gk.evaluation.Estimate
        >>> metrics = {"acc": Estimate(0.632, 0.022, 500), "acc_norm": Estimate(0.65, 0.021, 500)}
        >>> task = gk.evaluation.TaskResult("piqa", metrics, [{"was_cut": False}] * 500, 0)
        >>> print(gk.evaluation.SuiteResult({}, {"piqa": task}))
        task  items  metric            value    95% interval  cut
        piqa    500  acc       0.632 ± 0.022  0.589 to 0.675    0
                     acc_norm  0.650 ± 0.021  0.609 to 0.691
    """

    record: dict[str, Any]
    tasks: dict[str, TaskResult]

    def __str__(self):
        return aligned(TITLES, result_rows(self.tasks), "lrlrrr")


TITLES = ("task", "items", "metric", "value", "95% interval", "cut")


def result_rows(tasks: Mapping[str, TaskResult]) -> list[tuple[str, ...]]:
    """Return a row of texts, with the columns `TITLES`, for each metric of each task."""
    rows = []
    for name, result in tasks.items():
        for i, (metric, estimate) in enumerate(result.metrics.items()):
            # The numbers of items are the same for all metrics of a task: its first row has them.
            head = (name, f"{len(result.records):,}") if i == 0 else ("", "")
            cut = f"{result.num_cut:,}" if i == 0 else ""
            rows.append((*head, metric, str(estimate), interval_text(estimate), cut))
    return rows


def interval_text(estimate: Estimate) -> str:
    """Return the interval of 1.96 standard errors to both sides as text."""
    if math.isnan(estimate.standard_error):
        return ""
    low, high = (estimate.value + side * 1.96 * estimate.standard_error for side in (-1, 1))
    return f"{low:.3f} to {high:.3f}"


def aligned(titles, rows, sides: str) -> str:
    """Return a table as text with aligned columns.

    Args:
        titles: Title of each column.
        rows: The cells, as texts.
        sides: For each column `l` or `r`, the side at which its cells are aligned.
    """
    table = [titles, *rows]
    widths = [max(map(_width, column)) for column in zip(*table)]
    lines = []
    for row in table:
        cells = []
        for cell, width, side in zip(row, widths, sides):
            spaces = " " * (width - _width(cell))
            cells.append(cell + spaces if side == "l" else spaces + cell)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _width(text: str) -> int:
    """Return the width of a text in a terminal; a Chinese character has two columns."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def read_task_result(folder: Path, record: Mapping[str, Any], name: str) -> TaskResult:
    """Read the result of a task whose items are all done.

    Args:
        folder: The folder of the evaluation.
        record: Content of its `results.json`.
        name: Name of the task.

    Raises:
        ValueError: The file of items is damaged.
    """
    entry = record["tasks"][name]
    records, _ = read_items(items_file(folder, name), entry["num_items"])
    metrics = {
        # A number that is not finite stands in JSON as a string.
        metric: Estimate(float(m["value"]), float(m["standard_error"]), m["num_items"])
        for metric, m in entry["metrics"].items()
    }
    return TaskResult(name, metrics, records, entry["num_cut"])


def load_results(folder: str | os.PathLike) -> SuiteResult:
    """Load the results of an evaluation from the folder that `evaluate_suite` wrote.

    Args:
        folder: The folder.

    Returns:
        The `SuiteResult`.

    Raises:
        ValueError: The folder holds no evaluation, an evaluation that did not finish, or a damaged
            file.

    Example:
        >>> import gpt_keras as gk
        >>> gk.evaluation.load_results("no folder")
        Traceback (most recent call last):
        ValueError: 'no folder' holds no evaluation: it lacks results.json.
    """
    folder = Path(folder)
    record = read_results(folder)
    if record is None:
        raise ValueError(f"{str(folder)!r} holds no evaluation: it lacks {RESULTS}.")
    if not record["finished"]:
        done = sum(entry["num_done"] for entry in record["tasks"].values())
        total = sum(entry["num_items"] for entry in record["tasks"].values())
        raise ValueError(
            f"{str(folder)!r} holds an evaluation that did not finish: {done:,} of {total:,} items "
            "are done. Its command goes on there."
        )
    for name in record["tasks"]:
        if not items_file(folder, name).is_file():
            raise ValueError(f"{str(folder)!r} lacks the file {items_file(Path(), name)}.")
    return SuiteResult(
        record, {name: read_task_result(folder, record, name) for name in record["tasks"]}
    )
