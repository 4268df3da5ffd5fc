"""`gpt-keras evaluate` over a suite: results, comparison, interruption, errors."""

import json
import shlex
import sys

import pytest
from small_suites import rows, write_rows
from tiny_models import spread_weights

import gpt_keras as gk
from gpt_keras.evaluation.suites import run as suite_run

TASK = """
kind: choice
name: {name}
prompt: "{{{{ question }}}}"
choices: "[answer, wrong]"
answer: "0"
metrics: [acc, margin]
source: example.org
"""
SUITE = """
name: two
limit: 12
tasks:
  - task: first.yaml
    file: first.jsonl
  - task: 长度.yaml
    file: second.jsonl
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a suite of two tasks and, in `data`, their files."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "suite.yaml").write_text(SUITE, encoding="utf-8")
    for name in ("first", "长度"):
        (folder / f"{name}.yaml").write_text(TASK.format(name=name), encoding="utf-8")
    write_rows(folder / "data" / "first.jsonl", rows(14))
    write_rows(folder / "data" / "second.jsonl", rows(30)[20:])
    return folder


@pytest.fixture(scope="module")
def other_model(language_model, tmp_path_factory):
    model = spread_weights(gk.CausalLM.from_preset(language_model), seed=5)
    folder = tmp_path_factory.mktemp("other") / "model"
    model.save_to_preset(folder)
    return folder


@pytest.fixture
def loaded_once(monkeypatch, language_model, shared_model):
    """The command gets a model that has compiled its functions already."""
    real = gk.CausalLM.from_preset

    def from_preset(source, *arguments):
        is_shared = str(source) == str(language_model)
        return shared_model if is_shared else real(source, *arguments)

    monkeypatch.setattr(gk.CausalLM, "from_preset", from_preset)


@pytest.fixture(scope="module")
def shared_model(language_model):
    return gk.CausalLM.from_preset(language_model)


def options(place, output):
    return ["--suite", place / "suite.yaml", "--data", place / "data", "--output", output]


@pytest.fixture(scope="module")
def done(place, shared_model, tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("done") / "base"
    gk.evaluation.evaluate_suite(
        shared_model,
        gk.evaluation.load_suite(place / "suite.yaml"),
        place / "data",
        folder,
        batch_size=1,
    )
    return folder


def test_a_run(run, language_model, place, done, tmp_path):
    arguments = ["--batch-size", 1]
    code, out, err = run("evaluate", language_model, *options(place, tmp_path / "a"), *arguments)
    assert (code, err) == (0, "")
    assert out.startswith("first: 12 items\n长度: 10 items\n\ntask")
    expected = gk.evaluation.load_results(done)
    found = gk.evaluation.load_results(tmp_path / "a")
    assert found.tasks == expected.tasks
    assert str(expected) in out
    assert f"wrote {tmp_path / 'a' / 'report.md'}" in out
    settings = json.loads((tmp_path / "a" / "results.json").read_text())["settings"]
    assert settings["model"] == str(language_model)
    # The same command again runs nothing.
    code, out, err = run("evaluate", language_model, *options(place, tmp_path / "a"))
    assert (code, err) == (0, "")
    assert "first: 12 items, done before\n" in out


@pytest.mark.usefixtures("loaded_once")
def test_limit_and_seed(run, language_model, place, tmp_path):
    arguments = ["--limit", 3, "--seed", 1]
    code, _, err = run("evaluate", language_model, *options(place, tmp_path / "a"), *arguments)
    assert (code, err) == (0, "")
    found = gk.evaluation.load_results(tmp_path / "a")
    assert [len(task.records) for task in found.tasks.values()] == [3, 3]
    assert found.record["tasks"]["first"]["seed"] == 1


def test_comparison(run, other_model, place, done, tmp_path):
    arguments = ["--compare-with", done, "--batch-size", 1]
    code, out, err = run("evaluate", other_model, *options(place, tmp_path / "new"), *arguments)
    assert (code, err) == (0, "")
    results = {
        "new": gk.evaluation.load_results(tmp_path / "new"),
        "base": gk.evaluation.load_results(done),
    }
    comparison = gk.evaluation.compare_suites(results)
    assert str(comparison) in out
    difference = comparison.differences["base"]["first"]["margin"].difference
    margins = [
        [record["scores"]["margin"] for record in result.tasks["first"].records]
        for result in results.values()
    ]
    assert difference.value == pytest.approx(sum(a - b for a, b in zip(*margins)) / 12)
    assert abs(difference.value) > 0.01
    report = (tmp_path / "new" / "report.md").read_text(encoding="utf-8")
    assert "| task | metric | new | base | difference | p |" in report
    assert "![metrics with 95% intervals](comparison.png)" in report
    picture = (tmp_path / "new" / "comparison.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    settings = results["new"].record["settings"]
    assert {"model", "suite", "data", "output"} == set(settings)


@pytest.mark.usefixtures("loaded_once")
def test_folders_of_the_same_name(run, language_model, place, done, tmp_path, monkeypatch):
    drawn, real = [], gk.plots.evaluation

    def draw(results, chance):
        drawn.append((list(results), chance))
        return real(results, chance=chance)

    monkeypatch.setattr(gk.plots, "evaluation", draw)
    monkeypatch.chdir(tmp_path)
    command = ["evaluate", language_model, *options(place, "base"), "--compare-with", done]
    code, out, err = run(*command)
    assert (code, err) == (0, "")
    [(names, chance)] = drawn
    assert names == ["base", str(done)]
    accuracies = dict.fromkeys(["acc", "acc_norm", "acc_per_token"], 0.5)
    assert chance == {"first": accuracies, "长度": accuracies}
    assert f"wrote {tmp_path}" not in out
    assert "wrote base/comparison.png" in out


def test_an_adapter(run, language_model, place, tmp_path):
    model = gk.CausalLM.from_preset(language_model)
    model.enable_lora(2)
    spread_weights(model)
    model.save_adapter(tmp_path / "adapter")
    arguments = ["--adapter", tmp_path / "adapter", "--limit", 2]
    code, _, err = run("evaluate", language_model, *options(place, tmp_path / "a"), *arguments)
    assert (code, err) == (0, "")
    suite = gk.evaluation.load_suite(place / "suite.yaml")
    expected = gk.evaluation.evaluate_suite(model, suite, place / "data", tmp_path / "b", limit=2)
    found = gk.evaluation.load_results(tmp_path / "a")
    assert found.record["model"]["sha256"] == expected.record["model"]["sha256"]
    for name, task in expected.tasks.items():
        assert found.tasks[name].metrics["margin"].value == pytest.approx(
            task.metrics["margin"].value, abs=1e-4
        )


def test_perplexity_with_an_adapter(run, language_model, tmp_path):
    model = gk.CausalLM.from_preset(language_model)
    model.enable_lora(2)
    spread_weights(model)
    model.save_adapter(tmp_path / "adapter")
    text = "the cat sat on the mat."
    (tmp_path / "text.txt").write_text(text)
    arguments = ["--adapter", tmp_path / "adapter"]
    code, out, err = run("evaluate", language_model, tmp_path / "text.txt", *arguments)
    assert (code, err) == (0, "")
    found = gk.evaluation.perplexity(model, text)
    assert f"perplexity          {found.perplexity:.4f}\n" in out


@pytest.mark.usefixtures("loaded_once")
@pytest.mark.parametrize("block", [1, 2])
def test_ctrl_c(run, language_model, place, done, tmp_path, monkeypatch, block):
    calls, real = [], suite_run.append_items

    def append(*arguments):
        calls.append(arguments)
        if len(calls) == block:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(suite_run, "append_items", append)
    command = ["evaluate", language_model, *options(place, tmp_path / "a"), "--batch-size", 1]
    code, _, err = run(*command)
    assert code == 130
    if block == 1:
        assert err == "gpt-keras: no items are done yet\ngpt-keras: interrupted\n"
    else:
        assert "holds 8 of 22 items; the same command goes on there\n" in err
    monkeypatch.undo()
    code, out, err = run(*command)
    assert (code, err) == (0, "")
    for path in sorted((done / "items").iterdir()):
        assert (tmp_path / "a" / "items" / path.name).read_bytes() == path.read_bytes()
    assert str(gk.evaluation.load_results(done)) in out


@pytest.mark.usefixtures("loaded_once")
def test_a_progress_bar_on_a_terminal(run, language_model, place, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    arguments = ["--limit", 3, "--batch-size", 1]
    code, out, err = run("evaluate", language_model, *options(place, tmp_path / "a"), *arguments)
    assert (code, err) == (0, "")
    assert "3/3" in out


S = "--suite {place}/suite.yaml --data {place}/data --output new"
BAD = f"""
evaluate                                      | required: model
evaluate {{m}}                                | `corpus` or `suite` must be given, and not both
evaluate {{m}} text.txt {S}                   | `corpus` or `suite` must be given, and not both
evaluate {{m}} text.txt more.txt              | more.txt
evaluate {{m}} text.txt --data data           | `data` must be left out with `corpus`
evaluate {{m}} text.txt --limit 3 --output x  | `output`, `limit` must be left out with `corpus`
evaluate {{m}} text.txt --seed 1              | `seed` must be left out with `corpus`
evaluate {{m}} text.txt --compare-with done   | `compare_with` must be left out with `corpus`
evaluate {{m}} text.txt --adapter nothing     | `adapter` must be the folder of a LoRA adapter
evaluate {{m}} {S} --stride 3                 | `stride` must be left out with `suite`
evaluate {{m}} {S} --keep-line-ends true      | `keep_line_ends` must be left out with `suite`
evaluate {{m}} --suite quick --output new     | `data` must be given with `suite`
evaluate {{m}} --suite quick --data data      | `output` must be given with `suite`
evaluate {{m}} --suite fast --data . --output new | `suite` must be one of
evaluate {{m}} --suite no.yaml --data . --output new | There is no file 'no.yaml'
evaluate {{m}} --suite bad.yaml --data . --output new | bad.yaml, line 2
evaluate {{m}} --suite quick --data . --output new | lacks 4 files of the suite 'quick': piqa.jsonl
evaluate {{m}} --suite quick --data no --output new | `data` must be a folder, got 'no'
evaluate {{m}} --suite quick --data text.txt --output new | `data` must be a folder
evaluate {{m}} {S.replace("/data", "/wrong")} | second.jsonl, line 2: broken JSON
evaluate {{m}} {S.replace("new", "full")}     | 'full' exists already
evaluate {{m}} {S.replace("new", "text.txt")} | 'text.txt' exists already
evaluate {{m}} {S.replace("new", ".")}        | current directory
evaluate {{m}} {S.replace("new", "done")}     | holds another evaluation: it is of another model
evaluate {{m}} {S.replace("new", "done")} --limit 2 | 'first' had 12 items, not 2
evaluate {{m}} {S.replace("new", "broken")}   | results.json' is damaged
evaluate {{m}} {S} --limit 0                  | `limit` must be
evaluate {{m}} {S} --limit few                | "limit"
evaluate {{m}} {S} --seed -1                  | `seed` must be
evaluate {{m}} {S} --batch-size 0             | `batch_size` must be
evaluate {{m}} {S} --adapter nothing          | `adapter` must be the folder of a LoRA adapter
evaluate {{m}} {S} --adapter {{m}}            | holds no adapter
evaluate {{m}} {S} --compare-with             | `compare_with` must name a folder
evaluate {{m}} {S} --compare-with full        | 'full' holds no evaluation
evaluate {{m}} {S} --compare-with done new    | `compare_with` must name other folders than `output`
evaluate {{m}} {S} --compare-with done done   | each once
evaluate {{m}} {S} --compare-with done other  | 'new' and 'other' must have a task in common
evaluate {{m}} {S} --limit 2 --compare-with done | must have the same number of items
evaluate {{m}} {S} --compare-with a b c d e   | `compare_with` must name at most 4 folders, got 5
evaluate {{m}} {S} --compare-with broken      | results.json' is damaged
evaluate {{m}} {S} --compare-with unfinished  | did not finish: 3 of 22 items are done
evaluate {{c}} {S}                            | GPTClassifier
evaluate nothing {S}                          | 'nothing'
evaluate no_tokenizer {S}                     | `model` must have a tokenizer
evaluate {{m}} {S} --tasks quick              | --tasks
"""


@pytest.mark.usefixtures("loaded_once")
@pytest.mark.parametrize("case", BAD.strip().split("\n"), ids=lambda case: case.split(" |")[1])
def test_bad_input_gives_one_line(
    run, language_model, other_model, classifier, place, done, tmp_path, monkeypatch, case
):
    monkeypatch.chdir(tmp_path)
    line, expected = case.rsplit("|", 1)
    write_folders(tmp_path, line, done, language_model)
    wrong = place / "wrong"
    if not wrong.exists():
        write_rows(wrong / "first.jsonl", rows(14))
        text = (place / "data" / "second.jsonl").read_text()
        (wrong / "second.jsonl").write_text(text.replace('\n{"question', "\n{question", 1))
    before = contents(tmp_path)
    # The model of `done` is another one than {m} only if nothing else differs.
    model = other_model if "another model" in expected else language_model
    words = shlex.split(line.format(m=model, c=classifier, place=place))
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("gpt-keras: error: ")
    assert expected.strip() in err
    assert contents(tmp_path) == before


def write_folders(folder, line, done, language_model):
    (folder / "text.txt").write_text("the cat")
    (folder / "bad.yaml").write_text("name: bad\nname: twice\n")
    (folder / "full").mkdir()
    (folder / "full" / "notes.txt").touch()
    record = json.loads((done / "results.json").read_text(encoding="utf-8"))
    renamed = record | {"tasks": {"third": record["tasks"]["first"]}}
    copies = {"done": record, "broken": None, "unfinished": unfinished(record), "other": renamed}
    for name, content in copies.items():
        if name in line:
            text = "{" if content is None else json.dumps(content)
            (folder / name / "items").mkdir(parents=True)
            (folder / name / "results.json").write_text(text, encoding="utf-8")
            for path in (done / "items").iterdir():
                (folder / name / "items" / path.name).write_bytes(path.read_bytes())
            (folder / name / "items" / "third.jsonl").write_bytes(
                (done / "items" / "first.jsonl").read_bytes()
            )
    if "no_tokenizer" in line:
        model = gk.CausalLM.from_preset(language_model)
        gk.CausalLM(model.backbone).save_to_preset(folder / "no_tokenizer")


def unfinished(record):
    tasks = {name: entry | {"num_done": 0} for name, entry in record["tasks"].items()}
    tasks["first"]["num_done"] = 3
    return record | {"finished": False, "tasks": tasks}


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_missing_files_name_their_sources(run, language_model, tmp_path):
    arguments = ["--suite", "standard", "--data", tmp_path, "--output", tmp_path / "new"]
    code, out, err = run("evaluate", language_model, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    for file, source in gk.evaluation.load_suite("standard").missing_files(tmp_path).items():
        assert f"{file} ({source})" in " ".join(err.split())
    assert "..." not in err
