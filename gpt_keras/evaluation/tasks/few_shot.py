"""Evaluation tasks whose prompts may begin with solved examples."""

import abc
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from gpt_keras.datasets.templates import Templates
from gpt_keras.evaluation.tasks.task import EvaluationTask
from gpt_keras.records import Row, read_rows
from gpt_keras.texts import as_texts, describe


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewShotTask(EvaluationTask):
    r"""Base class of tasks whose prompts may begin with solved examples.

    The context of a row is the description, then the first `num_examples` rows of another table
    with their right answers, each followed by `example_delimiter`, then the prompt of the row.
    lm-evaluation-harness composes it in this way with its sampler `first_n`.

    Args:
        name: Name of the task.
        description: Template of a text before the examples. It may use the columns of the row that
            is evaluated.
        num_examples: Number of solved examples.
        example_delimiter: Text after each example.
        file: Name of the table's file in a folder of evaluation data.
        source: Where the table comes from, in words, for the message about a missing file.
        examples_file: Name of the file with the examples, in the same folder.
        example_table: A table as in `gk.records.read_rows` with the examples. A row that gives the
            same text as the row that is evaluated is skipped.

    Raises:
        ValueError: An argument has another type, or a template is broken.
        ImportError: Jinja2 is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> rows = [{"passage": "Oaks are trees.", "question": "are oaks fish", "label": 0}]
        >>> other = {"passage": "Rome lies on a river.", "question": "is it dry", "label": 0}
        >>> task = gk.evaluation.load_task("boolq").with_examples(1, rows)
        >>> [example] = task.examples([other])
        >>> print(example.context + example.prompt)
        Oaks are trees.
        Question: are oaks fish?
        Answer: no
        <BLANKLINE>
        Rome lies on a river.
        Question: is it dry?
        Answer:
    """

    name: str
    description: str = ""
    num_examples: int = 0
    example_delimiter: str = "\n\n"
    file: str | None = None
    source: str | None = None
    examples_file: str | None = None
    # A table is no key of a YAML file; the file names the file of the table.
    example_table: Any = dataclasses.field(
        default=None, repr=False, compare=False, metadata={"is_key": False}
    )

    def __post_init__(self):
        self._check_texts("name")
        self._check_texts("description", "example_delimiter", may_be_empty=True)
        self._check_texts("file", "source", "examples_file", may_be_none=True)
        is_integer = hasattr(self.num_examples, "__index__")
        if not is_integer or isinstance(self.num_examples, bool) or self.num_examples < 0:
            raise ValueError(
                f"`num_examples` must be an integer of at least 0, got {self.num_examples!r}."
            )

    def replace(self, **changes: Any) -> "FewShotTask":
        """Return a copy with other values of some arguments.

        Args:
            **changes: Arguments of the class.

        Raises:
            ValueError: As in the class.
            TypeError: There is no argument of that name.
        """
        return dataclasses.replace(self, **changes)

    def with_examples(self, num_examples: int | None = None, table: Any = None) -> "FewShotTask":
        """Return a copy with another number or another table of solved examples.

        Args:
            num_examples: Number of solved examples. Default: that of the task.
            table: A table as in `gk.records.read_rows`. Default: that of the task.

        Raises:
            ValueError: `num_examples` is no integer of at least 0.
        """
        changes = {} if num_examples is None else {"num_examples": num_examples}
        changes |= {} if table is None else {"example_table": table}
        return dataclasses.replace(self, **changes)

    @abc.abstractmethod
    def _solved(self, row: Row) -> str:
        """Return the prompt of a row with the right answer."""

    def _contexts(self, rows: Sequence[Row], templates: Templates) -> Iterator[str]:
        """Yield the text before the prompt of each row."""
        if self.num_examples and self.example_table is None:
            hint = "" if self.examples_file is None else f", such as {self.examples_file!r}"
            raise ValueError(
                f"The task {self.name!r} has num_examples={self.num_examples}: `examples` must be "
                f"a table of solved examples{hint}; got None."
            )
        solved = _SolvedExamples(self) if self.num_examples else None
        for row in rows:
            parts = [templates.render("description", row)]
            if solved is not None:
                parts += [
                    text + self.example_delimiter
                    for text in solved.first_without(self._solved(row))
                ]
            yield "".join(parts)

    def _check_texts(self, *names: str, may_be_empty: bool = False, may_be_none: bool = False):
        for name in names:
            value = getattr(self, name)
            if value is None and may_be_none:
                continue
            if not isinstance(value, str) or not (value or may_be_empty):
                kind = "a text" if may_be_empty else "a text that is not empty"
                raise ValueError(f"`{name}` must be {kind}, got {describe(value)}.")

    def _check_end_of_prompt(self) -> None:
        if self.prompt.endswith(" ") and self.target_delimiter.startswith(" "):
            raise ValueError(
                "`prompt` must not end with a space, since `target_delimiter` begins with one; got "
                f"{self.prompt[-20:]!r}."
            )

    def _check_names(self, name: str, allowed: Sequence[str]) -> None:
        """Replace one name or several by a tuple of allowed ones."""
        found = as_texts(name, getattr(self, name))
        found = (found,) if isinstance(found, str) else tuple(found)
        if not found or not set(found) <= set(allowed):
            raise ValueError(
                f"`{name}` must hold one or several of {', '.join(allowed)}; got {found!r}."
            )
        object.__setattr__(self, name, found)


class _SolvedExamples:
    """Solved examples of a table, read as far as they are needed."""

    def __init__(self, task: FewShotTask):
        self._task = task
        self._rows = read_rows(task.example_table, task.columns)
        self._texts: list[str] = []

    def first_without(self, own: str) -> list[str]:
        """Return the first `num_examples` texts that differ from a row's own text."""
        found, i = [], 0
        while len(found) < self._task.num_examples:
            if i == len(self._texts):
                row = next(self._rows, None)
                if row is None:
                    raise ValueError(
                        f"The task {self._task.name!r} has num_examples={self._task.num_examples}, "
                        f"but the table of examples has only {i} rows"
                        f"{', one of them the row itself' if own in self._texts else ''}."
                    )
                self._texts.append(self._task._solved(row))
            if self._texts[i] != own:
                found.append(self._texts[i])
            i += 1
        return found


def read_table(source: Any, columns: Sequence[str]) -> list[Row]:
    """Return the rows of a table, of which there must be at least one.

    Args:
        source: A table as in `gk.records.read_rows`.
        columns: Names of the columns to read.

    Raises:
        ValueError: The table has no rows or is wrong. The message gives file and line.
    """
    rows = list(read_rows(source, columns))
    if not rows:
        raise ValueError("`source` must have rows, but is empty.")
    return rows
