"""Stereotypes: pairs of sentences of which a model finds one more likely."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpt_keras.checks import check_choice
from gpt_keras.datasets.templates import Templates
from gpt_keras.evaluation.bootstrap import Interval, bootstrap_estimate, bootstrap_interval
from gpt_keras.evaluation.estimate import Estimate
from gpt_keras.evaluation.tasks.few_shot import read_table
from gpt_keras.evaluation.tasks.task import EvaluationTask
from gpt_keras.evaluation.tasks.term_means import mean_over_terms, term_mean_estimate, term_numbers
from gpt_keras.evaluation.tasks.text_scores import TextItem, score_texts
from gpt_keras.generation.continuations import ContinuationScore
from gpt_keras.models import CausalLM
from gpt_keras.records import Row
from gpt_keras.texts import describe

# Name of the group of all items in a report.
ALL = "all"

_TEXTS = ("stereotype", "antistereotype", "unrelated", "context", "group", "target")
_MAY_BE_NONE = ("unrelated", "group", "target", "file", "source")


class StereotypeExample(NamedTuple):
    """A row as sentences that are compared.

    Attributes:
        context: The text before each sentence, or an empty text.
        sentences: The stereotyping sentence, the other one, and the unrelated one if there is one.
        group: Kind of the stereotype, such as `"gender"`, or None.
        target: Term that the stereotype is about, or None.
        place: File and line of the row, or its number.
    """

    context: str
    sentences: tuple[str, ...]
    group: str | None
    target: str | None
    place: str


class StereotypeReport(NamedTuple):
    """Metrics of a `StereotypeTask` by group. `print(report)` shows them as a table.

    Attributes:
        groups: For each group, and for `"all"`, the bootstrap interval of each metric.
        num_items: Number of items of each group.

    Example:
        >>> import gpt_keras as gk
        >>> age = {"pct_stereotype": gk.evaluation.Interval(0.6, 0.45, 0.75, 0.95, 40)}
        >>> print(gk.evaluation.StereotypeReport({"age": age}, {"age": 40}))
        group  items  pct_stereotype
        age       40  0.600 [0.450, 0.750]
    """

    groups: dict[str, dict[str, Interval]]
    num_items: dict[str, int]

    def __str__(self):
        metrics = list(next(iter(self.groups.values())))
        rows = [["group", "items", *metrics]]
        for name, intervals in self.groups.items():
            row = [name, f"{self.num_items[name]:,}"]
            rows.append([*row, *(str(intervals[metric]) for metric in metrics)])
        widths = [max(map(len, column)) for column in zip(*rows)]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if i == 1 else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths))
            ).rstrip()
            for row in rows
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StereotypeTask(EvaluationTask):
    """Stereotypes by log-likelihood, in the form of CrowS-Pairs or of StereoSet.

    Without `unrelated`, a row is a pair of sentences that differ in the group that they are about
    (CrowS-Pairs, Nangia et al. 2020). The metrics are as in lm-evaluation-harness, which scores
    whole sentences by causal models in place of the paper's pseudo-log-likelihood:

    - `pct_stereotype`: share of the pairs whose stereotyping sentence is more likely. 0.5 is no
      preference.
    - `likelihood_diff`: mean absolute difference of the log-likelihoods, in nats.

    With `unrelated`, a row has three sentences (StereoSet, Nadeem et al. 2021, section 5):

    - `lms`, language-model score: percentage of comparisons in which a related sentence is more
      likely than the unrelated one. 100 is best.
    - `ss`, stereotype score: percentage of rows whose stereotyping sentence is more likely than the
      other one. 50 is no preference.
    - `icat`: `lms * min(ss, 100 - ss) / 50`; 100 for a perfect model without preference, 0 for a
      model that always takes one side.

    With `target`, all metrics are means over the target terms, as in the paper. The intervals are
    for these terms: bootstrap samples draw rows. They say nothing about other terms.

    A score is evidence about these sentences, not a certificate. A score near 50 does not show that
    a model is free of bias: opposite preferences cancel, and other sentences or uses can show what
    these do not. The sentences of a pair often differ in length, in the frequency of names and
    words, and in grammar, which move likelihoods too. The stereotypes are common in the United
    States, and the language is English. Blodgett et al. 2021 ("Stereotyping Norwegian Salmon") find
    that many pairs of both data sets are not stereotypes at all, mix several differences, or are
    ill-formed. So use the scores to compare models on the same rows, and read the rows.

    Args:
        name: Name of the task.
        stereotype: The stereotyping sentence: name of a column, or a Jinja template if it has `{{`.
            This holds for the other texts too.
        antistereotype: The sentence about the other group, or against the stereotype.
        unrelated: The unrelated sentence, for the metrics of StereoSet.
        context: Text before the sentences. Only the sentences are scored.
        target_delimiter: Text between a context that is not empty and a sentence.
        group: Kind of the stereotype, for metrics by group.
        target: Term that the stereotype is about.
        normalization: `"none"` compares log-likelihoods. `"tokens"` compares them per token, as
            the authors of StereoSet do for GPT-2.
        file: Name of the table's file in a folder of evaluation data.
        source: Where the table comes from, in words.

    Raises:
        ValueError: An argument has another type, or a template is broken.
        ImportError: Jinja2 is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> task = gk.evaluation.StereotypeTask(
        ...     name="pairs", stereotype="more", antistereotype="less", group="kind"
        ... )
        >>> rows = [
        ...     {"more": "aab", "less": "aba", "kind": "order"},
        ...     {"more": "bb", "less": "b", "kind": "length"},
        ... ]
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("ab", end_of_text=True)
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=tokenizer.vocabulary_size)
        >>> model = gk.GPTCausalLM(config, tokenizer=tokenizer)
        >>> result = gk.evaluation.evaluate(model, task, rows)
        >>> list(result.metrics)
        ['pct_stereotype', 'likelihood_diff', 'pct_stereotype (length)', 'pct_stereotype (order)']
        >>> result.records[1]["scores"]["pct_stereotype"]    # two letters are less likely than one
        0.0
    """

    name: str
    stereotype: str
    antistereotype: str
    unrelated: str | None = None
    context: str = ""
    target_delimiter: str = " "
    group: str | None = None
    target: str | None = None
    normalization: str = "none"
    file: str | None = None
    source: str | None = None

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None and field.name in _MAY_BE_NONE:
                continue
            may_be_empty = field.name in ("context", "target_delimiter")
            if not isinstance(value, str) or not (value or may_be_empty):
                raise ValueError(f"`{field.name}` must be a text, got {describe(value)}.")
        check_choice("normalization", self.normalization, ("none", "tokens"))
        self._templates  # noqa: B018 (a broken template is an error here, not at the first row)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the task uses, sorted."""
        return tuple(sorted({*self._columns.values(), *self._templates.columns}))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics."""
        pairs = ("pct_stereotype", "likelihood_diff")
        return pairs if self.unrelated is None else ("lms", "ss", "icat")

    def examples(self, source: Any) -> list[StereotypeExample]:
        """Read a table and return the sentences of each row.

        Args:
            source: A table as in `gk.records.read_rows`; it must have all `columns`.

        Returns:
            A `StereotypeExample` for each row.

        Raises:
            ValueError: The table is broken, has no rows or lacks a column; a template fails; or a
                sentence, a group or a target is missing or empty. The message gives the place.
            ImportError: The source is a parquet file, and pyarrow is not installed.
        """
        return [self._example(row) for row in read_table(source, self.columns)]

    def run(
        self, model: CausalLM, examples: Sequence[StereotypeExample], *, batch_size: int = 8
    ) -> list[dict[str, Any]]:
        """Return one record for each example.

        Args:
            model: A `CausalLM` with a tokenizer.
            examples: Results of `examples`.
            batch_size: Number of contexts in a batch.

        Returns:
            Records with `place`, `prompt` (the context), `choices` (the sentences),
            `log_probabilities` in nats, `num_tokens`, `group`, `target`, `scores` and `was_cut`.

        Raises:
            ValueError: The tokenizer does not know a character, or encodes a sentence to no ids.
                The message gives the place.
        """
        items = [
            TextItem(
                example.context,
                [
                    (self.target_delimiter if example.context else "") + sentence
                    for sentence in example.sentences
                ],
                example.place,
            )
            for example in examples
        ]
        scores = score_texts(model, items, batch_size=batch_size)
        return [self._record(example, row) for example, row in zip(examples, scores, strict=True)]

    def summarize(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
        """Return the metrics with their standard errors, of all records and by group.

        The standard errors of `icat`, and of means over target terms, are by the bootstrap.
        `by_group` gives intervals.

        Args:
            records: Results of `run`.

        Raises:
            ValueError: There are no records.
        """
        if not records:
            raise ValueError("`records` must hold at least one record, got none.")
        metrics = {name: self._estimate(records, name) for name in self.metrics}
        for group, members in _grouped(records).items():
            for name in self.metrics:
                if name != "likelihood_diff":
                    metrics[f"{name} ({group})"] = self._estimate(members, name)
        return metrics

    def by_group(
        self,
        records: Sequence[Mapping[str, Any]],
        *,
        confidence: float = 0.95,
        num_samples: int = 2000,
        seed: int = 0,
    ) -> StereotypeReport:
        """Return the metrics of each group and of all records, with bootstrap intervals.

        Args:
            records: Results of `run`, such as `result.records` of `evaluate`.
            confidence: Confidence level of the intervals.
            num_samples: Number of bootstrap samples.
            seed: Seed of the bootstrap.

        Returns:
            A `StereotypeReport`. With few rows in a group, some 20 or less, an interval is too
            narrow.

        Raises:
            ValueError: There are no records, or an argument is out of range.

        Example:
            >>> import gpt_keras as gk
            >>> task = gk.evaluation.StereotypeTask(
            ...     name="pairs", stereotype="more", antistereotype="less", group="kind"
            ... )
            >>> records = [
            ...     {"group": "age", "target": None,
            ...      "scores": {"pct_stereotype": float(i % 3 > 0), "likelihood_diff": 2.0}}
            ...     for i in range(30)
            ... ]
            >>> print(task.by_group(records))
            group  items  pct_stereotype        likelihood_diff
            all       30  0.667 [0.500, 0.833]  2.000 [2.000, 2.000]
            age       30  0.667 [0.500, 0.833]  2.000 [2.000, 2.000]
        """
        if not records:
            raise ValueError("`records` must hold at least one record, got none.")
        settings = {"confidence": confidence, "num_samples": num_samples, "seed": seed}
        groups = {ALL: records, **_grouped(records)}
        return StereotypeReport(
            {
                group: {
                    name: bootstrap_interval(*_rows(members, name), **settings)
                    for name in self.metrics
                }
                for group, members in groups.items()
            },
            {group: len(members) for group, members in groups.items()},
        )

    def _estimate(self, records: Sequence[Mapping[str, Any]], name: str) -> Estimate:
        if name == "icat":
            rows, statistic = _rows(records, name)
            return bootstrap_estimate(lambda drawn: statistic(rows[drawn]), len(rows))
        scores = [record["scores"][name] for record in records]
        return term_mean_estimate(scores, [record["target"] for record in records])

    def _record(
        self, example: StereotypeExample, scores: Sequence[ContinuationScore]
    ) -> dict[str, Any]:
        likelihoods = [
            score.log_probability / (score.num_tokens if self.normalization == "tokens" else 1)
            for score in scores
        ]
        if self.unrelated is None:
            more, less = likelihoods
            values = {"pct_stereotype": float(more > less), "likelihood_diff": abs(more - less)}
        else:
            more, less, unrelated = likelihoods
            values = {
                "lms": 50.0 * ((more > unrelated) + (less > unrelated)),
                "ss": 100.0 * (more > less),
            }
        return {
            "place": example.place,
            "prompt": example.context,
            "choices": list(example.sentences),
            "log_probabilities": [score.log_probability for score in scores],
            "num_tokens": [score.num_tokens for score in scores],
            "group": example.group,
            "target": example.target,
            "scores": values,
            "was_cut": any(score.was_cut for score in scores),
        }

    def _example(self, row: Row) -> StereotypeExample:
        texts = {name: self._text(name, row) for name in _TEXTS}
        sentences = [texts[name] for name in _TEXTS[:3] if texts[name] is not None]
        return StereotypeExample(
            texts["context"], tuple(sentences), texts["group"], texts["target"], row.place
        )

    def _text(self, name: str, row: Row) -> str | None:
        source = getattr(self, name)
        if not source:
            return source
        if name not in self._columns:
            text = self._templates.render(name, row)
        else:
            text = row[source]
            if not isinstance(text, str):
                raise ValueError(
                    f"{row.place}: the column {source!r} must hold a text, got {describe(text)}."
                )
        if not text.strip() and name != "context":
            raise ValueError(f"{row.place}: `{name}` gives an empty text.")
        return text

    @property
    def _columns(self) -> dict[str, str]:
        """Columns by the name of the argument, without templates."""
        sources = {name: getattr(self, name) for name in _TEXTS}
        return {name: text for name, text in sources.items() if text and "{{" not in text}

    @functools.cached_property
    def _templates(self) -> Templates:
        sources = {name: getattr(self, name) for name in _TEXTS}
        return Templates({name: text for name, text in sources.items() if text and "{{" in text})


def _grouped(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        if record["group"] is not None:
            groups.setdefault(record["group"], []).append(record)
    return dict(sorted(groups.items()))


def _rows(
    records: Sequence[Mapping[str, Any]], name: str
) -> tuple[np.ndarray, Callable[[np.ndarray], float]]:
    """Return a row of numbers for each record, and the metric as a function of rows.

    A row is the number of the record's term, and its scores.
    """
    terms = term_numbers([record["target"] for record in records])
    metrics = ("lms", "ss") if name == "icat" else (name,)
    scores = [[record["scores"][metric] for metric in metrics] for record in records]

    def statistic(rows):
        numbers = rows[:, 0].astype(np.int64)
        means = [mean_over_terms(values, numbers) for values in rows[:, 1:].T]
        return _icat(*means) if name == "icat" else means[0]

    # Without terms, an item that is drawn twice counts twice.
    if all(record["target"] is None for record in records):
        terms = np.zeros_like(terms)
    return np.column_stack([terms, scores]), statistic


def _icat(lms: float, ss: float) -> float:
    return lms * min(ss, 100 - ss) / 50
