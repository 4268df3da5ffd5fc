"""Scripts that users run, in a short form."""

import json
import pathlib
import subprocess
import sys

import pytest

SCRIPTS = pathlib.Path(__file__).parent.parent / "scripts"


def run(name, *arguments):
    command = [sys.executable, SCRIPTS / name, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_the_checks_for_gpus_pass_on_a_cpu():
    done = run("check_gpu.py", "--device", "CPU", "--no-speed")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "0 checks failed"
    assert done.stdout.count("\nok  ") >= 15


@pytest.mark.slow
def test_a_scaling_law_is_fitted_and_drawn(tmp_path):
    done = run("scaling_law.py", "--output", tmp_path, "--steps", 120, "--sizes", 3)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "scaling_law.json").read_text())
    losses = [one["loss"] for one in found["runs"]]
    assert len(losses) == 3
    assert max(losses) < 4.2
    assert (tmp_path / "scaling_law.png").read_bytes().startswith(b"\x89PNG")
