"""Multiple choice by the log-likelihood of the choices."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpt_keras.datasets.templates import Templates
from gpt_keras.evaluation.estimate import Estimate, mean_estimate
from gpt_keras.evaluation.tasks.few_shot import FewShotTask, read_table
from gpt_keras.evaluation.tasks.text_scores import TextItem, score_texts
from gpt_keras.generation.continuations import ContinuationScore
from gpt_keras.models import CausalLM
from gpt_keras.records import Row

METRICS = ("acc", "acc_norm", "acc_per_token", "margin")


class ChoiceExample(NamedTuple):
    """A row as a question with several choices.

    Attributes:
        context: The description and the solved examples before the prompt.
        prompt: The prompt.
        choices: The choices, without the delimiter.
        answer: Number of the right choice, from 0.
        place: File and line of the row, or its number.

    Example:
        >>> import gpt_keras as gk
        >>> task = gk.evaluation.load_task("boolq")
        >>> rows = [{"passage": "Oaks are trees.", "question": "are oaks fish", "label": 0}]
        >>> [example] = task.examples(rows)
        >>> example.choices[example.answer], example.place
        ('no', '`source`, row 0')
    """

    context: str
    prompt: str
    choices: tuple[str, ...]
    answer: int
    place: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceTask(FewShotTask):
    r"""Multiple choice by the log-likelihood of each choice after the prompt.

    A row of the table becomes a prompt and choices by Jinja templates, as in the task files of
    lm-evaluation-harness. `prompt`, `choices` and `answer` are `doc_to_text`, `doc_to_choice` and
    `doc_to_target` there. With the same rows, the metrics `acc` and `acc_norm` equal its metrics.

    The metrics differ in what chooses:

    - `acc`: the log-probability of the choice. Short choices have an advantage.
    - `acc_norm`: the log-probability divided by the number of characters of the choice.
    - `acc_per_token`: the log-probability divided by the number of tokens. Models with different
      tokenizers are compared by the other metrics.
    - `margin`: no accuracy, but the log-probability of the right choice minus that of the best
      wrong choice, in nats.

    Among equal choices, the first is chosen.

    Args:
        name: As in `FewShotTask`.
        prompt: Template of the prompt. An empty text compares the choices by themselves.
        choices: Jinja expression for the list of choices, such as `[sol1, sol2]`.
        answer: Jinja expression for the right choice: its number from 0, or its text.
        target_delimiter: Text between prompt and choice, scored with the choice. For Chinese, `""`.
        metrics: One or several of `"acc"`, `"acc_norm"`, `"acc_per_token"`, `"margin"`.
        description: As in `FewShotTask`.
        num_examples: As in `FewShotTask`.
        example_delimiter: As in `FewShotTask`.
        file: As in `FewShotTask`.
        source: As in `FewShotTask`.
        examples_file: As in `FewShotTask`.
        example_table: As in `FewShotTask`.

    Raises:
        ValueError: A template is broken, no template has a column, the prompt ends with a space
            although `target_delimiter` begins with one, or an argument is wrong.
        ImportError: Jinja2 is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> task = gk.evaluation.ChoiceTask(
        ...     name="capitals",
        ...     prompt="Question: What is the capital of {{ country }}?\nAnswer:",
        ...     choices="cities",
        ...     answer="cities.index(capital)",
        ... )
        >>> rows = [{"country": "France", "cities": ["Rome", "Paris"], "capital": "Paris"}]
        >>> [example] = task.examples(rows)
        >>> example.choices, example.answer
        (('Rome', 'Paris'), 1)
    """

    prompt: str
    choices: str
    answer: str
    target_delimiter: str = " "
    metrics: str | Sequence[str] = METRICS

    def __post_init__(self):
        super().__post_init__()
        self._check_texts("prompt", "target_delimiter", may_be_empty=True)
        self._check_texts("choices", "answer")
        self._check_names("metrics", METRICS)
        if not self._templates.columns_of("prompt") | self._templates.columns_of("choices"):
            raise ValueError(
                "`prompt` or `choices` must use a column of the table, such as {{ question }}; got "
                f"{self.prompt!r} and {self.choices!r}."
            )
        self._check_end_of_prompt()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the templates use, sorted."""
        return self._templates.columns

    def examples(self, source: Any) -> list[ChoiceExample]:
        """Read a table and return the context, the prompt and the choices of each row.

        Args:
            source: A table as in `gk.records.read_rows`; it must have all `columns`.

        Returns:
            A `ChoiceExample` for each row.

        Raises:
            ValueError: The table is broken, has no rows or lacks a column; a template fails; there
                are fewer than two choices, or one is empty; the answer is none of them; or there
                are fewer than `num_examples` solved examples. The message gives the place.
            ImportError: The source is a parquet file, and pyarrow is not installed.
        """
        rows = read_table(source, self.columns)
        return [
            ChoiceExample(context, *self._question(row), row.place)
            for row, context in zip(rows, self._contexts(rows, self._templates))
        ]

    def run(
        self, model: CausalLM, examples: Sequence[ChoiceExample], *, batch_size: int = 8
    ) -> list[dict[str, Any]]:
        """Return one record for each example.

        Args:
            model: A `CausalLM` with a tokenizer.
            examples: Results of `examples`.
            batch_size: Number of contexts in a batch.

        Returns:
            Records with `place`, `prompt` (without solved examples), `choices`,
            `log_probabilities` in nats, `num_tokens`, `answer`, `chosen` (the choice by each
            accuracy), `scores` (the value of each metric) and `was_cut`.

        Raises:
            ValueError: The tokenizer encodes a choice to no ids.
        """
        items = [
            TextItem(
                example.context + example.prompt,
                [self.target_delimiter + choice for choice in example.choices],
                example.place,
            )
            for example in examples
        ]
        scores = score_texts(model, items, batch_size=batch_size)
        return [_record(example, row) for example, row in zip(examples, scores, strict=True)]

    def summarize(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
        """Return the mean of each metric with its standard error.

        Args:
            records: Results of `run`.

        Raises:
            ValueError: There are no records.
        """
        return {
            name: mean_estimate([record["scores"][name] for record in records])
            for name in self.metrics
        }

    def _question(self, row: Row) -> tuple[str, tuple[str, ...], int]:
        prompt = self._templates.render("prompt", row)
        choices = tuple(self._templates.texts("choices", row))
        if len(choices) < 2 or not all(choices):
            raise ValueError(
                f"{row.place}: `choices` must give at least two texts, none of them empty; got "
                f"{list(choices)!r}."
            )
        return prompt, choices, _number(self._templates.value("answer", row), choices, row.place)

    def _solved(self, row: Row) -> str:
        prompt, choices, answer = self._question(row)
        return prompt + self.target_delimiter + choices[answer]

    @functools.cached_property
    def _templates(self) -> Templates:
        return Templates(
            {"prompt": self.prompt, "description": self.description},
            {"choices": self.choices, "answer": self.answer},
        )


def _number(answer: Any, choices: Sequence[str], place: str) -> int:
    """Return the number of the right choice."""
    if isinstance(answer, str) and answer in choices:
        return choices.index(answer)
    # Tables such as CSV hold numbers as texts.
    number = int(answer) if isinstance(answer, str) and answer.isdecimal() else answer
    is_number = hasattr(number, "__index__") and not isinstance(number, bool)
    if not is_number or not 0 <= number < len(choices):
        raise ValueError(
            f"{place}: `answer` must give a number from 0 to {len(choices) - 1} or one of "
            f"{list(choices)!r}; got {answer!r}."
        )
    return int(number)


def _record(example: ChoiceExample, scores: Sequence[ContinuationScore]) -> dict[str, Any]:
    log_probabilities = np.array([score.log_probability for score in scores])
    num_tokens = np.array([score.num_tokens for score in scores])
    num_characters = np.array([len(choice) for choice in example.choices])
    chosen = {
        "acc": int(np.argmax(log_probabilities)),
        "acc_norm": int(np.argmax(log_probabilities / num_characters)),
        "acc_per_token": int(np.argmax(log_probabilities / num_tokens)),
    }
    margin = log_probabilities[example.answer] - np.delete(log_probabilities, example.answer).max()
    return {
        "place": example.place,
        "prompt": example.prompt,
        "choices": list(example.choices),
        "log_probabilities": log_probabilities.tolist(),
        "num_tokens": num_tokens.tolist(),
        "answer": example.answer,
        "chosen": chosen,
        "scores": {name: float(number == example.answer) for name, number in chosen.items()}
        | {"margin": float(margin)},
        "was_cut": any(score.was_cut for score in scores),
    }
