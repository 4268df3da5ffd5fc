"""The directory of a training run: its settings and its model."""

import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

_SETTINGS = "run.yaml"
_RECORD = "run.json"

# Folder of the checkpoints in the directory of a run.
CHECKPOINTS = "checkpoints"


def check_no_run(output: str, again: str, use: str) -> None:
    """Raise an error that says how to continue if `output` holds an unfinished run.

    Args:
        output: Directory of the run.
        again: Command that repeats the run, with `{settings}` for the file of its settings.
        use: Command that uses the model of the run, with `{output}` for its directory.
    """
    from gpt_keras.callbacks.checkpoint_folder import checkpoint_numbers

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
    if checkpoint_numbers(folder / CHECKPOINTS):
        found += " To continue it, repeat the command with --resume."
    raise ValueError(
        f"`output` {output!r} holds a training that did not finish. {found} To train from the "
        f"beginning, delete it, or name another output: {again.format(settings=folder / _SETTINGS)}"
    )


def interrupted_settings(
    output: str, settings: Mapping[str, Any], changeable: Sequence[str]
) -> dict[str, Any]:
    """Return the settings of the training in `output`, which continues.

    Args:
        output: Directory of the run.
        settings: Value of each argument of the command.
        changeable: Names of the settings that may have another value than before.

    Raises:
        ValueError: There is no training to continue, or a setting has another value.
    """
    import yaml  # comes with jsonargparse

    from gpt_keras.callbacks.checkpoint_folder import checkpoint_numbers

    folder = pathlib.Path(output)
    try:
        before = yaml.safe_load((folder / _SETTINGS).read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(
            f"`resume` needs an interrupted training in `output`, but {output!r} has no "
            f"{_SETTINGS}. Leave out --resume to begin one."
        ) from None
    if not checkpoint_numbers(folder / CHECKPOINTS):
        raise ValueError(
            f"`resume` needs a checkpoint in {str(folder / CHECKPOINTS)!r}, but there is none. "
            f"Delete {output!r} and leave out --resume to begin again."
        )
    for name, value in settings.items():
        # An option of a newer version is not among the settings of an older one.
        if name not in ("output", *changeable) and not _is_same(before.get(name, value), value):
            allowed = "left out" if before[name] is None else repr(before[name])
            raise ValueError(
                f"`{name}` must be {allowed} to continue the training in {output!r}, got "
                f"{value!r}. Only {' and '.join(changeable)} may change."
            )
    return before


def _is_same(before: Any, now: Any) -> bool:
    """Return whether two values of a setting are equal, also as paths."""
    if isinstance(before, str) and isinstance(now, str) and os.path.exists(now):
        return pathlib.Path(before).resolve() == pathlib.Path(now).resolve()
    return before == now


def read_plan(output: str, plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the plan of the first start of a run; without one, the given plan.

    A plan holds numbers that follow from the settings, and that must stay when a training
    continues with more steps.

    Args:
        output: Directory of the run.
        plan: The plan by the present settings.
    """
    try:
        return json.loads(_plan_file(output).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return plan


def write_plan(output: str, plan: Mapping[str, Any]) -> None:
    """Write the plan of a run, if this is its first start.

    Args:
        output: Directory of the run.
        plan: The plan.
    """
    from gpt_keras.atomic import atomic_file

    if not _plan_file(output).exists():
        with atomic_file(_plan_file(output)) as file:
            file.write_text(json.dumps(dict(plan)), encoding="utf-8")


def _plan_file(output: str) -> pathlib.Path:
    return pathlib.Path(output) / CHECKPOINTS / "plan.json"


def new_checkpoint(output: str):
    """Return the callback that saves a run each minute, and continues it.

    Args:
        output: Directory of the run.
    """
    from gpt_keras.callbacks import Checkpoint

    return Checkpoint(pathlib.Path(output) / CHECKPOINTS, every_minutes=1, keep=2)


def new_keeper(output: str, accumulate: int = 1, model=None):
    """Return a callback that saves the model after evaluations and on interruption.

    Args:
        output: Directory of the run.
        accumulate: Number of batches in a step.
        model: The model to save. Default: the trained one.
    """
    import keras

    from gpt_keras.callbacks.checkpoint_folder import checkpoint_numbers
    from gpt_keras.callbacks.progress import BatchCounter

    folder = pathlib.Path(output)

    class ModelKeeper(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.saved_step = 0
            self._counter = BatchCounter()

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
            if self.step == 0 and checkpoint_numbers(folder / CHECKPOINTS):
                return f"gpt-keras: {output} is as before; to continue, repeat the command"
            if self.step == 0:
                # Nothing was learned. Without these files, the user can run the command again.
                for name in (_SETTINGS, _RECORD, "report.md"):
                    (folder / name).unlink(missing_ok=True)
                shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
                return "gpt-keras: nothing was trained yet, and nothing is kept"
            if self.step > self.saved_step:
                self._save()
            return (
                f"gpt-keras: {output} holds the model after {self.saved_step:,} of {steps:,} "
                "steps; to continue, repeat the command with --resume"
            )

        def get_state(self):
            return {"saved_step": self.saved_step, "counter": self._counter.get_state()}

        def set_state(self, state):
            self.saved_step = state["saved_step"]
            self._counter.set_state(state["counter"])

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
