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
