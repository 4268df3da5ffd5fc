"""The console's entry: help and bad arguments without TensorFlow, Ctrl-C without a traceback."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

import gpt_keras as gk

ROOT = pathlib.Path(__file__).parent.parent
COMMAND = ROOT / "gpt_keras_command.py"

# `gpt_keras` cannot be imported in it: what works does not need it.
WITHOUT_PACKAGE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
sys.modules["tensorflow"] = sys.modules["keras"] = None
import gpt_keras_command
sys.argv[0] = "gpt-keras"
sys.exit(gpt_keras_command.main())
"""


def without_tensorflow(*arguments):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGE, *arguments], capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--version"], 0, f"gpt-keras {gk.__version__}\n"),
        (["--help"], 0, "Train a new GPT on text"),
        (["train", "--help"], 0, "--vocabulary-size"),
        (["tokenizer", "train", "--help"], 0, "--special-tokens"),
        (["generate", "--help"], 0, "--no-repeat-ngram-size"),
        (["chat", "--help"], 0, "--system"),
        (["generate", "m", "--top-k", "x"], 2, 'gpt-keras: error: Parser key "top_k"'),
        (["train", "a", "b", "--num-heads", "x"], 2, 'gpt-keras: error: Parser key "num_heads"'),
    ],
)
def test_help_and_errors_need_no_tensorflow(arguments, code, expected):
    done = without_tensorflow(*arguments)
    assert done.returncode == code
    assert expected in (done.stderr if code else done.stdout)
    assert not (done.stdout if code else done.stderr)


def test_what_works_does_need_it():
    assert without_tensorflow("info", "gpt2_small").returncode != 0


def test_ctrl_c_at_once_is_quiet():
    # A shell's background processes, and those that they start, ignore the signal.
    wrapped = f"import signal, sys, runpy; signal.signal(signal.SIGINT, signal.default_int_handler)\
; sys.argv = ['gpt-keras', 'info', 'gpt2_small']; print(flush=True)\
; runpy.run_path({str(COMMAND)!r}, run_name='__main__')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", wrapped],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        process.stdout.readline()  # it runs
        try:
            process.wait(timeout=0.7)  # and is importing TensorFlow, which takes seconds
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "gpt-keras: interrupted\n" in err
    assert "Traceback" not in err
