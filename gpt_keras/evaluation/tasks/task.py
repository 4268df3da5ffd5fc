"""The protocol of evaluation tasks, and their results."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gpt_keras.datasets.task_files import TaskFile
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

    Example:
        >>> import gpt_keras as gk
        >>> acc = gk.evaluation.Estimate(0.5, 0.5, 2)
        >>> records = [{"scores": {"acc": 1.0}}, {"scores": {"acc": 0.0}}]
        >>> print(gk.evaluation.TaskResult("quiz", {"acc": acc}, records, num_cut=0))
        quiz: 2 items, 0 cut on the left
        acc 0.500 ± 0.500
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
        file: Name of the table's file in a folder of evaluation data, or None.
        source: Where the table comes from, in words, or None.
        examples_file: Name of the file with solved examples, in the same folder, or None.
        num_examples: Number of solved examples before a prompt.

    Example:
        >>> import gpt_keras as gk
        >>> class Length(gk.evaluation.EvaluationTask):
        ...     name, columns = "length", ("text",)
        ...     def examples(self, source):
        ...         return list(gk.records.read_rows(source, self.columns))
        ...     def run(self, model, examples, *, batch_size=8):
        ...         lengths = [len(model.tokenizer.encode(row["text"])) for row in examples]
        ...         return [{"scores": {"tokens": n}, "was_cut": False} for n in lengths]
        ...     def summarize(self, records):
        ...         scores = [record["scores"]["tokens"] for record in records]
        ...         return {"tokens": gk.evaluation.mean_estimate(scores)}
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("ab")
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=2)
        >>> model = gk.GPTCausalLM(config, tokenizer=tokenizer)
        >>> print(gk.evaluation.evaluate(model, Length(), [{"text": "ab"}, {"text": "abba"}]))
        length: 2 items, 0 cut on the left
        tokens 3.000 ± 1.000
    """

    name: str
    columns: tuple[str, ...]
    file: str | None = None
    source: str | None = None
    examples_file: str | None = None
    num_examples: int = 0

    @classmethod
    def from_file(cls, file: TaskFile) -> "EvaluationTask":
        """Return the task that a YAML file describes.

        The keys of the file are the fields of the class, which must be a dataclass.

        Args:
            file: The file. Its key `kind` has chosen the class.

        Raises:
            ValueError: A key is unknown or missing, or a value is wrong. The message gives file and
                line.
        """
        values = {key: value for key, value in file.values.items() if key != "kind"}
        return file.build(cls, values)

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
