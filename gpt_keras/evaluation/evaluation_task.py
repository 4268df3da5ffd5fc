"""The protocol of evaluation tasks, and `evaluate`."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gpt_keras.checks import check_positive_int
from gpt_keras.evaluation.estimate import Estimate
from gpt_keras.models import CausalLM


class TaskResult(NamedTuple):
    """Result of `evaluate`. `print(result)` shows the metrics as text.

    Attributes:
        task: Name of the task.
        metrics: Each metric with its standard error.
        records: One record for each item, in the order of the rows. A record can be written as
            JSON.
        num_cut: Number of items that were longer than the context and lost tokens on the left.
    """

    task: str
    metrics: dict[str, Estimate]
    records: list[dict[str, Any]]
    num_cut: int

    def __str__(self):
        width = max(map(len, self.metrics))
        head = f"{self.task}: {len(self.records)} items, {self.num_cut} cut on the left"
        return "\n".join([head, *(f"{name:{width}} {m}" for name, m in self.metrics.items())])


class EvaluationTask(abc.ABC):
    """Base class of evaluation tasks.

    A task reads rows, runs a model on each, and summarizes the records of all rows. Rows are
    independent: a task that runs them in blocks gets the same records.

    Attributes:
        name: Name of the task.
        columns: Names of the columns of a row that the task uses, sorted.
    """

    name: str
    columns: tuple[str, ...]

    @abc.abstractmethod
    def examples(self, source: Any) -> list[Any]:
        """Read a table and return one example for each row.

        Args:
            source: A table as in `gk.records.read_rows`.

        Raises:
            ValueError: The table has no rows or is wrong. The message gives file and line.
        """

    @abc.abstractmethod
    def run(
        self, model: CausalLM, examples: Sequence[Any], *, batch_size: int = 8
    ) -> list[dict[str, Any]]:
        """Return one record for each example; a record can be written as JSON.

        The key `was_cut` says whether the item lost tokens on the left.
        """

    @abc.abstractmethod
    def summarize(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
        """Return the metrics of records, each with its standard error."""


def evaluate(
    model: CausalLM,
    task: EvaluationTask,
    source: Any,
    *,
    limit: int | None = None,
    batch_size: int = 8,
) -> TaskResult:
    """Evaluate a model on a task.

    Args:
        model: A `CausalLM` with a tokenizer, with or without a LoRA adapter.
        task: The task.
        source: A table as in `gk.records.read_rows`, with the task's columns.
        limit: Number of rows to use, the first ones. Default: all.
        batch_size: Number of rows in a batch.

    Returns:
        A `TaskResult`.

    Raises:
        ValueError: The model has no tokenizer, an argument is out of range, or a row is wrong.
    """
    check_positive_int("batch_size", batch_size)
    examples = task.examples(source)
    if limit is not None:
        check_positive_int("limit", limit)
        examples = examples[:limit]
    records = task.run(model, examples, batch_size=batch_size)
    num_cut = sum(bool(record["was_cut"]) for record in records)
    return TaskResult(task.name, task.summarize(records), records, num_cut)
