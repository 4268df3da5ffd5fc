"""`evaluate_suite`: run the tasks of a suite, and go on where a run stopped."""

import datetime
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from gpt_keras.atomic import check_empty_directory
from gpt_keras.checks import check_positive_int
from gpt_keras.evaluation.suites.data import TaskData, read_suite
from gpt_keras.evaluation.suites.folder import (
    append_items,
    items_file,
    read_items,
    read_results,
    write_results,
)
from gpt_keras.evaluation.suites.report import write_report
from gpt_keras.evaluation.suites.result import SuiteResult, read_task_result
from gpt_keras.evaluation.tasks.task import TaskResult
from gpt_keras.models import CausalLM
from gpt_keras.models.tokenizer_config import tokenizer_beside_config
from gpt_keras.run_files import describe_machine, package_versions

# Number of batches between two saves: a kill loses at most as much work.
_BATCHES_IN_BLOCK = 8

_NOTHING_DONE = {"num_done": 0, "seconds": 0.0, "batch_sizes": []}


def evaluate_suite(
    model: CausalLM,
    suite,
    data: str | os.PathLike,
    output: str | os.PathLike,
    *,
    limit: int | None = None,
    seed: int | None = None,
    batch_size: int = 8,
    settings: Mapping[str, Any] | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> SuiteResult:
    r"""Evaluate a model on each task of a suite, and write the results to a folder.

    The folder gets `results.json` for programs, `report.md` for readers, and
    `items/TASK.jsonl` with a record for each item. After every eight batches the records are
    written. If the run is interrupted or killed, the same call goes on after the last written
    block, and gives the same records and metrics as a run without interruption.

    Args:
        model: A `CausalLM` with a tokenizer, with or without a LoRA adapter.
        suite: A suite, from `gk.evaluation.load_suite`.
        data: Folder of the suite's data files.
        output: Folder for the results: a new or an empty one, or the folder of an interrupted run.
        limit: Largest number of items of each task. Default: all, or the number that the suite
            gives.
        seed: Seed that draws the items if there is a limit. Default: they are the first ones.
            Nothing else is random.
        batch_size: Number of items in a batch. It may change between the parts of a run: it moves
            log-likelihoods only by rounding. The record names all sizes.
        settings: Further settings for the record that JSON can hold, such as the model's path.
        on_progress: Function that is called with a task's name, the number of items that are done,
            and the number of its items: when a task begins, and after each block.

    Returns:
        A `SuiteResult`.

    Raises:
        ValueError: A file of the suite is missing or wrong, an argument is out of range, or
            `output` holds something else: another folder, or an evaluation of another model, of
            other tasks or other data. The message names the difference.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("ab ", end_of_text=True)
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=tokenizer.vocabulary_size)
        >>> model = gk.GPTCausalLM(config, tokenizer=tokenizer)
        >>> task = "{kind: choice, name: letters, prompt: '{{ text }}', choices: choices, "
        >>> task += "answer: '0', metrics: acc, file: letters.jsonl}"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "letters.yaml").write_text(task)
        ...     rows = '{"text": "a", "choices": ["b", "bb"]}\n' * 2
        ...     _ = (Path(folder) / "letters.jsonl").write_text(rows)
        ...     suite = gk.evaluation.load_suite(Path(folder) / "letters.yaml")
        ...     print(gk.evaluation.evaluate_suite(model, suite, folder, Path(folder) / "results"))
        task     items  metric          value    95% interval  cut
        letters      2  acc     1.000 ± 0.000  1.000 to 1.000    0
    """
    check_positive_int("batch_size", batch_size)
    tasks = read_suite(suite, data, limit=limit, seed=seed)
    return run_tasks(
        model,
        suite.name,
        tasks,
        output,
        batch_size=batch_size,
        settings=settings,
        on_progress=on_progress,
    )


def run_tasks(
    model: CausalLM,
    suite: str,
    tasks: Sequence[TaskData],
    output: str | os.PathLike,
    *,
    batch_size: int,
    settings: Mapping[str, Any] | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> SuiteResult:
    """Evaluate a model on tasks whose data are read; see `evaluate_suite`.

    Args:
        model: As in `evaluate_suite`.
        suite: Name of the suite.
        tasks: Result of `read_suite`.
        output: As in `evaluate_suite`.
        batch_size: As in `evaluate_suite`.
        settings: As in `evaluate_suite`.
        on_progress: As in `evaluate_suite`.
    """
    output = Path(output)
    record = check_evaluation_folder(output, tasks)
    if record is None:
        record = _new_record(model, suite, tasks, settings)
        write_results(output, record)
    else:
        _check_same_model(output, record, model)
    found = {}
    for data in tasks:
        found[data.task.name] = _run_task(model, data, output, record, batch_size, on_progress)
    if not record["finished"]:
        record["finished"] = True
        write_results(output, record)
    result = SuiteResult(record, found)
    write_report(output, result)
    return result


def check_evaluation_folder(
    output: str | os.PathLike, tasks: Sequence[TaskData]
) -> dict[str, Any] | None:
    """Check that a folder is free for results, or holds a run of the same tasks.

    Args:
        output: The folder.
        tasks: Result of `read_suite`.

    Returns:
        The record of the earlier run, or None.

    Raises:
        ValueError: The folder holds something else. The message names the difference.
    """
    output = Path(output)
    earlier = read_results(output) if output.is_dir() else None
    if earlier is None:
        check_empty_directory(output)
        return None
    if not any(entry["num_done"] for entry in earlier["tasks"].values()):
        return None
    differences = []
    names = [data.task.name for data in tasks]
    if names != list(earlier["tasks"]):
        differences.append(f"its tasks are {', '.join(earlier['tasks'])}")
    else:
        for data in tasks:
            differences += _differences(earlier["tasks"][data.task.name], data)
    _raise_if_different(output, differences)
    return earlier


def _differences(earlier: Mapping[str, Any], data: TaskData) -> list[str]:
    name, found = repr(data.task.name), []
    if earlier["description_sha256"] != data.description["description_sha256"]:
        found.append(f"the description of {name} was another")
    for key, meaning in (("sha256", "data"), ("examples_sha256", "examples")):
        if earlier.get(key) != data.description.get(key):
            found.append(f"the {meaning} of {name} were others")
    if earlier["num_items"] != len(data.examples):
        found.append(f"{name} had {earlier['num_items']} items, not {len(data.examples)}")
    if earlier["seed"] != data.description["seed"]:
        found.append(f"the items of {name} had the seed {earlier['seed']}")
    return found


def _check_same_model(output: Path, earlier: Mapping[str, Any], model: CausalLM) -> None:
    differences = []
    if earlier["model"]["sha256"] != model_digest(model):
        differences.append("it is of another model")
    if not earlier["finished"]:
        now = package_versions()
        differences += [
            f"it began with {name} {version}, not {now.get(name)}"
            for name, version in earlier["versions"].items()
            if version != now.get(name)
        ]
    _raise_if_different(output, differences)


def _raise_if_different(output: Path, differences: Sequence[str]) -> None:
    if differences:
        raise ValueError(
            f"`output` {str(output)!r} holds another evaluation: {'; '.join(differences)}. Name "
            "another folder, or delete this one."
        )


def _new_record(model, suite, tasks, settings) -> dict[str, Any]:
    return {
        "suite": suite,
        "finished": False,
        "began": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "model": {
            "class": type(model).__name__,
            "parameters": model.count_params(),
            "dtype": model.backbone.dtype_policy.name,
            "sha256": model_digest(model),
        },
        "settings": dict(settings or {}),
        "versions": package_versions(),
        "machine": describe_machine(),
        "tasks": {data.task.name: data.description | _NOTHING_DONE for data in tasks},
    }


def _run_task(model, data, output, record, batch_size, on_progress) -> TaskResult:
    name, total = data.task.name, len(data.examples)
    path, entry = items_file(output, name), record["tasks"][name]
    if not path.exists():  # deleted, to run the task again
        entry |= _NOTHING_DONE
        entry.pop("metrics", None)
    records, size = read_items(path, entry["num_done"]) if entry["num_done"] else ([], 0)
    report = on_progress or (lambda *_: None)
    report(name, len(records), total)
    while len(records) < total:
        began = time.perf_counter()
        examples = data.examples[len(records) :][: _BATCHES_IN_BLOCK * batch_size]
        found = data.task.run(model, examples, batch_size=batch_size)
        if len(found) != len(examples):
            raise ValueError(
                f"The task {name!r} must return a record for each of {len(examples)} examples, got "
                f"{len(found)} records."
            )
        size = append_items(path, size, found)
        records += found
        record["finished"] = False
        entry["num_done"] = len(records)
        entry["seconds"] += time.perf_counter() - began
        entry["batch_sizes"] = sorted({*entry["batch_sizes"], batch_size})
        write_results(output, record)
        report(name, len(records), total)
    # All records come from the file: a tuple of this run and a list of an earlier one are the same.
    records, _ = read_items(path, total)
    if "metrics" not in entry:
        metrics = data.task.summarize(records)
        entry["num_cut"] = sum(bool(item["was_cut"]) for item in records)
        entry["metrics"] = {metric: estimate._asdict() for metric, estimate in metrics.items()}
        write_results(output, record)
    return read_task_result(output, record, name)


def model_digest(model: CausalLM) -> str:
    """Return the SHA-256 of a model: its config, tokenizer, weights and adapters."""
    with tokenizer_beside_config():
        config = keras.saving.serialize_keras_object(model)
    tokenizer = None if model.tokenizer is None else model.tokenizer.digest()
    description = [_without(config), model.backbone.dtype_policy.name, tokenizer]
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for variable in model.weights:
        value = keras.ops.convert_to_numpy(variable)
        digest.update(f"{value.dtype} {value.shape} ".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


# Keys of a config that do not change what a model computes.
_IRRELEVANT = ("name", "frozen", "trainable", "rematerialize", "build_config", "compile_config")


def _without(config: Any) -> Any:
    if isinstance(config, Mapping):
        return {key: _without(part) for key, part in config.items() if key not in _IRRELEVANT}
    if isinstance(config, list | tuple):
        return [_without(part) for part in config]
    return config
