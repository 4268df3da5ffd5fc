"""Benchmark of `gk.callbacks.Checkpoint` on the quickstart's model.

    python scripts/benchmark_checkpoints.py [--minutes 3]

The model trains with one checkpoint a minute. `held` is the time in which training waits: the
callback's own calls, which copy the state, and a wait if the last checkpoint is not yet written.
The files are written in the background; this takes CPU time from training. So the script also
trains in turns with and without the callback, 30 steps each, with a checkpoint at the end of each
turn, and prints the median seconds of a step. The digests of the batches are part of that.
"""

import argparse
import pathlib
import statistics
import tempfile
import time

import keras

import gpt_keras as gk

TURNS, STEPS = 5, 30


class Timed(gk.callbacks.Checkpoint):
    """A checkpoint callback that measures its own calls after batches."""

    held, count = 0.0, 0

    def on_train_batch_end(self, batch, logs=None):
        """Measure the call."""
        began = time.perf_counter()
        super().on_train_batch_end(batch, logs)
        self.held += time.perf_counter() - began

    def _save(self, *place):
        self.count += 1
        return super()._save(*place)


class Steps(keras.callbacks.Callback):
    """Seconds of each step; the first one compiles and is not counted."""

    def __init__(self, minutes=None):
        super().__init__()
        self.seconds, self.minutes = [], minutes
        self.began = None

    def on_train_batch_begin(self, batch, logs=None):
        """Start the clock."""
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Read the clock; stop the training after the given minutes."""
        if self.began is None:
            self.began = time.perf_counter()
            return
        self.seconds.append(time.perf_counter() - self._began)
        if self.minutes and time.perf_counter() - self.began > 60 * self.minutes:
            self.model.stop_training = True


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.2, help="training minutes (default 3.2)")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    plays = gk.datasets.corpora.load("shakespeare")
    tokenizer = gk.tokenizers.BytePairTokenizer.train(plays, vocabulary_size=1024)
    train, _ = gk.datasets.language_modeling(
        plays, tokenizer, sequence_length=128, batch_size=16, seed=0
    )
    config = gk.presets.get("nano").replace(vocabulary_size=tokenizer.vocabulary_size)
    model = gk.GPTCausalLM(config, tokenizer=tokenizer)
    model.compile(gk.training.muon(total_steps=100_000))

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Timed(pathlib.Path(folder) / "minutes", every_minutes=1)
        steps = Steps(arguments.minutes)
        model.fit(
            train.repeat(),
            steps_per_epoch=100_000,
            verbose=0,
            callbacks=[steps, checkpoint],
        )
        seconds = time.perf_counter() - steps.began
        saves = checkpoint.count - 1  # the last one is at the end of the epoch
        print(f"{model.count_params():,} parameters; a checkpoint has {_size(folder):.1f} MB")
        print(
            f"{seconds:.0f} s of training, {saves} checkpoints: held {checkpoint.held:.3f} s, "
            f"{checkpoint.held / seconds:.2%} of it"
        )

        medians = {True: [], False: []}
        for turn in range(2 * TURNS):
            with_callback = turn % 2 == 0
            callbacks = [steps := Steps()]
            if with_callback:
                callbacks.append(gk.callbacks.Checkpoint(pathlib.Path(folder) / str(turn)))
            model.fit(train.repeat(), steps_per_epoch=STEPS, verbose=0, callbacks=callbacks)
            medians[with_callback].append(statistics.median(steps.seconds))
        for with_callback, found in medians.items():
            name = "with the callback" if with_callback else "without"
            print(f"{name:<18} {1000 * statistics.median(found):.1f} ms a step")


def _size(folder) -> float:
    """Return the size of the largest checkpoint in MB."""
    folders = pathlib.Path(folder).glob("*/checkpoint-*")
    return max(sum(file.stat().st_size for file in found.iterdir()) for found in folders) / 1e6


if __name__ == "__main__":
    main()
