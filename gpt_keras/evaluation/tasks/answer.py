"""Generated answers as an evaluation task."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gpt_keras.datasets import PromptExample, PromptTask
from gpt_keras.datasets.templates import Templates
from gpt_keras.evaluation.bootstrap import bootstrap_error
from gpt_keras.evaluation.estimate import Estimate, mean_estimate
from gpt_keras.evaluation.generated_answers import CORPUS_METRICS, METRICS, generate_answers
from gpt_keras.evaluation.tasks.few_shot import FewShotTask, read_table
from gpt_keras.evaluation.text_overlap import RougeScores
from gpt_keras.models import CausalLM

# For BLEU and chrF, as in lm-evaluation-harness: each resample scores the whole corpus again.
_NUM_RESAMPLES = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerTask(PromptTask, FewShotTask):
    r"""Answers that a model generates to prompts, compared with the right answers.

    `gk.evaluation.evaluate` makes it from a `gk.datasets.PromptTask`. Answers are generated as in
    `gk.evaluation.answers`, greedily. Metrics that are means over the answers have the standard
    error of a mean; BLEU and chrF have a bootstrap of 100 resamples of the rows.

    Args:
        name: As in `PromptTask`.
        prompt: As in `PromptTask`.
        target: As in `PromptTask`.
        references: As in `PromptTask`.
        target_delimiter: As in `PromptTask`.
        metrics: As in `PromptTask`.
        stop: As in `PromptTask`.
        max_new_tokens: As in `PromptTask`.
        apply_chat_template: Whether each prompt, with its solved examples, is sent as a message of
            the user in the model's chat template.
        checker: A function of an answer and its right answers, which returns a number. Its mean is
            the metric `checker`. It is no key of a YAML file.
        description: As in `FewShotTask`.
        num_examples: As in `FewShotTask`.
        example_delimiter: As in `FewShotTask`.
        file: As in `FewShotTask`.
        source: As in `FewShotTask`.
        examples_file: As in `FewShotTask`.
        example_table: As in `FewShotTask`.

    Raises:
        ValueError: As in `PromptTask` and `FewShotTask`; or a metric is unknown, or `checker` is no
            function.
        ImportError: Jinja2 is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> task = gk.evaluation.AnswerTask(
        ...     name="sums", prompt="{{ a }} + {{ b }} =", target="{{ a + b }}", num_examples=1,
        ...     example_delimiter="\n", example_table=[{"a": 1, "b": 1}],
        ... )
        >>> [example] = task.examples([{"a": 1, "b": 2}])
        >>> print(example.prompt)
        1 + 1 = 2
        1 + 2 =
    """

    apply_chat_template: bool = False
    checker: Callable[[str, Sequence[str]], float] | None = dataclasses.field(
        default=None, metadata={"is_key": False}
    )

    def __post_init__(self):
        PromptTask.__post_init__(self)
        FewShotTask.__post_init__(self)
        self._check_names("metrics", METRICS)
        if not isinstance(self.apply_chat_template, bool):
            raise ValueError(
                f"`apply_chat_template` must be True or False, got {self.apply_chat_template!r}."
            )
        if self.checker is not None and not callable(self.checker):
            raise ValueError(
                "`checker` must be a function of an answer and its references, got "
                f"{self.checker!r}."
            )

    @classmethod
    def from_prompt_task(cls, task: PromptTask) -> "AnswerTask":
        """Return the evaluation task of a `PromptTask`.

        Args:
            task: The task.

        Raises:
            ValueError: A metric of the task is unknown.
        """
        return cls(**{field.name: getattr(task, field.name) for field in dataclasses.fields(task)})

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the templates use, sorted."""
        return tuple(sorted({*super().columns, *self._description.columns}))

    def examples(self, source: Any) -> list[PromptExample]:
        """Read a table and return the prompt of each row, solved examples included.

        Args:
            source: A table as in `gk.records.read_rows`; it must have all `columns`.

        Returns:
            A `PromptExample` for each row.

        Raises:
            ValueError: The table has no rows, there are fewer than `num_examples` solved examples,
                or as in `PromptTask.examples`. The message gives the place.
            ImportError: The source is a parquet file, and pyarrow is not installed.
        """
        rows = read_table(source, self.columns)
        return [
            example._replace(prompt=context + example.prompt)
            for example, context in zip(
                super().examples(rows), self._contexts(rows, self._description), strict=True
            )
        ]

    def run(
        self, model: CausalLM, examples: Sequence[PromptExample], *, batch_size: int = 8
    ) -> list[dict[str, Any]]:
        """Return one record for each example.

        Args:
            model: A `CausalLM` with a tokenizer.
            examples: Results of `examples`.
            batch_size: Number of prompts in a batch.

        Returns:
            Records with `place`, `prompt` (with solved examples), `answer`, `references`, `scores`
            (each metric that is a mean over the answers), `has_stopped` and `was_cut`.

        Raises:
            ValueError: As in `gk.evaluation.answers`.
        """
        found, was_cut = generate_answers(
            model,
            self,
            examples,
            batch_size=batch_size,
            max_new_tokens=self.max_new_tokens,
            apply_chat_template=self.apply_chat_template,
        )
        return [
            {
                "place": answer.place,
                "prompt": answer.prompt,
                "answer": answer.text,
                "references": list(answer.references),
                "scores": answer.scores | self._checked(answer.text, answer.references),
                "has_stopped": answer.has_stopped,
                "was_cut": cut,
            }
            for answer, cut in zip(found, was_cut, strict=True)
        ]

    def summarize(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
        """Return each metric with its standard error.

        Args:
            records: Results of `run`.

        Raises:
            ValueError: There are no records.
        """
        estimates = {}
        for metric in self.metrics:
            if metric in CORPUS_METRICS:
                estimates[metric] = _corpus_estimate(CORPUS_METRICS[metric], records)
            for name in RougeScores._fields if metric == "rouge" else (metric,):
                if metric not in CORPUS_METRICS:
                    estimates[name] = _mean(name, records)
        if self.checker is not None:
            estimates["checker"] = _mean("checker", records)
        return estimates

    def _solved(self, row: Any) -> str:
        [example] = super().examples([row])
        return example.prompt + example.target

    def _checked(self, text: str, references: Sequence[str]) -> dict[str, float]:
        return {} if self.checker is None else {"checker": float(self.checker(text, references))}

    @functools.cached_property
    def _description(self) -> Templates:
        return Templates({"description": self.description})


def _mean(name: str, records: Sequence[Mapping[str, Any]]) -> Estimate:
    return mean_estimate([record["scores"][name] for record in records])


def _corpus_estimate(
    score: Callable[[list[str], list[list[str]]], float], records: Sequence[Mapping[str, Any]]
) -> Estimate:
    """Return a score of a whole corpus with its standard error."""
    texts = [record["answer"] for record in records]
    references = [record["references"] for record in records]

    def scores(resamples):
        return [
            score([texts[i] for i in rows], [references[i] for i in rows]) for rows in resamples
        ]

    error = bootstrap_error(scores, len(texts), num_resamples=_NUM_RESAMPLES)
    return Estimate(score(texts, references), error, len(texts))
