"""Continuations of prompts, such as the last word of a passage."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpt_keras.datasets.templates import Templates
from gpt_keras.evaluation.bootstrap import bootstrap_error
from gpt_keras.evaluation.estimate import Estimate, mean_estimate
from gpt_keras.evaluation.tasks.few_shot import FewShotTask, read_table
from gpt_keras.evaluation.tasks.text_scores import TextItem, score_texts
from gpt_keras.models import CausalLM
from gpt_keras.records import Row

METRICS = ("acc", "perplexity")

# As in lm-evaluation-harness.
_NUM_RESAMPLES = 100_000


class ContinuationExample(NamedTuple):
    """A row as a prompt and the text that continues it.

    Attributes:
        context: The description and the solved examples before the prompt.
        prompt: The prompt.
        target: The continuation, delimiter included.
        place: File and line of the row, or its number.

    Example:
        >>> import gpt_keras as gk
        >>> task = gk.evaluation.load_task("lambada")
        >>> [example] = task.examples([{"text": "He said no"}])
        >>> example.prompt, example.target
        ('He said', ' no')
    """

    context: str
    prompt: str
    target: str
    place: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContinuationTask(FewShotTask):
    r"""Log-likelihood of the text that continues a prompt, such as LAMBADA's last word.

    lm-evaluation-harness has the same metrics (`output_type: loglikelihood`):

    - `acc`: share of the targets that greedy decoding gives.
    - `perplexity`: exp of minus the mean log-probability of a whole target. It is a perplexity per
      target, not per token, so it does not depend on the tokenizer.

    The standard error of the perplexity is a bootstrap of 100,000 resamples of the rows.

    Args:
        name: As in `FewShotTask`.
        prompt: Template of the prompt.
        target: Template of the text that continues it.
        target_delimiter: Text between prompt and target, scored with the target. For Chinese, `""`.
        example_target_delimiter: The same in solved examples. Default: `target_delimiter`.
        metrics: One or both of `"acc"`, `"perplexity"`.
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
        >>> task = gk.evaluation.ContinuationTask(
        ...     name="last word",
        ...     prompt="{{ text.split(' ')[:-1] | join(' ') }}",
        ...     target="{{ text.split(' ')[-1] }}",
        ... )
        >>> [example] = task.examples([{"text": "To be or not to be"}])
        >>> example.prompt, example.target
        ('To be or not to', ' be')
    """

    prompt: str
    target: str
    target_delimiter: str = " "
    example_target_delimiter: str | None = None
    metrics: str | Sequence[str] = METRICS

    def __post_init__(self):
        super().__post_init__()
        self._check_texts("prompt", "target_delimiter", may_be_empty=True)
        self._check_texts("target")
        self._check_texts("example_target_delimiter", may_be_empty=True, may_be_none=True)
        self._check_names("metrics", METRICS)
        if not self._templates.columns_of("prompt") | self._templates.columns_of("target"):
            raise ValueError(
                "`prompt` or `target` must use a column of the table, such as {{ text }}; got "
                f"{self.prompt!r} and {self.target!r}."
            )
        self._check_end_of_prompt()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the templates use, sorted."""
        return self._templates.columns

    def examples(self, source: Any) -> list[ContinuationExample]:
        """Read a table and return the context, the prompt and the target of each row.

        Args:
            source: A table as in `gk.records.read_rows`; it must have all `columns`.

        Returns:
            A `ContinuationExample` for each row.

        Raises:
            ValueError: The table is broken, has no rows or lacks a column; a template fails; a
                target is empty; or there are fewer than `num_examples` solved examples. The message
                gives the place.
            ImportError: The source is a parquet file, and pyarrow is not installed.
        """
        rows = read_table(source, self.columns)
        return [
            ContinuationExample(
                context,
                self._templates.render("prompt", row),
                self.target_delimiter + self._target(row),
                row.place,
            )
            for row, context in zip(rows, self._contexts(rows, self._templates))
        ]

    def run(
        self, model: CausalLM, examples: Sequence[ContinuationExample], *, batch_size: int = 8
    ) -> list[dict[str, Any]]:
        """Return one record for each example.

        Args:
            model: A `CausalLM` with a tokenizer.
            examples: Results of `examples`.
            batch_size: Number of contexts in a batch.

        Returns:
            Records with `place`, `prompt` (without solved examples), `target`, `num_tokens`,
            `scores` (`acc` and the `log_probability` of the target in nats) and `was_cut`.

        Raises:
            ValueError: The tokenizer encodes a target to no ids.
        """
        items = [
            TextItem(example.context + example.prompt, [example.target], example.place)
            for example in examples
        ]
        scores = score_texts(model, items, batch_size=batch_size)
        return [
            {
                "place": example.place,
                "prompt": example.prompt,
                "target": example.target,
                "num_tokens": score.num_tokens,
                "scores": {
                    "acc": float(score.is_greedy),
                    "log_probability": score.log_probability,
                },
                "was_cut": score.was_cut,
            }
            for example, [score] in zip(examples, scores, strict=True)
        ]

    def summarize(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
        """Return each metric with its standard error.

        Args:
            records: Results of `run`.

        Raises:
            ValueError: There are no records.
        """
        estimates = {
            "acc": lambda: mean_estimate([record["scores"]["acc"] for record in records]),
            "perplexity": lambda: _perplexity(
                [record["scores"]["log_probability"] for record in records]
            ),
        }
        return {name: estimates[name]() for name in self.metrics}

    def _target(self, row: Row) -> str:
        target = self._templates.render("target", row)
        if not target.strip():
            raise ValueError(f"{row.place}: the template `target` gives an empty text.")
        return target

    def _solved(self, row: Row) -> str:
        delimiter = self.example_target_delimiter
        delimiter = self.target_delimiter if delimiter is None else delimiter
        return self._templates.render("prompt", row) + delimiter + self._target(row)

    @functools.cached_property
    def _templates(self) -> Templates:
        return Templates(
            {"prompt": self.prompt, "target": self.target, "description": self.description}
        )


def _perplexity(log_probabilities: Sequence[float]) -> Estimate:
    mean = mean_estimate(log_probabilities).value
    values = np.asarray(log_probabilities, np.float64)
    error = bootstrap_error(
        lambda rows: np.exp(-values[rows].mean(axis=1)), len(values), num_resamples=_NUM_RESAMPLES
    )
    return Estimate(math.exp(-mean), error, len(values))
