"""Runs over a suite: whole, interrupted, killed, changed and damaged."""

import dataclasses
import hashlib
import json
import math
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from small_suites import (
    ChoiceTask,
    Entry,
    LengthTask,
    Suite,
    rows,
    write_lengths,
    write_rows,
    write_suite,
)
from tiny_models import spread_weights

import gpt_keras as gk
from gpt_keras.evaluation.suites import run as suite_run


def run(model, suite, data, output, **settings):
    return gk.evaluation.evaluate_suite(model, suite, data, output, batch_size=1, **settings)


def contents(folder):
    """All that a run computed: the bytes of the items, and the metrics."""
    files = {path.name: path.read_bytes() for path in sorted((folder / "items").iterdir())}
    record = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return files, {name: entry["metrics"] for name, entry in record["tasks"].items()}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def suite(data):
    return write_suite(data)


@pytest.fixture(scope="module")
def whole(spread_model, suite, data, tmp_path_factory):
    """The folder of a run without interruption."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(spread_model, suite, data, folder)
    return folder


def test_a_run_equals_each_task_by_itself(spread_model, suite, data, whole):
    found = gk.evaluation.load_results(whole)
    choice = suite.entries[0].task
    examples = choice.examples(data / "choice.jsonl")
    records = choice.run(spread_model, examples[:8], batch_size=1)
    records += choice.run(spread_model, examples[8:], batch_size=1)
    assert json.dumps(found.tasks["choice"].records) == json.dumps(records)
    assert found.tasks["choice"].metrics == choice.summarize(records)
    assert {record["scores"]["acc"] for record in records} == {0, 1}
    texts = [row["question"] for row in rows(20)[3:]]
    metrics = found.tasks["长度"].metrics
    assert metrics["length"].value == pytest.approx(np.mean([len(text) for text in texts]))
    assert math.isnan(metrics["longest"].standard_error)
    assert found.tasks["长度"].num_cut == sum(len(text) > 12 for text in texts)


def test_the_record(spread_model, whole):
    record = json.loads((whole / "results.json").read_text(encoding="utf-8"))
    assert (record["suite"], record["finished"]) == ("small", True)
    assert record["model"]["parameters"] == spread_model.count_params()
    assert record["model"]["sha256"] == suite_run.model_digest(spread_model)
    assert set(record["versions"]) >= {"python", "gpt_keras", "keras", "tensorflow"}
    entry = record["tasks"]["choice"]
    assert entry["num_items"] == entry["num_done"] == 12
    assert (entry["file"], entry["source"]) == ("choice.jsonl", "https://example.org/data")
    assert (entry["batch_sizes"], entry["seed"]) == ([1], None)
    assert entry["seconds"] > 0
    assert set(entry["metrics"]["acc"]) == {"value", "standard_error", "num_items"}
    assert record["tasks"]["长度"]["metrics"]["longest"]["standard_error"] == "nan"


def test_the_report(data, whole):
    text = (whole / "report.md").read_text(encoding="utf-8")
    assert "| choice | 12 | acc |" in text
    assert "29 items in" in text
    digest = hashlib.sha256((data / "choice.jsonl").read_bytes()).hexdigest()
    assert f"| choice | choice.jsonl | {digest[:12]} | https://example.org/data |" in text
    found = gk.evaluation.load_results(whole)
    right = [r["scores"]["acc"] for r in found.tasks["choice"].records]
    for verdict, value in (("right", 1), ("wrong", 0)):
        assert f"### choice, item {right.index(value)}: {verdict}\n" in text
    for record in (found.tasks["choice"].records[i] for i in (right.index(0), right.index(1))):
        assert f"```text\n{record['prompt']}\n```" in text
    assert text.count("### 长度") == 4
    assert "length 14.000, cut on the left" in text


def interrupt(monkeypatch, call, how):
    """Make the writing of a block raise KeyboardInterrupt."""
    calls, real = [], suite_run.append_items

    def append(path, size, records):
        calls.append(path)
        if len(calls) == call and how == "before the write":
            raise KeyboardInterrupt
        found = real(path, size, records)
        if len(calls) == call:
            if how == "in the write":
                content = path.read_bytes()
                path.write_bytes(content[: (size + len(content)) // 2])
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(suite_run, "append_items", append)


@pytest.fixture(scope="module")
def lengths(tmp_path_factory):
    """Folder and suite without a model."""
    folder = tmp_path_factory.mktemp("lengths")
    return folder, write_lengths(folder)


@pytest.fixture(scope="module")
def whole_lengths(spread_model, lengths, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(spread_model, lengths[1], lengths[0], folder)
    return folder


@pytest.mark.parametrize("how", ["before the write", "in the write", "after the write"])
@pytest.mark.parametrize("call", range(1, 7))
def test_an_interruption_at_each_block_changes_nothing(
    spread_model, lengths, whole_lengths, tmp_path, monkeypatch, call, how
):
    data, suite = lengths
    output = tmp_path / "run"
    interrupt(monkeypatch, call, how)
    with pytest.raises(KeyboardInterrupt):
        run(spread_model, suite, data, output)
    done = [8, 16, 20, 28, 36][call - 2] if call > 1 else 0
    with pytest.raises(ValueError, match=f"did not finish: {done} of 40 items are done"):
        gk.evaluation.load_results(output)
    assert not (output / "report.md").exists()
    monkeypatch.undo()
    seen = []
    run(spread_model, suite, data, output, on_progress=lambda *a: seen.append(a))
    assert contents(output) == contents(whole_lengths)
    assert gk.evaluation.load_results(output).record["finished"]
    # Items that were done are not run again.
    first = {}
    for name, number, _ in seen:
        first.setdefault(name, number)
    assert first == {"lengths": min(done, 20), "more": max(done - 20, 0)}


@pytest.mark.parametrize("where", ["summarize", "report"])
def test_an_interruption_after_the_last_block(
    spread_model, lengths, whole_lengths, tmp_path, monkeypatch, where
):
    data, suite = lengths
    if where == "summarize":
        monkeypatch.setattr(LengthTask, "summarize", interrupted)
    else:
        monkeypatch.setattr(suite_run, "write_report", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(spread_model, suite, data, tmp_path / "run")
    monkeypatch.undo()
    run(spread_model, suite, data, tmp_path / "run")
    assert contents(tmp_path / "run") == contents(whole_lengths)
    assert (tmp_path / "run" / "report.md").exists()


def interrupted(*_):
    raise KeyboardInterrupt


def test_an_interruption_of_a_model(spread_model, suite, data, whole, tmp_path, monkeypatch):
    interrupt(monkeypatch, 2, "in the write")
    with pytest.raises(KeyboardInterrupt):
        run(spread_model, suite, data, tmp_path / "run")
    monkeypatch.undo()
    run(spread_model, suite, data, tmp_path / "run")
    assert contents(tmp_path / "run") == contents(whole)


def test_a_finished_run_is_not_run_again(spread_model, lengths, whole_lengths, monkeypatch):
    before = (whole_lengths / "results.json").read_bytes()
    monkeypatch.setattr(LengthTask, "run", None)
    data, suite = lengths
    result = run(spread_model, suite, data, whole_lengths)
    assert str(result) == str(gk.evaluation.load_results(whole_lengths))
    assert (whole_lengths / "results.json").read_bytes() == before


def test_the_batch_size_may_change(spread_model, lengths, tmp_path, monkeypatch):
    data, suite = lengths
    interrupt(monkeypatch, 2, "before the write")
    with pytest.raises(KeyboardInterrupt):
        run(spread_model, suite, data, tmp_path)
    monkeypatch.undo()
    result = gk.evaluation.evaluate_suite(spread_model, suite, data, tmp_path, batch_size=2)
    tasks = result.record["tasks"]
    assert [tasks[name]["batch_sizes"] for name in tasks] == [[1, 2], [2]]
    assert [r["block"][0] for r in result.tasks["lengths"].records] == [8] * 8 + [12] * 12
    assert "| 1, 2 |" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_limit_and_seed(spread_model, lengths, tmp_path):
    data, suite = lengths
    suite = suite._replace(entries=[suite.entries[0]._replace(limit=5), suite.entries[1]])
    first = run(spread_model, suite, data, tmp_path / "first")
    assert [len(task.records) for task in first.tasks.values()] == [5, 20]
    first = run(spread_model, suite, data, tmp_path / "second", limit=7)
    assert [place(r) for r in first.tasks["lengths"].records] == list(range(1, 8))
    drawn = [
        run(spread_model, suite, data, tmp_path / str(i), limit=7, seed=seed)
        for i, seed in enumerate((3, 3, 4))
    ]
    found = [[place(r) for r in result.tasks["lengths"].records] for result in drawn]
    assert found[0] == found[1] == sorted(set(found[0]))
    assert len(found[0]) == len(found[2]) == 7
    assert found[0] != found[2]
    assert drawn[0].record["tasks"]["lengths"]["seed"] == 3
    # Without a limit below the number of rows, nothing is drawn.
    everything = run(spread_model, suite, data, tmp_path / "all", limit=99, seed=3)
    assert [place(r) for r in everything.tasks["lengths"].records] == list(range(1, 21))


def place(record):
    return int(record["place"].split()[-1])


def test_neither_weights_nor_seeds_change(spread_model, suite, data, tmp_path):
    weights = [np.array(weight) for weight in spread_model.weights]
    states = random.getstate(), str(np.random.get_state())
    run(spread_model, suite, data, tmp_path, limit=2, seed=1)
    assert (random.getstate(), str(np.random.get_state())) == states
    for before, after in zip(weights, spread_model.weights, strict=True):
        np.testing.assert_array_equal(before, after)


def test_solved_examples_come_from_their_file(spread_model, data, tmp_path):
    @dataclasses.dataclass(frozen=True)
    class WithExamples(LengthTask):
        table: pathlib.Path | None = None

        def with_examples(self, table):
            return dataclasses.replace(self, table=table)

        def examples(self, source):
            assert self.table.read_text() == "solved"
            return super().examples(source)

    write_rows(tmp_path / "lengths.jsonl", rows(3))
    (tmp_path / "solved.jsonl").write_text("solved")
    entry = Entry(WithExamples("shots"), "lengths.jsonl", "solved.jsonl")
    suite = Suite("shots", [entry])
    result = run(spread_model, suite, tmp_path, tmp_path / "run")
    digest = hashlib.sha256(b"solved").hexdigest()
    assert result.record["tasks"]["shots"]["examples_sha256"] == digest
    assert digest[:12] in (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    (tmp_path / "solved.jsonl").write_text("other")
    WithExamples.examples = LengthTask.examples
    with pytest.raises(ValueError, match="the examples of 'shots' were others"):
        run(spread_model, suite, tmp_path, tmp_path / "run")


# Another evaluation in the same folder


def changed(name, spread_model, suite, data, folder):
    """Return the arguments of a run that differs in one thing."""
    model, arguments = spread_model, {}
    if name in ("weights", "adapter", "tokenizer"):
        model = gk.GPTCausalLM(model.config, tokenizer=model.tokenizer)
        model.set_weights(spread_model.get_weights())
    if name == "weights":
        variable = model.trainable_variables[-1]
        variable.assign(variable + 1e-3)
    if name == "adapter":
        model.enable_lora(2)
    if name == "tokenizer":
        characters = "zyxwvutsrqponmlkjihgfedcba ,.!?"
        model.tokenizer = gk.tokenizers.CharacterTokenizer(characters, end_of_text=True)
    if name == "data":
        shutil.copytree(data, folder)
        data = folder
        write_rows(data / "more.jsonl", [*rows(44)[25:], rows(1)[0]])
    if name == "description":
        entries = [suite.entries[0], suite.entries[1]._replace(task=LengthTask("more", "/"))]
        suite = suite._replace(entries=entries)
    if name == "class":
        entries = [suite.entries[0], suite.entries[1]._replace(task=ChoiceTask("more"))]
        suite = suite._replace(entries=entries)
    if name == "tasks":
        suite = suite._replace(entries=suite.entries[:1])
    if name == "limit":
        arguments["limit"] = 18
    if name == "seed":
        arguments |= {"limit": 19, "seed": 2}
    return (model, suite, data), arguments


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weights", "it is of another model"),
        ("adapter", "it is of another model"),
        ("tokenizer", "it is of another model"),
        ("data", "the data of 'more' were others"),
        ("description", "the description of 'more' was another"),
        ("class", "the description of 'more' was another"),
        ("tasks", "its tasks are lengths, more"),
        ("limit", "'lengths' had 19 items, not 18; 'more' had 19 items, not 18"),
        ("seed", "the items of 'lengths' had the seed 1"),
    ],
)
def test_a_changed_run_is_refused(spread_model, lengths, tmp_path, monkeypatch, name, message):
    data, suite = lengths
    given = {"limit": 19, "seed": 1} if name == "seed" else {"limit": 19}
    given = {} if name in ("data", "tasks") else given
    interrupt(monkeypatch, 3, "before the write")
    with pytest.raises(KeyboardInterrupt):
        run(spread_model, suite, data, tmp_path / "run", **given)
    monkeypatch.undo()
    before = contents_of_all(tmp_path / "run")
    positional, arguments = changed(name, spread_model, suite, data, tmp_path / "data")
    with pytest.raises(ValueError, match="holds another evaluation") as error:
        run(*positional, tmp_path / "run", **{**given, **arguments})
    assert message in str(error.value)
    assert contents_of_all(tmp_path / "run") == before


def contents_of_all(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_of_other_versions_is_not_continued(spread_model, lengths, tmp_path, monkeypatch):
    data, suite = lengths
    interrupt(monkeypatch, 3, "before the write")
    with pytest.raises(KeyboardInterrupt):
        run(spread_model, suite, data, tmp_path)
    monkeypatch.undo()
    text = (tmp_path / "results.json").read_text(encoding="utf-8")
    version = json.loads(text)["versions"]["keras"]
    (tmp_path / "results.json").write_text(text.replace(f'"keras": "{version}"', '"keras": "2.0"'))
    with pytest.raises(ValueError, match=f"it began with keras 2.0, not {version}"):
        run(spread_model, suite, data, tmp_path)


def test_a_run_without_a_block_leaves_the_folder_free(spread_model, lengths, tmp_path, monkeypatch):
    data, suite = lengths
    interrupt(monkeypatch, 1, "after the write")
    with pytest.raises(KeyboardInterrupt):
        run(spread_model, suite, data, tmp_path, limit=3)
    monkeypatch.undo()
    result = run(spread_model, suite, data, tmp_path)
    assert [len(task.records) for task in result.tasks.values()] == [20, 20]


# Damaged and missing files


@pytest.fixture
def begun(spread_model, lengths, tmp_path, monkeypatch):
    """The folder of a run that was interrupted after two blocks."""
    interrupt(monkeypatch, 3, "before the write")
    with pytest.raises(KeyboardInterrupt):
        run(spread_model, lengths[1], lengths[0], tmp_path / "run")
    monkeypatch.undo()
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("items/lengths.jsonl", lambda b: b[:-9], r"must hold 16 items.*got 15. Delete the file"),
        ("items/lengths.jsonl", lambda b: b"", "must hold 16 items.*got 0"),
        ("items/lengths.jsonl", lambda b: b.replace(b"{", b"(", 1), "line 1: broken JSON"),
        ("items/lengths.jsonl", lambda b: b"\xff" + b, "line 1: broken JSON"),
        ("items/lengths.jsonl", lambda b: b"3\n" + b, "line 1: this is not the record"),
        ("results.json", lambda b: b[:-9], "results.json' is damaged"),
        ("results.json", lambda b: b"", "results.json' is damaged"),
        ("results.json", lambda b: b"\xff", "results.json' is damaged"),
        ("results.json", lambda b: b"[]", "is not the file of an evaluation"),
        ("results.json", lambda b: b"{}", "is not the file of an evaluation"),
        ("results.json", lambda b: b.replace(b"num_done", b"x"), "must have .*num_done"),
    ],
)
def test_damaged_files_are_refused(spread_model, lengths, begun, name, damage, message):
    path = begun / name
    path.write_bytes(damage(path.read_bytes()))
    before = contents_of_all(begun)
    with pytest.raises(ValueError, match=message):
        run(spread_model, lengths[1], lengths[0], begun)
    assert contents_of_all(begun) == before


def test_a_deleted_file_of_items_is_made_again(spread_model, lengths, begun, whole_lengths):
    (begun / "items" / "lengths.jsonl").unlink()
    run(spread_model, lengths[1], lengths[0], begun)
    assert contents(begun) == contents(whole_lengths)
    with_all = json.loads((begun / "results.json").read_text(encoding="utf-8"))
    (begun / "items" / "more.jsonl").unlink()
    with pytest.raises(ValueError, match=r"lacks the file items.more.jsonl"):
        gk.evaluation.load_results(begun)
    run(spread_model, lengths[1], lengths[0], begun)
    assert contents(begun) == contents(whole_lengths)
    again = json.loads((begun / "results.json").read_text(encoding="utf-8"))
    assert again["finished"]
    assert again["tasks"]["lengths"] == with_all["tasks"]["lengths"]


def test_missing_files_are_named_together(spread_model, lengths, tmp_path):
    suite = lengths[1]
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match="lacks 2 files of the suite 'lengths'") as error:
        run(spread_model, suite, tmp_path / "data", tmp_path / "run")
    for name in ("lengths.jsonl", "more.jsonl"):
        assert f"{name} (https://example.org/data)" in str(error.value)
    write_rows(tmp_path / "data" / "more.jsonl", rows(2))
    with pytest.raises(ValueError, match=r"lacks 1 file of .*: lengths.jsonl \(https"):
        run(spread_model, suite, tmp_path / "data", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_malformed_file_of_the_last_task_is_refused_first(spread_model, lengths, tmp_path):
    shutil.copytree(lengths[0], tmp_path / "data")
    with (tmp_path / "data" / "more.jsonl").open("a") as file:
        file.write('{"question": 1')
    with pytest.raises(ValueError, match=r"more.jsonl, line 21: broken JSON"):
        run(spread_model, lengths[1], tmp_path / "data", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_wrong_arguments(spread_model, lengths, tmp_path):
    data, suite = lengths
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    (tmp_path / "file").touch()
    twice = suite._replace(entries=[suite.entries[0]] * 2)
    named = [suite.entries[0]._replace(task=LengthTask("../a"))]
    for message, arguments in {
        "`data` must be a folder": {"data": tmp_path / "nothing"},
        "`data` must be a folder, got .*file": {"data": tmp_path / "file"},
        "full' exists already": {"output": tmp_path / "full"},
        "file' exists already": {"output": tmp_path / "file"},
        "`limit` must be": {"limit": 0},
        "`seed` must be": {"limit": 2, "seed": -1},
        "must have different names, got 'lengths' twice": {"suite": twice},
        "must be letters, digits": {"suite": suite._replace(entries=named)},
    }.items():
        arguments = {"suite": suite, "data": data, "output": tmp_path / "run"} | arguments
        with pytest.raises(ValueError, match=message):
            run(spread_model, **arguments)
    with pytest.raises(ValueError, match="`batch_size` must be"):
        gk.evaluation.evaluate_suite(spread_model, suite, data, tmp_path / "run", batch_size=0)
    assert not (tmp_path / "run").exists()


def test_a_task_with_too_few_records_is_refused(spread_model, lengths, tmp_path, monkeypatch):
    monkeypatch.setattr(LengthTask, "run", lambda *_, **__: [{"was_cut": False}])
    with pytest.raises(ValueError, match="'lengths' must return a record for each of 8 examples"):
        run(spread_model, lengths[1], lengths[0], tmp_path / "run")


def test_load_results_of_another_folder(tmp_path):
    with pytest.raises(ValueError, match="holds no evaluation: it lacks results"):
        gk.evaluation.load_results(tmp_path)


# Digest of a model


def test_the_digest_of_a_model(spread_model, tmp_path):
    digest = suite_run.model_digest(spread_model)
    spread_model.save_to_preset(tmp_path / "model")
    loaded = gk.CausalLM.from_preset(tmp_path / "model")
    assert suite_run.model_digest(loaded) == digest
    loaded.compile(run_eagerly=True)
    assert suite_run.model_digest(loaded) == digest
    loaded.backbone.trainable = False
    assert suite_run.model_digest(loaded) == digest
    loaded.enable_lora(2)
    with_adapter = suite_run.model_digest(loaded)
    assert with_adapter != digest
    spread_weights(loaded)
    assert suite_run.model_digest(loaded) != with_adapter


KILLED = """
import pathlib, sys, time
sys.path.insert(0, {tests!r})
from small_suites import LengthTask, write_lengths
from tiny_models import spread_weights, tiny_config
import gpt_keras as gk

tokenizer = gk.tokenizers.CharacterTokenizer({characters!r}, end_of_text=True)
model = gk.GPTCausalLM(tiny_config(), tokenizer=tokenizer)
for variable in model.weights:
    variable.assign(variable * 0 + 0.5)
folder = pathlib.Path({folder!r})
suite = write_lengths(folder / "data")
real = LengthTask.run
def slow(*arguments, **settings):
    time.sleep(0.3)
    return real(*arguments, **settings)
LengthTask.run = slow
gk.evaluation.evaluate_suite(model, suite, folder / "data", folder / "run", batch_size=1,
                             on_progress=lambda *values: print(*values, flush=True))
"""


@pytest.mark.slow
def test_a_killed_process_goes_on(whole_lengths, character_tokenizer, tmp_path):
    tests = str(pathlib.Path(__file__).parent.parent)
    characters = "abcdefghijklmnopqrstuvwxyz ,.!?"
    code = KILLED.format(tests=tests, characters=characters, folder=str(tmp_path))

    def start():
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            text=True,
            cwd=pathlib.Path(tests).parent,
        )

    process = start()
    for line in process.stdout:
        if line.startswith("lengths 16"):
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    assert process.returncode == -signal.SIGKILL
    # As if the kill had come in the middle of a write.
    with (tmp_path / "run" / "items" / "lengths.jsonl").open("a") as file:
        file.write('{"place": "torn')
    process = start()
    lines = process.stdout.read().splitlines()
    assert process.wait() == 0
    assert lines[0] == "lengths 16 20"
    found, expected = contents(tmp_path / "run"), contents(whole_lengths)
    assert found[1] == expected[1]
    for name, content in found[0].items():
        both = [re.sub(rb'"place": "[^"]*/', b"", b) for b in (content, expected[0][name])]
        assert both[0] == both[1]
