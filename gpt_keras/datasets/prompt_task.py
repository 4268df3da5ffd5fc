"""Tasks as prompts: a row of a table becomes a prompt, a target and references."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpt_keras.checks import check_positive_int
from gpt_keras.datasets.task_files import find_task_file, read_task_file
from gpt_keras.datasets.templates import Templates
from gpt_keras.records import Row, read_rows
from gpt_keras.texts import as_texts, describe

SHIPPED = Path(__file__).parent / "data" / "tasks"


class PromptExample(NamedTuple):
    """A row of a table as a prompt, with the text that should follow.

    Attributes:
        prompt: The prompt.
        target: The text that a model is trained to write after the prompt, the delimiter included.
        references: The right answers, one or several, without the delimiter.
        place: File and line of the row, or its number.

    Example:
        >>> import gpt_keras as gk
        >>> task = gk.datasets.PromptTask(name="sum", prompt="{{a}} + {{b}} =", target="{{c}}")
        >>> [example] = task.examples([{"a": 1, "b": 2, "c": 3}])
        >>> example.prompt, example.target, example.references
        ('1 + 2 =', ' 3', ('3',))
    """

    prompt: str
    target: str
    references: tuple[str, ...]
    place: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptTask:
    r"""Description of a task: templates of prompt and target, and the metrics.

    `gk.datasets.prompted` makes training data from it, and `gk.evaluation.answers` generates and
    scores answers. `load` reads a description from a YAML file, whose keys are these arguments.

    Templates are Jinja, as in the task files of lm-evaluation-harness, and run in a sandbox. Their
    variables are the columns of the table. `prompt`, `target`, `stop` and `max_new_tokens` are
    `doc_to_text`, `doc_to_target`, `until` and `max_gen_toks` there; `target_delimiter` has the
    same name.

    Args:
        name: Name of the task.
        prompt: Template of the prompt.
        target: Template of the right answer.
        references: Jinja expression for a list of right answers, such as `answers.text`. Default:
            the target is the only one.
        target_delimiter: Text between prompt and target. For Chinese, `""`.
        metrics: Names of metrics of `gk.evaluation.answers`: `"exact_match"`, `"token_f1"`,
            `"bleu"`, `"chrf"`, `"rouge"`. One name or several.
        stop: One or several stop strings, which end an answer.
        max_new_tokens: Largest number of tokens of an answer.

    Raises:
        ValueError: A template is broken, the prompt has no column, the prompt ends with a space
            although `target_delimiter` begins with one, or an argument has another type.
        ImportError: Jinja2 is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> task = gk.datasets.PromptTask(
        ...     name="capitals",
        ...     prompt="Question: What is the capital of {{ country }}?\nAnswer:",
        ...     target="{{ city }}",
        ...     metrics="exact_match",
        ...     stop="\n",
        ...     max_new_tokens=8,
        ... )
        >>> task.columns
        ('city', 'country')
        >>> [example] = task.examples([{"country": "France", "city": "Paris"}])
        >>> print(example.prompt + example.target)
        Question: What is the capital of France?
        Answer: Paris
    """

    name: str
    prompt: str
    target: str
    references: str | None = None
    target_delimiter: str = " "
    metrics: str | Sequence[str] = ("exact_match",)
    stop: str | Sequence[str] = ()
    max_new_tokens: int = 64

    def __post_init__(self):
        for field in ("name", "prompt", "target", "references", "target_delimiter"):
            value = getattr(self, field)
            is_optional = field == "references" and value is None
            if not is_optional and not (isinstance(value, str) and (value or "delim" in field)):
                raise ValueError(f"`{field}` must be a text, got {describe(value)}.")
        for field in ("metrics", "stop"):
            object.__setattr__(self, field, _several(field, getattr(self, field)))
        check_positive_int("max_new_tokens", self.max_new_tokens)
        if not self._templates.columns_of("prompt"):
            raise ValueError(
                f"`prompt` must use a column of the table, such as {{{{ question }}}}; got "
                f"{self.prompt!r}."
            )
        if self.prompt.endswith(" ") and self.target_delimiter.startswith(" "):
            raise ValueError(
                "`prompt` must not end with a space, since `target_delimiter` begins with one; got "
                f"{self.prompt[-20:]!r}."
            )

    @classmethod
    def load(cls, source: str | os.PathLike) -> "PromptTask":
        """Load a task by name, or from a YAML file.

        Args:
            source: Name of a task of this package, or the path of a file that ends in `.yaml` or
                `.yml`. The names are `question_answering`, `open_question_answering`,
                `translation_en_zh`, `summarization`, `entailment` and `similarity`.

        Returns:
            The task. `replace` changes it, for example for other columns.

        Raises:
            ValueError: There is no such task or file; or the file is broken, has an unknown key,
                lacks one, or a value is wrong. The message gives the file and the line.
            ImportError: PyYAML or Jinja2 is not installed.

        Example:
            >>> import gpt_keras as gk
            >>> task = gk.datasets.PromptTask.load("translation_en_zh")
            >>> task.columns, task.metrics
            (('en', 'zh'), ('bleu', 'chrf'))
        """
        file = read_task_file(find_task_file(source, SHIPPED))
        return file.build(cls, file.values)

    def replace(self, **changes: Any) -> "PromptTask":
        """Return a copy with other values of some arguments.

        Args:
            **changes: Arguments of the class.

        Returns:
            The copy.

        Raises:
            ValueError: As in the class.
            TypeError: There is no argument of that name.

        Example:
            >>> import gpt_keras as gk
            >>> task = gk.datasets.PromptTask.load("summarization")
            >>> task.replace(target="{{ highlights }}").columns
            ('document', 'highlights')
        """
        return dataclasses.replace(self, **changes)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the templates use, sorted."""
        return self._templates.columns

    def examples(self, source: Any) -> Iterator[PromptExample]:
        """Read a table and yield the prompt and the target of each row.

        Args:
            source: A table as in `gk.records.read_rows`; it must have all `columns`.

        Yields:
            A `PromptExample` for each row.

        Raises:
            ValueError: The table is broken or lacks a column; a template fails or uses a missing
                value; a prompt, a target or a reference is empty. The message gives the place.
            ImportError: The source is a parquet file, and pyarrow is not installed.

        Example:
            >>> import gpt_keras as gk
            >>> task = gk.datasets.PromptTask.load("entailment")
            >>> row = {"premise": "It rains.", "hypothesis": "It is wet.", "label": 0}
            >>> [example] = task.examples([row])
            >>> example.target
            ' True'
        """
        for row in read_rows(source, self.columns):
            yield self._example(row)

    def conversations(self, source: Any) -> Iterator[Row]:
        """Yield each row of a table as a conversation, for a chat template.

        Args:
            source: As in `examples`.

        Yields:
            Rows with `messages`: the prompt as the user's message, the target as the assistant's.

        Raises:
            ValueError: As in `examples`.
            ImportError: As in `examples`.

        Example:
            >>> import gpt_keras as gk
            >>> task = gk.datasets.PromptTask(name="sum", prompt="{{ a }} + 1?", target="{{ b }}")
            >>> for message in next(task.conversations([{"a": 1, "b": 2}]))["messages"]:
            ...     print(message)
            {'role': 'user', 'content': '1 + 1?'}
            {'role': 'assistant', 'content': '2'}
        """
        for example in self.examples(source):
            target = example.target.removeprefix(self.target_delimiter)
            messages = [
                {"role": "user", "content": example.prompt},
                {"role": "assistant", "content": target},
            ]
            yield Row({"messages": messages}, example.place)

    def _example(self, row: Row) -> PromptExample:
        prompt = self._render("prompt", row)
        target = self._render("target", row)
        references = (target,)
        if self.references is not None:
            references = tuple(self._templates.texts("references", row))
            if not references or not all(text.strip() for text in references):
                raise ValueError(
                    f"{row.place}: `references` must give at least one text, none of them empty; "
                    f"got {list(references)!r}."
                )
        return PromptExample(prompt, self.target_delimiter + target, references, row.place)

    def _render(self, field: str, row: Row) -> str:
        text = self._templates.render(field, row)
        if not text.strip():
            raise ValueError(f"{row.place}: the template `{field}` gives an empty text.")
        return text

    @functools.cached_property
    def _templates(self) -> Templates:
        expressions = {} if self.references is None else {"references": self.references}
        return Templates({"prompt": self.prompt, "target": self.target}, expressions)


def _several(name: str, value: Any) -> tuple[str, ...]:
    texts = as_texts(name, value)
    texts = (texts,) if isinstance(texts, str) else tuple(texts)
    if not all(texts) or (name == "metrics" and not texts):
        raise ValueError(f"`{name}` must hold texts that are not empty, got {value!r}.")
    return texts
