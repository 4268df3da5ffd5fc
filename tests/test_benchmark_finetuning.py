"""The benchmark of fine-tuning, in a short form."""

import argparse
import importlib.util
import pathlib
import sys

import pytest

import gpt_keras as gk

PATH = pathlib.Path(__file__).parent.parent / "scripts" / "benchmark_finetuning.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("benchmark_finetuning", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_peers(script):
    def make_peers(**seconds_of):
        peers = {}
        for key, seconds in seconds_of.items():
            name = getattr(script, key)
            peer = object.__new__(script.Peer)
            peer.name, peer.trainable, peer.libraries, peer.first_loss = name, 10, 10**8, 2.5
            peer.steps = [
                {"seconds": seconds * factor, "loss": 2.5, "peak": 10**9, "cores": 2.0}
                for factor in (1.0, 0.9, 5.0)  # one disturbed step
            ]
            peer.limits = [2e11 if script.SIDES[name].is_torch else 1e11]
            peers[name] = peer
        return peers

    return make_peers


@pytest.mark.parametrize(
    ("seconds", "peft", "share"),
    [
        ({"LORA": 1.0, "FULL": 2.0, "PEFT": 1.5}, "met (1.50)", "met (0.50)"),
        ({"LORA": 1.0, "FULL": 1.25, "PEFT": 0.9}, "not met (0.90)", "not met (0.80)"),
    ],
)
def test_bars_are_reported_as_measured(script, make_peers, capsys, seconds, peft, share):
    peers = make_peers(**seconds)
    script.report(peers, dict.fromkeys(peers, 5e10), tokens=512)
    output = capsys.readouterr().out
    assert f"at least 1.0 times PEFT: {peft}." in output
    assert f"at most 0.75 of a full step: {share}." in output
    row = next(line for line in output.splitlines() if line.startswith(script.LORA)).split()
    # Median, fastest, tokens/s, GFLOP/s, and shares of the limit and of the own library's speed.
    assert row[2:8] == ["1.000", "0.900", "512", "50", "25%", "50%"]


def test_without_peers_there_are_no_bars(script, make_peers, capsys):
    peers = make_peers(LORA=1.0)
    script.report(peers, dict.fromkeys(peers, 5e10), tokens=512)
    assert "Bar" not in capsys.readouterr().out


def test_sides_of_different_models_are_refused(script, make_peers):
    peers = make_peers(LORA=1.0, PEFT=1.0)
    peers[script.PEFT].first_loss = 2.6
    with pytest.raises(RuntimeError, match=r"do not train the same model.*2\.6"):
        script.check_same_model(peers)


def test_a_missing_package_is_named_and_ours_runs_alone(script, monkeypatch, capsys, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho peft\n")  # the interpreter lacks peft
    python.chmod(0o755)
    found = []
    monkeypatch.setattr(script, "run", lambda names, arguments: found.extend(names))
    monkeypatch.setattr(sys, "argv", ["benchmark", f"--torch-python={python}"])
    script.main()
    assert "`pip install peft`" in capsys.readouterr().out
    assert found == [script.LORA, script.LORA_QKV, script.FULL, script.TRANSFORMERS]
    monkeypatch.setattr(
        sys, "argv", ["benchmark", f"--torch-python={python}", "--only", "PEFT LoRA"]
    )
    with pytest.raises(SystemExit):
        script.main()


def test_only_positive_numbers(script):
    with pytest.raises(argparse.ArgumentTypeError, match="1 or more, got 0"):
        script.positive("0")


def test_flops_of_gpt2_small(script):
    config = gk.presets.get("gpt2_small")
    full = script.step_flops(config, 4, 128, script.SIDES[script.FULL], 124_439_808)
    # 6 operations for each token and each weight of a product; the position embedding, biases and
    # norms are in no product. Attention adds 1%.
    products = 12 * (4 * 768 * 768 + 2 * 768 * 3072) + 50257 * 768
    assert full == pytest.approx(6 * 512 * products, rel=0.02)
    lora = script.step_flops(config, 4, 128, script.SIDES[script.LORA], 294_912)
    assert lora / full == pytest.approx(2 / 3, abs=0.01)


@pytest.mark.slow
def test_a_short_run(script, monkeypatch, capsys):
    options = ["--preset=tiny", "--repeats=2", "--length=16", "--rank=2"]
    names = [script.LORA, script.FULL]
    monkeypatch.setattr(sys, "argv", ["benchmark", *options, "--only", *names])
    script.main()
    output = capsys.readouterr().out
    assert "4 x 16 tokens, rank 2" in output
    assert all(f"\n{name}" in output for name in names)
    assert "at most 0.75 of a full step" in output


@pytest.mark.slow
def test_the_error_of_a_side_is_shown(script, monkeypatch):
    options = ["--preset=tiny", "--length=99", "--only", script.FULL]
    monkeypatch.setattr(sys, "argv", ["benchmark", *options])
    with pytest.raises(RuntimeError, match=r"'gpt_keras full' has ended: .*32"):
        script.main()
