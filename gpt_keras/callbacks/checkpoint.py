"""Exact resume of `fit`: checkpoints of everything that a training consists of."""

import os
import pathlib
import re
import signal
import threading
import time
import warnings
from typing import Any

import keras
import tensorflow as tf

from gpt_keras.backend import require_tensorflow
from gpt_keras.callbacks.checkpoint_folder import (
    CheckpointFolder,
    best_number,
    checkpoint_numbers,
    read_checkpoint,
)
from gpt_keras.callbacks.fit_loop import (
    DataPlace,
    OtherData,
    TrainingData,
    ValidationData,
    find_fit,
)
from gpt_keras.callbacks.progress import BatchCounter
from gpt_keras.callbacks.training_state import (
    callback_states,
    metric_variables,
    seeds,
    set_callback_states,
    set_seeds,
    values_of,
    variables_of,
)
from gpt_keras.checks import check_positive, check_positive_int

# Exit code of a process that SIGTERM ends, by convention 128 + 15.
_TERMINATED = 143
_LARGER_IS_BETTER = ("acc", "auc", "precision", "recall", "f1", "reward", "margin")


class Checkpoint(keras.callbacks.Callback):
    """A callback that makes `fit` continue exactly after an interruption.

    It writes checkpoints of the training. If the folder already holds one, `fit` continues from the
    newest: call the same program again. From there on the losses equal the losses of an
    uninterrupted training bit for bit, in the middle of an epoch too.

    A checkpoint holds the weights, the optimizer, the random seeds, the place in the data and the
    metrics. The optimizer's part includes accumulated gradients, moving averages and the loss
    scale; the seeds include the seeds of dropout. It also holds the state of the callbacks
    `EarlyStopping`, `ReduceLROnPlateau`, `ModelCheckpoint`, `SwapEMAWeights` and `History`, and of
    the callbacks of this package. Another callback can take part: its method `get_state` returns
    values for JSON or NumPy arrays, and `set_state` receives them.

    The data must come in the same order again. The datasets of `gk.datasets` do; a dataset of your
    own does if its shuffles have seeds, and arrays do after `keras.utils.set_random_seed`. The
    callback compares digests of batches, and refuses data that differ.

    Not part of a checkpoint: lookup tables, the random state of `tf.random` operations in layers,
    and further optimizers of a custom `train_step`.

    Ctrl-C and SIGTERM let the current batch end, write a checkpoint and stop: Ctrl-C with
    `KeyboardInterrupt`, SIGTERM with the exit code 143. A second Ctrl-C stops at once. A damaged
    checkpoint is skipped with a warning, and the one before is used. If the disk is full, training
    continues with a warning.

    Attributes:
        resumed_from: Number of batches of the checkpoint from which `fit` continued, or None.

    Args:
        directory: Folder of the checkpoints of this one training.
        every_steps: Number of batches between two checkpoints.
        every_minutes: Minutes between two checkpoints. At the end of each epoch there is always a
            checkpoint.
        keep: Number of newest checkpoints to keep.
        keep_best: Name of a value of `logs`, such as `"val_loss"`; the checkpoint at the end of the
            best epoch is kept too. Higher is better if the name holds `acc`, `auc`, `precision`,
            `recall`, `f1`, `reward` or `margin`, otherwise lower.

    Raises:
        ValueError: An argument is out of range. When training starts: there are several devices,
            the folder is in use by another process, or model, optimizer or data differ from the
            checkpoint. The message says what differs.

    Example:
        >>> import tempfile
        >>> import gpt_keras as gk, keras, numpy as np
        >>> ids = np.arange(40).reshape(8, 5) % 7
        >>> def train(folder, epochs):
        ...     keras.utils.set_random_seed(0)
        ...     model = gk.GPTCausalLM(gk.presets.get("tiny").replace(vocabulary_size=7))
        ...     model.compile(jit_compile=False)
        ...     checkpoint = gk.callbacks.Checkpoint(folder)
        ...     history = model.fit(ids, epochs=epochs, verbose=0, callbacks=[checkpoint])
        ...     return checkpoint.resumed_from, len(history.history["loss"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     train(folder, epochs=1), train(folder, epochs=3)
        ((None, 1), (1, 3))
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        keep: int = 3,
        keep_best: str | None = None,
    ):
        super().__init__()
        if every_steps is not None:
            check_positive_int("every_steps", every_steps)
        if every_minutes is not None:
            check_positive("every_minutes", every_minutes)
        check_positive_int("keep", keep)
        if keep_best is not None and not (isinstance(keep_best, str) and keep_best):
            raise ValueError(f"`keep_best` must be a name such as 'val_loss', got {keep_best!r}.")
        self.directory = pathlib.Path(directory)
        self.every_steps = every_steps
        self.every_minutes = every_minutes
        self.keep = keep
        self.keep_best = keep_best
        self.resumed_from: int | None = None
        self._folder: CheckpointFolder | None = None

    def restore_weights(self, model: keras.Model, which: str = "newest") -> int:
        """Set the weights of a model to the weights of a checkpoint.

        Args:
            model: A model of the same structure.
            which: `"newest"` or `"best"`.

        Returns:
            Number of batches of the checkpoint.

        Raises:
            ValueError: There is no such checkpoint, or the model has other weights.
        """
        if which not in ("newest", "best"):
            raise ValueError(f"`which` must be 'newest' or 'best', got {which!r}.")
        numbers = checkpoint_numbers(self.directory)
        number = best_number(self.directory) if which == "best" else next(iter(numbers), None)
        if number not in numbers:
            raise ValueError(f"{str(self.directory)!r} holds no {which} checkpoint.")
        state, arrays = read_checkpoint(self.directory, number)
        weights = [(f"model/{weight.path}", weight) for weight in model.weights]
        stored = [state["variables"][i] for i in state["weights"]]
        if differs := _first_difference(_described(weights), stored):
            raise ValueError(f"`model` differs from the checkpoint: {differs}.")
        for i, weight in zip(state["weights"], model.weights):
            weight.assign(arrays[i])
        return number

    # Calls of Keras

    def on_train_begin(self, logs=None):
        require_tensorflow("Checkpoint")
        frame = find_fit()
        self._counter = BatchCounter()
        self._waiting: dict[str, Any] | None = None  # restored at the beginning of the epoch
        self._signal: int | None = None
        self._validation: ValidationData | None = None
        self._validated: list[bool] = []
        self._since = time.monotonic()
        self._last_number: int | None = None
        self.resumed_from = None
        self._epochs = frame.f_locals["epochs"]
        self._validates = frame.f_locals["validation_data"] is not None
        self._callbacks = frame.f_locals["callbacks"]
        # Last of all: the state of the other callbacks must be final when it is saved. A new list,
        # because Keras iterates over the old one.
        self._others = [c for c in self._callbacks.callbacks if c is not self]
        self._callbacks.callbacks = [_BeforeEpoch(self), *self._others, self]
        self._data = TrainingData(frame.f_locals["epoch_iterator"])
        model = self.model
        if not model.built:
            _build(model, self._data.element_spec)
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        self._folder = CheckpointFolder(self.directory, self.keep)
        self._handle_signals(frame)
        try:
            self._resume()
        except BaseException:
            self._stop()
            raise

    def on_epoch_begin(self, epoch, logs=None):
        self.model._initial_epoch = None  # a later `fit` begins at its own epoch
        self._epoch = epoch
        self._batch = 0
        self._counter.begin_epoch()
        if self._waiting is not None:
            self._restore_in_epoch()

    def before_epoch(self) -> None:
        """Restore the callbacks' state at the beginning of an epoch."""
        if self._waiting is not None and self._waiting["state"]["batch"] == 0:
            self._assign_variables()  # a callback may have changed them when training began
            self._set_callback_states()

    def before_end(self) -> None:
        """Restore the callbacks' state if the training had ended already."""
        if self._waiting is not None:
            self._set_callback_states()
            self._waiting = None

    def on_train_batch_end(self, batch, logs=None):
        self._counter.end(batch)
        self._batch = batch + 1
        is_due = self.every_steps is not None and self._counter.has_passed(self.every_steps)
        if self.every_minutes is not None:
            is_due |= time.monotonic() - self._since >= 60 * self.every_minutes
        if is_due or self._signal is not None:
            self._save(self._epoch, self._batch)
        if self._signal is not None:
            self._end_by_signal()

    def on_test_begin(self, logs=None):
        iterator = getattr(self.model, "_eval_epoch_iterator", None)
        if iterator is not None and self._validation is None:
            self._validation = ValidationData(iterator, self._validated)

    def on_test_batch_end(self, batch, logs=None):
        if self._validation is not None:
            self._validation.end_batch()

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        name = self.keep_best
        # With `validation_freq`, an epoch may have no values of the validation.
        is_missing = self._validates and not any(key.startswith("val_") for key in logs)
        if name not in (None, *logs) and not (is_missing and name.startswith("val_")):
            raise ValueError(f"`keep_best` must be one of {', '.join(logs)}, got {name!r}.")
        best = None
        if name in logs:
            is_higher = any(part in name for part in _LARGER_IS_BETTER)
            best = {"value": float(logs[name]), "is_higher": is_higher}
        self._save(epoch + 1, 0, best)
        if self._signal is not None:
            self._end_by_signal()

    def on_train_end(self, logs=None):
        self._wait()
        self._stop()

    # Saving

    def _save(self, epoch: int, batch: int, best: dict[str, Any] | None = None) -> None:
        """Copy the state of the training, and write it in the background."""
        self._wait()
        variables, metrics = variables_of(self.model), metric_variables(self.model)
        places = {id(variable): i for i, (_, variable) in enumerate(variables)}
        arrays = values_of([*variables, *metrics])
        state = {
            "epoch": epoch,
            "batch": batch,
            "batches": self._counter.total,
            "best": best,
            "stop_training": bool(self.model.stop_training),
            "variables": _described(variables),
            "weights": [places[id(weight)] for weight in self.model.weights],
            "metrics": _described(metrics),
            "optimizer": type(self.model.optimizer).__name__,
            "data": _described_data(self._data),
            "place": list(self._data.place(is_end_of_epoch=batch == 0)),
            "validation": self._validation.iterations if self._validation else self._validated,
            "seeds": seeds(),
            "callbacks": callback_states([*self._others, self.model], arrays),
            "seconds": time.time(),
        }
        number = self._counter.total
        self._folder.write_later(number, state, arrays, _config(self.model))
        self._last_number = number
        self._since = time.monotonic()

    def _wait(self):
        """Wait until the last checkpoint is written; warn if that failed."""
        try:
            self._folder.wait()
        except OSError as error:
            warnings.warn(
                f"The checkpoint of batch {self._last_number} could not be written ({error}). "
                "Training continues; the checkpoint before is kept.",
                stacklevel=2,
            )

    # Resuming

    def _resume(self):
        numbers, damaged = self._folder.numbers(), []
        for number in numbers:
            try:
                state, arrays = read_checkpoint(self.directory, number)
                break
            except ValueError as error:
                warnings.warn(f"{error} The checkpoint before it is used.", stacklevel=3)
                damaged.append(number)
        else:
            if numbers:
                raise ValueError(
                    f"`directory` {str(self.directory)!r} holds only damaged checkpoints. Delete "
                    "it to train from the beginning."
                )
            return
        variables = variables_of(self.model)
        expected = {
            "the model or its optimizer": (state["variables"], _described(variables)),
            "the optimizer": (state["optimizer"], type(self.model.optimizer).__name__),
            "the batches": (state["data"], _described_data(self._data)),
        }
        for name, (before, now) in expected.items():
            if before != now:
                if isinstance(before, list):
                    detail = _first_difference(now, before)
                else:
                    detail = f"now {now}, in the checkpoint {before}"
                raise ValueError(f"{self._cannot()}: {name} changed ({detail}).")
        self._waiting = {"state": state, "arrays": arrays, "first": len(variables)}
        self._assign_variables()
        _build(self.model, self._data.element_spec)
        place = DataPlace(*state["place"])
        try:
            self._data.go_to(place, state["batch"], stop=state["stop_training"])
        except OtherData as error:
            raise ValueError(
                f"{self._cannot()}: the data changed ({error}). If they are the same data in "
                "another order, give each shuffle a seed. For arrays, which Keras shuffles, call "
                "keras.utils.set_random_seed before `fit`."
            ) from None
        for number in damaged:
            self._folder.set_aside(number)
        self._validated = state["validation"]
        self._counter.total = state["batches"]
        self.resumed_from = state["batches"]
        done = state["stop_training"] and state["batch"] == 0
        self.model._initial_epoch = self._epochs if done else state["epoch"]
        if self.model._initial_epoch == 0:
            self.model._initial_epoch = None

    def _cannot(self):
        return f"Cannot continue the training in {str(self.directory)!r}"

    def _restore_in_epoch(self):
        """Restore what Keras and the callbacks reset when an epoch begins."""
        state, arrays = self._waiting["state"], self._waiting["arrays"]
        if state["batch"] > 0:  # in the middle of an epoch
            metrics = metric_variables(self.model)
            if _described(metrics) != state["metrics"]:
                raise ValueError(
                    f"{self._cannot()}: the metrics changed "
                    f"({_first_difference(_described(metrics), state['metrics'])})."
                )
            self._assign_variables()  # callbacks may have changed them when the epoch began
            for (_, variable), value in zip(metrics, arrays[self._waiting["first"] :]):
                variable.assign(value)
            self.model.stop_training = state["stop_training"]
            _use_metrics_as_logs(self.model)
            self._batch = state["batch"]
            self._counter.set_state([state["batches"], state["batch"] - 1])
            self._set_callback_states()
        set_seeds(state["seeds"])
        self._waiting = None

    def _assign_variables(self):
        for (_, variable), value in zip(variables_of(self.model), self._waiting["arrays"]):
            variable.assign(value)

    def _set_callback_states(self):
        waiting = self._waiting
        set_callback_states(
            [*self._others, self.model], waiting["state"]["callbacks"], waiting["arrays"]
        )

    # Signals

    def _handle_signals(self, frame):
        self._handlers = {}
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may set handlers

        def handle(number, current):
            while current is not None and current is not frame:
                current = current.f_back
            is_second = self._signal is not None and number == signal.SIGINT
            if current is None or is_second:  # `fit` is not running, or the user insists
                self._restore_handlers()
                signal.raise_signal(number)
                return
            self._signal = number

        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in (None, signal.SIG_IGN):  # as under `nohup`
                self._handlers[number] = signal.signal(number, handle)

    def _restore_handlers(self):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _end_by_signal(self):
        number, self._signal = self._signal, None
        self._wait()
        self._stop()
        if number == signal.SIGTERM:
            raise SystemExit(_TERMINATED)
        raise KeyboardInterrupt

    def _stop(self):
        self._restore_handlers()
        self.model._initial_epoch = None
        if self._folder is not None:
            self._folder.close()
            self._folder = None


class _BeforeEpoch(keras.callbacks.Callback):
    """The first callback, which restores the others before they are called."""

    def __init__(self, checkpoint: Checkpoint):
        super().__init__()
        self._checkpoint = checkpoint

    def on_epoch_begin(self, epoch, logs=None):
        self._checkpoint.before_epoch()

    def on_train_end(self, logs=None):
        self._checkpoint.before_end()


def _described(variables) -> list[list[Any]]:
    # Keras numbers the names of layers in a process: `dense_1` may be `dense_4` in the next one.
    return [
        [
            re.sub(r"_\d+(?=[_/]|$)", "", name),
            list(v.shape),
            keras.backend.standardize_dtype(v.dtype),
        ]
        for name, v in variables
    ]


def _described_data(data: TrainingData) -> str:
    parts = tf.nest.flatten(data.element_spec, expand_composites=True)
    return ", ".join(f"{part.dtype.name} {part.shape}" for part in parts if hasattr(part, "dtype"))


def _first_difference(now: list[list[Any]], before: list[list[Any]]) -> str:
    for new, old in zip(now, before):
        if list(new) != list(old):
            return (
                f"now {new[0]} {tuple(new[1])} {new[2]}, before {old[0]} {tuple(old[1])} {old[2]}"
            )
    return f"now {len(now)} variables, before {len(before)}" if len(now) != len(before) else ""


def _config(model) -> dict[str, Any]:
    backbone = getattr(model, "backbone", model)
    config = getattr(backbone, "config", None)
    try:
        optimizer = keras.optimizers.serialize(model.optimizer)
    except NotImplementedError:  # a user's schedule without `get_config`
        optimizer = type(model.optimizer).__name__
    return {
        "class": type(model).__name__,
        "config": config.to_dict() if hasattr(config, "to_dict") else None,
        "optimizer": optimizer,
    }


def _build(model, element_spec) -> None:
    """Make the variables of model and metrics, which Keras makes in the first step."""

    def symbol(spec):
        return keras.KerasTensor(spec.shape, spec.dtype.name) if hasattr(spec, "dtype") else None

    model._symbolic_build(data_batch=tf.nest.map_structure(symbol, element_spec))


def _use_metrics_as_logs(model) -> None:
    """Report the restored metrics if the epoch has no batches left.

    Keras takes the values of an epoch from its last batch.
    """
    original = model._get_metrics_result_or_logs

    def results(logs):
        del model._get_metrics_result_or_logs  # once
        return original(logs) if logs else model.get_metrics_result()

    model._get_metrics_result_or_logs = results
