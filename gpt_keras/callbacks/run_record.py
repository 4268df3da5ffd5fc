"""Records of training runs: `run.json` for programs, `report.md` for readers."""

import datetime
import json
import math
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from gpt_keras.atomic import atomic_file
from gpt_keras.callbacks.loss_watch import LossWatch
from gpt_keras.callbacks.progress import SampleText
from gpt_keras.checks import check_positive
from gpt_keras.run_files import (
    code_block,
    describe_machine,
    json_text,
    package_versions,
    table_cell,
)

_WATTS_PER_CORE, _WATTS_PER_GPU = 15, 300


class RunRecord(keras.callbacks.Callback):
    """A callback that records a training run in a directory.

    It writes `run.json`, `report.md` and, from the second epoch on, `training.png`. They contain
    the settings, the model and the optimizer, package versions, the duration in seconds, an
    estimate of the energy, the losses of each epoch and samples. The files are written again after
    each epoch, so an interrupted run leaves a record, too.

    Attributes:
        record: The content of `run.json`, a dict.

    Args:
        directory: Directory for the files.
        settings: Further settings of the run that JSON can hold, such as a script's arguments.
        data: Description of the training data, such as `{"sha256": gk.datasets.digest(corpus)}`.
        samples: The `SampleText` callback whose samples are recorded.
        watch: The `LossWatch` callback whose incidents are recorded.
        watts: Assumed power of the machine, for the energy estimate. Default: 300 for each GPU, or
            15 for each CPU core if there is no GPU.

    Raises:
        ValueError: `watts` is not above 0, or JSON cannot hold `settings` or `data`.

    Example:
        >>> import gpt_keras as gk
        >>> callback = gk.callbacks.RunRecord("runs/1", data={"corpus": "my diary"})
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        settings: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        samples: SampleText | None = None,
        watch: LossWatch | None = None,
        watts: float | None = None,
    ):
        super().__init__()
        if watts is not None:
            check_positive("watts", watts)
        for name, value in (("settings", settings), ("data", data)):
            if not isinstance(value, Mapping | None):
                raise ValueError(f"`{name}` must be a dict, got {value!r}.")
            try:
                json.dumps(value)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"`{name}` must hold only JSON values, got {value!r}: {error}."
                ) from error
        self.directory = pathlib.Path(directory)
        self.samples = samples
        self.watch = watch
        self.watts = watts
        self.record: dict[str, Any] = {"settings": dict(settings or {}), "data": dict(data or {})}

    def add_result(self, values: Mapping[str, Any]) -> None:
        """Add results, such as the scores of a test, and write the files again.

        Args:
            values: Results that JSON can hold, by name.
        """
        self.record["results"] = {**self.record.get("results", {}), **values}
        self._write()

    def add_samples(self, samples: Sequence[Mapping[str, str]]) -> None:
        """Add samples, such as answers before and after, and write the files again.

        Args:
            samples: For each sample, its texts by name, such as `prompt`, `before` and `after`.
        """
        self.record["samples"] = [*self.record.get("samples", []), *map(dict, samples)]
        self._write()

    def on_train_begin(self, logs=None):
        machine = describe_machine()
        self._began = time.perf_counter()
        self.record |= {
            "model": _model(self.model),
            "optimizer": keras.optimizers.serialize(self.model.optimizer),
            "versions": package_versions(),
            "machine": machine,
            "began": _time_of(time.time()),
            "finished": False,
            "assumed_watts": self.watts
            or machine["gpus"] * _WATTS_PER_GPU
            or machine["cores"] * _WATTS_PER_CORE,
            "history": {},
        }
        self.directory.mkdir(parents=True, exist_ok=True)
        self._time()
        self._write()

    def get_state(self) -> dict:
        """Return what `Checkpoint` saves."""
        self._time()
        names = ("began", "history", "interruptions", "seconds")
        state = {name: self.record[name] for name in names if name in self.record}
        return {**state, "now": time.time()}

    def set_state(self, state: dict) -> None:
        """Continue the record of an interrupted training; called by `Checkpoint`."""
        before = {name: value for name, value in state.items() if name != "now"}
        self._began -= before["seconds"]
        self.record |= before
        pause = {
            "stopped": _time_of(state["now"]),
            "continued": _time_of(time.time()),
            "after_seconds": before["seconds"],
            "pause_seconds": round(time.time() - state["now"], 1),
        }
        self.record["interruptions"] = [*before.get("interruptions", []), pause]
        self._write()

    def on_epoch_end(self, epoch, logs=None):
        for name, value in (logs or {}).items():
            self.record["history"].setdefault(name, []).append(float(value))
        self._time()
        self._write()

    def on_train_end(self, logs=None):
        self.record["finished"] = True
        self._time()
        self._write()

    def _time(self):
        seconds = round(time.perf_counter() - self._began, 1)
        self.record["seconds"] = seconds
        self.record["watt_hours"] = round(seconds * self.record["assumed_watts"] / 3600, 2)

    def _write(self):
        record = self.record
        if self.samples is not None:
            added = [sample for sample in record.get("samples", []) if "batches" not in sample]
            record["samples"] = [
                {"batches": batches, "text": text} for batches, text in self.samples.samples
            ] + added
        if self.watch is not None:
            record["incidents"] = self.watch.incidents
        self._write_file("run.json", json_text(record))
        has_curve = self._draw()
        self._write_file("report.md", _report(record, has_curve))

    def _draw(self) -> bool:
        losses = self.record["history"].get("loss", [])
        if len(losses) < 2 or not all(map(math.isfinite, losses)):
            return False
        from gpt_keras import plots  # late: it imports matplotlib

        figure = plots.training(self.record["history"])
        with atomic_file(self.directory / "training.png") as file:
            figure.savefig(file, dpi=150)
        return True

    def _write_file(self, name, text):
        with atomic_file(self.directory / name) as file:
            file.write_text(text, encoding="utf-8")


def _model(model):
    backbone = getattr(model, "backbone", model)
    config = getattr(backbone, "config", None)
    return {
        "class": type(model).__name__,
        "parameters": model.count_params(),
        "config": config.to_dict() if hasattr(config, "to_dict") else None,
        "dtype": backbone.dtype_policy.name,
    }


def _time_of(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def _report(record, has_curve) -> str:
    model, machine, history = record["model"], record["machine"], record["history"]
    state = "finished" if record["finished"] else "not finished"
    lines = [
        "# Training run",
        "",
        f"Began {record['began']}, {state} after {record['seconds']:,.1f} s.",
        "",
        f"- Model: {model['class']}, {model['parameters']:,} parameters, {model['dtype']}",
        f"- Machine: {machine['system']}, {machine['cores']} cores, {machine['gpus']} GPUs",
        f"- Energy: about {record['watt_hours']:,.2f} Wh, if the machine uses "
        f"{record['assumed_watts']:g} W",
        "- Versions: " + ", ".join(f"{name} {v}" for name, v in record["versions"].items()),
    ]
    for title in ("results", "data", "settings"):
        if record.get(title):
            lines += ["", f"## {title.capitalize()}", "", "| | |", "|---|---|"]
            lines += [f"| {name} | {table_cell(value)} |" for name, value in record[title].items()]
    if model["config"]:
        lines += ["", "## Shape of the model", "", "| | |", "|---|---|"]
        lines += [f"| {name} | {table_cell(value)} |" for name, value in model["config"].items()]
    if history:
        names = list(history)
        lines += ["", "## Losses", ""]
        lines += ["![training and validation loss](training.png)", ""] if has_curve else []
        lines += ["| epoch | " + " | ".join(names) + " |", "|--:" * (len(names) + 1) + "|"]
        for epoch in range(len(history[names[0]])):
            values = [
                f"{history[name][epoch]:.5g}" if epoch < len(history[name]) else ""
                for name in names
            ]
            lines.append(f"| {epoch + 1} | " + " | ".join(values) + " |")
    if record.get("interruptions"):
        lines += ["", "## Interruptions", ""]
        lines += ["| last checkpoint | after | continued | pause |", "|---|--:|---|--:|"]
        for pause in record["interruptions"]:
            lines.append(
                f"| {pause['stopped']} | {pause['after_seconds']:,.1f} s | {pause['continued']} | "
                f"{pause['pause_seconds']:,.1f} s |"
            )
    if record.get("incidents"):
        lines += ["", "## Incidents", "", "| step | loss | what happened |", "|--:|--:|---|"]
        for incident in record["incidents"]:
            lines.append(f"| {incident['step']} | {incident['loss']:.4g} | {incident['action']} |")
    samples = record.get("samples", [])
    for sample in [sample for sample in samples if "batches" in sample][-1:]:
        lines += ["", f"## Sample after {sample['batches']:,} batches", ""]
        lines += code_block(sample["text"])
    for number, sample in enumerate(s for s in samples if "batches" not in s):
        lines += ["", f"## Sample {number + 1}"]
        for name, text in sample.items():
            lines += ["", f"{name}:", "", *code_block(text)]
    return "\n".join(lines) + "\n"
