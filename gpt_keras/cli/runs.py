"""The directory of a training run: its settings and its model."""

import json
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

_SETTINGS = "run.yaml"
_RECORD = "run.json"


def check_no_run(output: str, again: str, use: str) -> None:
    """Raise an error that says how to continue if `output` holds an unfinished run.

    Args:
        output: Directory of the run.
        again: Command that repeats the run, with `{settings}` for the file of its settings.
        use: Command that uses the model of the run, with `{output}` for its directory.
    """
    folder = pathlib.Path(output)
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if record.get("finished", True):
        return
    found = "There is no model in it."
    if (folder / "config.json").exists():
        found = f"Its model can be used: {use.format(output=output)}."
    raise ValueError(
        f"`output` {output!r} holds a training that did not finish. {found} To train from the "
        f"beginning, delete it, or name another output: {again.format(settings=folder / _SETTINGS)}"
    )


def new_keeper(output: str, accumulate: int = 1, model=None):
    """Return a callback that saves the model after evaluations and on interruption.

    Args:
        output: Directory of the run.
        accumulate: Number of batches in a step.
        model: The model to save. Default: the trained one.
    """
    import keras

    from gpt_keras.callbacks.progress import BatchCounter

    folder = pathlib.Path(output)

    class ModelKeeper(keras.callbacks.Callback):
        saved_step = 0
        _counter = BatchCounter()

        @property
        def step(self):
            return self._counter.total // accumulate

        def on_epoch_begin(self, epoch, logs=None):
            self._counter.begin_epoch()

        def on_train_batch_end(self, batch, logs=None):
            self._counter.end(batch)

        def on_epoch_end(self, epoch, logs=None):
            if not self.model.stop_training:  # LossWatch sets it when the loss diverges
                self._save()

        def interrupted(self, steps: int) -> str:
            """Save the current model, and return a message for the user."""
            if self.step == 0:
                # Nothing was learned. Without these files, the user can run the command again.
                for name in (_SETTINGS, _RECORD, "report.md"):
                    (folder / name).unlink(missing_ok=True)
                return "gpt-keras: nothing was trained yet, and nothing is kept"
            if self.step > self.saved_step:
                self._save()
            return (
                f"gpt-keras: {output} holds the model after {self.saved_step:,} of {steps:,} steps"
            )

        def _save(self):
            _save(self.model if model is None else model, folder)
            self.saved_step = self.step

    return ModelKeeper()


def write_settings(output: str, settings: Mapping[str, Any], again: str) -> None:
    """Write the settings of a run, which `--config` reads.

    Args:
        output: Directory of the run.
        settings: Value of each argument of the command.
        again: Command that repeats the run, with `{settings}` for this file.
    """
    import yaml  # comes with jsonargparse

    from gpt_keras.atomic import atomic_file

    with atomic_file(pathlib.Path(output) / _SETTINGS) as file:
        file.write_text(
            f"# Trains the same again: {again.format(settings='THIS_FILE')}\n"
            + yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True),
            encoding="utf-8",
        )


def _save(model, output: pathlib.Path) -> None:
    """Move the model's files into the run's directory.

    The config comes last: without it, the directory does not count as a model.
    """
    with tempfile.TemporaryDirectory(dir=output) as folder:
        model.save_to_preset(pathlib.Path(folder) / "model")
        files = (pathlib.Path(folder) / "model").iterdir()
        for file in sorted(files, key=lambda file: file.name == "config.json"):
            os.replace(file, output / file.name)
