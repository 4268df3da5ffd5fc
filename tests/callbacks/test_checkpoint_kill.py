"""A training in its own process that is killed, and continued by the same command."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

SCRIPT = """
import json, os, sys, time
import keras
import numpy as np
import gpt_keras as gk

folder, losses, when = sys.argv[1:4]
keras.utils.set_random_seed(3)
tokenizer = gk.tokenizers.CharacterTokenizer("abcdefgh ")
train, validation = gk.datasets.language_modeling(
    "abcdefgh hgfedcba " * 60,
    tokenizer,
    sequence_length=8,
    batch_size=4,
    seed=1,
    cache_dir=folder + "/cache",
)
config = gk.presets.get("tiny").replace(vocabulary_size=tokenizer.vocabulary_size, dropout=0.1)
model = gk.GPTCausalLM(config, tokenizer=tokenizer)
optimizer = gk.training.adamw(
    1e-2, warmup_steps=5, total_steps=60, gradient_accumulation_steps=3, skip_above=3.0
)
model.compile(optimizer, jit_compile=when == "xla")

class Losses(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        with open(losses, "a") as file:
            file.write(json.dumps([self.epoch, batch, float(logs["loss"]).hex()]) + "\\n")
        time.sleep(0.5 if when == "slow" else 0.01)

if when == "slow write":  # kill it while it writes
    savez = np.savez

    def slow(path, **arrays):
        savez(path, **arrays)
        with open(folder + "/writing", "a") as file:
            file.write("x")
        time.sleep(0.2)

    np.savez = slow

callbacks = [Losses()]
if when != "whole":
    callbacks.append(gk.callbacks.Checkpoint(folder + "/checkpoints", every_steps=5))
model.fit(train, validation_data=validation, epochs=3, verbose=0, callbacks=callbacks)
weights = [float(np.abs(w).astype("float64").sum()).hex() for w in model.get_weights()]
print(json.dumps(weights))
"""


def run(folder, when="", losses="losses"):
    (folder / "script.py").write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, folder / "script.py", folder, folder / losses, when],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])},
        # A shell's background processes, and those that they start, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def read(path):
    """Return the losses by their place; a batch that was repeated must have the same loss."""
    found = {}
    for line in path.read_text().splitlines():
        epoch, batch, loss = json.loads(line)
        assert found.setdefault((epoch, batch), loss) == loss
    return found


def wait_for(path, size, process):
    while not path.exists() or path.stat().st_size < size:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)


def finish(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return json.loads(output)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return finish(run(folder, "whole")), read(folder / "losses")


def kill_and_continue(folder, num_kills, when, choose):
    """Kill a training up to `num_kills` times; return its results and the number of kills."""
    kills, is_alive = 0, True
    while kills < num_kills and is_alive:
        process = run(folder, when)
        if when == "slow write":
            marks, wanted = folder / "writing", choose(3)
        else:
            marks, wanted = folder / "losses", choose(25)
        wanted += count(marks, when)
        while (is_alive := process.poll() is None) and count(marks, when) < wanted:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += is_alive
    return finish(run(folder)), read(folder / "losses"), kills


def count(marks, when):
    """Return the number of checkpoints that were begun, or of batches."""
    if not marks.exists():
        return 0
    text = marks.read_text()
    return len(text) if when == "slow write" else text.count("\n")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["", "slow write"])
def test_a_killed_training_equals_one_that_was_not(tmp_path, whole, when):
    assert kill_and_continue(tmp_path, 1, when, lambda n: n) == (*whole, 1)


@pytest.mark.soak
@pytest.mark.parametrize("when", ["", "slow write"])
def test_fifteen_kills_at_random_moments(tmp_path, whole, when):
    generator, kills, runs = random.Random(0), 0, 0
    while kills < 15:
        folder = tmp_path / str(runs)
        folder.mkdir()
        *found, more = kill_and_continue(
            folder, 15 - kills, when, lambda n: generator.randint(1, n)
        )
        assert tuple(found) == whole
        kills, runs = kills + more, runs + 1


@pytest.mark.slow
def test_two_processes_in_one_folder(tmp_path):
    first = run(tmp_path, "slow")
    wait_for(tmp_path / "losses", 1, first)
    second = run(tmp_path, losses="others")
    errors = second.communicate()[1]
    first.kill()
    first.communicate()
    assert second.returncode == 1
    assert f"is in use by process {first.pid}" in errors


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -2)])
def test_signals_save_and_end(tmp_path, whole, number, code):
    process = run(tmp_path)
    wait_for(tmp_path / "losses", 200, process)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == code, errors
    count = (tmp_path / "losses").read_text().count("\n")
    assert finish(run(tmp_path)) == whole[0]
    lines = (tmp_path / "losses").read_text().splitlines()
    assert len(lines) == len(whole[1])  # no batch was repeated
    assert 0 < count < len(lines)
    assert read(tmp_path / "losses") == whole[1]
