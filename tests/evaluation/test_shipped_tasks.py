"""Shipped tasks and suites: prompts, answers and metrics are those of lm-evaluation-harness."""

import json
import pathlib

import numpy as np
import pandas
import pytest

import gpt_keras as gk
from gpt_keras.evaluation.tasks import choice, continuation
from gpt_keras.evaluation.tasks.loading import KINDS, SHIPPED
from gpt_keras.generation.continuations import ContinuationScore

FIXTURE = pathlib.Path(__file__).parent.parent / "fixtures" / "evaluation_tasks.json"
TASKS = json.loads(FIXTURE.read_text(encoding="utf-8"))["tasks"]
CASES = [(name, i) for name in TASKS for i in range(2)]


def harness_items(name, number):
    """Return our task with its examples, and the entry of the harness."""
    fixture = TASKS[name]
    entry = fixture["entries"][number]
    task = gk.evaluation.load_task(name).with_examples(entry["num_examples"], fixture["examples"])
    return task, task.examples(fixture["rows"]), entry


def requests(task, example):
    context = example.context + example.prompt
    if isinstance(task, gk.evaluation.ContinuationTask):
        return [[context, example.target]]
    return [[context, task.target_delimiter + choice] for choice in example.choices]


def test_every_shipped_task_has_a_fixture():
    assert {file.stem for file in SHIPPED.glob("*.yaml")} >= set(TASKS)
    assert len(TASKS) == 10


@pytest.mark.parametrize(("name", "number"), CASES)
def test_requests_and_answers_are_those_of_the_harness(name, number):
    task, examples, entry = harness_items(name, number)
    assert task.name == name
    assert len(examples) == len(entry["items"]) == 3
    for example, item in zip(examples, entry["items"]):
        assert requests(task, example) == item["requests"]
        if "answer" in item:
            assert example.answer == item["answer"]


@pytest.mark.parametrize(("name", "number"), CASES)
def test_metrics_are_those_of_the_harness_on_the_same_log_likelihoods(name, number, monkeypatch):
    task, examples, entry = harness_items(name, number)

    def score_texts(model, items, *, batch_size):
        return [
            [
                ContinuationScore(log_probability, 2, is_greedy, False)
                for log_probability, is_greedy in zip(item["log_probabilities"], item["is_greedy"])
            ]
            for item in entry["items"]
        ]

    for module in (choice, continuation):
        monkeypatch.setattr(module, "score_texts", score_texts)
    records = task.run(None, examples)
    assert json.loads(json.dumps(records)) == records
    names = {"perplexity": "log_probability"}
    for record, item in zip(records, entry["items"]):
        for metric, value in item["results"].items():
            assert record["scores"][names.get(metric, metric)] == value
    found = task.summarize(records)
    for metric, (value, error) in entry["metrics"].items():
        if metric in task.metrics:
            assert found[metric].value == pytest.approx(value, rel=1e-12)
            assert found[metric].standard_error == pytest.approx(error, rel=1e-9)
            assert found[metric].num_items == 3
    assert set(found) == set(task.metrics)


def test_rows_of_csv_files_give_the_same_requests(tmp_path):
    """In CSV, numbers are texts, and an empty field is missing."""
    for name in ("piqa", "boolq", "ceval", "blimp", "lambada"):
        task, examples, _ = harness_items(name, 0)
        path = tmp_path / f"{name}.csv"
        pandas.DataFrame(TASKS[name]["rows"]).to_csv(path, index=False)
        for example, expected in zip(task.examples(path), examples, strict=True):
            assert example._replace(place=expected.place) == expected


def test_frames_of_parquet_files_give_the_same_requests():
    """`pandas.read_parquet` reads lists as arrays."""

    def with_arrays(value):
        if isinstance(value, dict):
            return {key: with_arrays(item) for key, item in value.items()}
        return np.array(value, object) if isinstance(value, list) else value

    for name in ("openbookqa", "commonsenseqa", "arc_easy", "hellaswag"):
        task, examples, _ = harness_items(name, 0)
        frame = pandas.DataFrame([with_arrays(row) for row in TASKS[name]["rows"]])
        for example, expected in zip(task.examples(frame), examples, strict=True):
            assert example._replace(place=expected.place) == expected


def test_names_files_and_sources():
    for file in SHIPPED.glob("*.yaml"):
        task = gk.evaluation.load_task(file.stem)
        assert task.name == file.stem
        assert task.file.startswith(file.stem)
        assert task.source
    names = list(TASKS)
    with pytest.raises(ValueError, match=f"`source` must be one of {sorted(names)[0]}, .*'nope'"):
        gk.evaluation.load_task("nope")


def test_prompt_tasks_are_answer_tasks():
    task = gk.evaluation.load_task("summarization")
    assert isinstance(task, KINDS["answer"])
    assert task == KINDS["answer"].from_prompt_task(gk.datasets.PromptTask.load("summarization"))
