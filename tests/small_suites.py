"""Small tasks and suites, for tests of runs over suites."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from gpt_keras.evaluation.context_pairs import encode_pair
from gpt_keras.evaluation.estimate import mean_estimate
from gpt_keras.evaluation.tasks.task import EvaluationTask
from gpt_keras.generation.continuations import score_continuations
from gpt_keras.records import read_rows


@dataclasses.dataclass(frozen=True)
class ChoiceTask(EvaluationTask):
    """A choice of two by log-likelihood."""

    name: str
    separator: str = " "
    source: str | None = "https://example.org/data"
    columns: tuple[str, ...] = ("answer", "question", "wrong")

    def examples(self, source):
        rows = list(read_rows(source, self.columns))
        if not rows:
            raise ValueError(f"{source} has no rows.")
        return rows

    def run(self, model, examples: Sequence, *, batch_size=8):
        requests = []
        for row in examples:
            texts = [self.separator + row[name] for name in ("answer", "wrong")]
            pairs = [encode_pair(model.tokenizer, row["question"], text) for text in texts]
            requests.append((pairs[0][0], [pair[1] for pair in pairs]))
        found = score_continuations(model, requests, batch_size=batch_size)
        return [
            {
                "place": row.place,
                "prompt": row["question"],
                "choices": (row["answer"], row["wrong"]),
                "log_probabilities": [score.log_probability for score in scores],
                "scores": {"acc": float(scores[0].log_probability > scores[1].log_probability)},
                "was_cut": any(score.was_cut for score in scores),
            }
            for row, scores in zip(examples, found, strict=True)
        ]

    def summarize(self, records):
        return {"acc": mean_estimate([record["scores"]["acc"] for record in records])}


@dataclasses.dataclass(frozen=True)
class LengthTask(ChoiceTask):
    """Without a model: the length of each question, and the longest one of the corpus.

    The records depend on the block in which they are made.
    """

    def run(self, model, examples, *, batch_size=8):
        return [
            {
                "place": row.place,
                "prompt": row["question"],
                "block": (len(examples), i),
                "scores": {"length": float(len(row["question"]))},
                "was_cut": len(row["question"]) > 12,
            }
            for i, row in enumerate(examples)
        ]

    def summarize(self, records):
        lengths = [record["scores"]["length"] for record in records]
        longest = mean_estimate([max(lengths)])
        return {"length": mean_estimate(lengths), "longest": longest}


class Entry(NamedTuple):
    """An entry of a suite."""

    task: EvaluationTask
    file: str
    examples_file: str | None = None
    limit: int | None = None


class Suite(NamedTuple):
    """A suite."""

    name: str
    entries: Sequence[Entry]

    def missing_files(self, folder):
        """Return the source of each missing file."""
        return {
            file: entry.task.source
            for entry in self.entries
            for file in (entry.file, entry.examples_file)
            if file and not (pathlib.Path(folder) / file).is_file()
        }


def rows(count: int) -> list[dict[str, str]]:
    """Return rows with questions of different lengths."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [
        {
            "question": f"the {letters[i % 26] * (i % 5 + 1)} is a",
            "answer": letters[(7 * i) % 26] + letters[i % 26],
            "wrong": letters[(11 * i + 3) % 26] * 2,
        }
        for i in range(count)
    ]


def write_rows(path: pathlib.Path, found: Sequence[dict]) -> pathlib.Path:
    """Write a file with a JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    return path


def write_suite(folder: pathlib.Path) -> Suite:
    """Write the files of a suite of a choice and of lengths."""
    write_rows(folder / "choice.jsonl", rows(12))
    write_rows(folder / "lengths.jsonl", rows(20)[3:])
    entries = [Entry(ChoiceTask("choice"), "choice.jsonl")]
    return Suite("small", [*entries, Entry(LengthTask("长度"), "lengths.jsonl")])


def write_lengths(folder: pathlib.Path) -> Suite:
    """Write the files of a suite that needs no model; each task has three blocks of 8 items."""
    write_rows(folder / "lengths.jsonl", rows(20))
    write_rows(folder / "more.jsonl", rows(45)[25:])
    entries = [Entry(LengthTask("lengths"), "lengths.jsonl")]
    return Suite("lengths", [*entries, Entry(LengthTask("more"), "more.jsonl")])
