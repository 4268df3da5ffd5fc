"""Scripts that users run, in a short form."""

import importlib.util
import json
import pathlib
import sys

import pytest

SCRIPTS = pathlib.Path(__file__).parent.parent / "scripts"


@pytest.fixture
def load(monkeypatch):
    """Import a script, and give it its arguments."""

    def load(name, *arguments):
        path = SCRIPTS / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        return module

    return load


@pytest.mark.slow
@pytest.mark.xla
def test_the_checks_for_gpus_pass_on_a_cpu(load, capsys):
    script = load("check_gpu", "--device", "CPU", "--no-speed")
    script.SMALL = script.SMALL.replace(num_layers=1, hidden_dim=32, max_sequence_length=64)
    assert script.main() == 0
    output = capsys.readouterr().out
    assert output.splitlines()[-1] == "0 checks failed"
    assert output.count("\nok  ") >= 15


@pytest.mark.slow
def test_a_scaling_law_is_fitted_and_drawn(load, tmp_path):
    script = load("scaling_law", "--output", tmp_path, "--steps", 120, "--sizes", 3)
    script.SIZES = [(1, 16), (1, 32), (2, 32), (2, 48)]
    script.main()
    found = json.loads((tmp_path / "scaling_law.json").read_text())
    losses = [one["loss"] for one in found["runs"]]
    assert len(losses) == 3
    assert max(losses) < 4.2
    assert (tmp_path / "scaling_law.png").read_bytes().startswith(b"\x89PNG")


PAGE = """<html><body><p dir="auto">LibreOffice Help</p>
<h1 id="hd_id1" dir="auto">{0} <span>one</span></h1>
<p id="par_id2" class="paragraph"><a name="x"></a>Press <span class="switchinline"><span
hidden="true" class="MAC">Command</span><span>Ctrl</span></span>+{0}<br>now<img src="x"></p>
<table><tr><td><p id="par_id3">{0} only</p></td></tr></table>
<div class="debug"><p id="bm_module">debug</p></div></body></html>"""


def help_pages(folder, count):
    """Write pages as the packages have them; Chinese ones have one text untranslated."""
    for language in ("en-US", "zh-CN"):
        root = folder / "usr/share/libreoffice/help" / language / "text"
        root.mkdir(parents=True)
        for i in range(count):
            page = PAGE.format(f"Item{i}")
            if language == "zh-CN":
                page = page.replace("one", "一").replace("Press", "按").replace("now", "现在")
            (root / f"{i:02}.html").write_text(page, encoding="utf-8")


def test_aligned_help_pages_become_pairs(load, tmp_path):
    script = load("translation_experiment")
    help_pages(tmp_path, 3)
    script.unpack(tmp_path)  # nothing is missing
    pairs = script.read_pairs(tmp_path)
    assert pairs[:2] == [
        {"page": "00.html", "en": "Item0 one", "zh": "Item0 一"},
        {"page": "00.html", "en": "Press Ctrl+Item0 now", "zh": "按 Ctrl+Item0 现在"},
    ]
    assert len(pairs) == 6  # the third text is not translated


def test_no_text_of_a_held_out_pair_is_trained_on(load):
    script = load("translation_experiment")
    pairs = [
        {"page": f"{i % 20}", "en": f"text {i % 37}", "zh": f"文 {i % 41}"} for i in range(200)
    ]
    train, test = script.split(pairs, 0.2)
    assert {pair["page"] for pair in train}.isdisjoint(pair["page"] for pair in test)
    for language in ("en", "zh"):
        assert {pair[language] for pair in train}.isdisjoint(pair[language] for pair in test)
    assert len(train) == 160
    found = script.nearest(
        [{"en": "open the file", "zh": "甲"}, {"en": "close the window", "zh": "乙"}],
        ["the window", "a file"],
    )
    assert found == ["乙", "甲"]


@pytest.mark.slow
def test_a_translation_is_trained_and_scored(load, tmp_path, capsys):
    help_pages(tmp_path / "help", 40)
    sizes = ["--steps", 10, "--batch-size", 4, "--hidden-dim", 16, "--vocabulary-size", 300]
    script = load("translation_experiment", tmp_path / "help", "--output", tmp_path, *sizes)
    script.main()
    record = json.loads((tmp_path / "translation.json").read_text(encoding="utf-8"))
    assert set(record["scores"]) == {"copied", "nearest", "model"}
    assert 0 < record["scores"]["copied"]["bleu"] < record["scores"]["nearest"]["bleu"] <= 100
    assert len(record["samples"]) == 6  # three pages, of two pairs each
    assert "reference" in capsys.readouterr().out


@pytest.mark.soak
@pytest.mark.xla
def test_preferences_are_learned_and_cost_perplexity(load, tmp_path):
    arguments = ["--steps", 200, "--prompts", 256, "--epochs", 2, 8]
    script = load("preferences_experiment", "--output", tmp_path, *arguments)
    script.main()
    rows = json.loads((tmp_path / "preferences.json").read_text())["rows"]
    assert rows[0]["loss"] == pytest.approx(0.6931, abs=1e-4)
    assert rows[-1]["train_accuracy"] > 0.95
    assert rows[-1]["accuracy"] > 0.6
    assert rows[-1]["questions"] > rows[0]["questions"] + 0.2
    assert rows[-1]["perplexity"] > rows[0]["perplexity"]
