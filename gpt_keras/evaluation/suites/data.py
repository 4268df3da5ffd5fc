"""The data files of a suite: which are missing, and the examples of each task."""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gpt_keras.checks import check_positive_int, check_seed
from gpt_keras.evaluation.tasks.task import EvaluationTask
from gpt_keras.file_bytes import file_sha256


class TaskData(NamedTuple):
    """A task with its examples.

    Attributes:
        task: The task.
        examples: Its examples, as many as are evaluated.
        description: Files and digests, for the record of the run.
    """

    task: EvaluationTask
    examples: list[Any]
    description: dict[str, Any]


def check_suite_files(suite, folder: str | os.PathLike) -> None:
    """Check that a folder has the files of a suite.

    Args:
        suite: A suite, from `gk.evaluation.load_suite`.
        folder: The folder.

    Raises:
        ValueError: There is no such folder, or files are missing. The message names each missing
            file and its source.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"`data` must be a folder, got {str(folder)!r}, which is no folder.")
    missing = suite.missing_files(folder)
    if missing:
        listed = "; ".join(f"{file} ({source})" for file, source in missing.items())
        raise ValueError(
            f"`data` {str(folder)!r} lacks {len(missing)} "
            f"{'file' if len(missing) == 1 else 'files'} of the suite {suite.name!r}: {listed}."
        )


def read_suite(
    suite, folder: str | os.PathLike, *, limit: int | None = None, seed: int | None = None
) -> list[TaskData]:
    """Read the data files of a suite.

    Args:
        suite: A suite, from `gk.evaluation.load_suite`.
        folder: Folder of the data files.
        limit: Largest number of items of each task. Default: the limit of the suite's entry, or
            all.
        seed: Seed that draws the items if there is a limit. Default: they are the first ones.

    Returns:
        The tasks with their examples, in the order of the suite.

    Raises:
        ValueError: Files are missing, a row is wrong, or two tasks have the same name.
    """
    if limit is not None:
        check_positive_int("limit", limit)
    if seed is not None:
        check_seed(seed)
    check_suite_files(suite, folder)
    found = [_read_entry(entry, Path(folder), limit, seed) for entry in suite.entries]
    names = [data.task.name for data in found]
    for i, name in enumerate(names):
        # The name is a part of a file's name.
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError(f"The name of a task must be letters, digits and _.-, got {name!r}.")
        if name in names[:i]:
            raise ValueError(f"The tasks of a suite must have different names, got {name!r} twice.")
    return found


def _read_entry(entry, folder: Path, limit: int | None, seed: int | None) -> TaskData:
    path, task = folder / entry.file, entry.task
    if entry.examples_file:
        task = task.with_examples(table=folder / entry.examples_file)
    examples = task.examples(path)
    limit = entry.limit if limit is None else limit
    if limit is None or limit >= len(examples):
        seed = None
    elif seed is None:
        examples = examples[:limit]
    else:
        drawn = np.random.default_rng(seed).permutation(len(examples))[:limit]
        examples = [examples[i] for i in sorted(drawn)]
    description = {
        "description_sha256": task_digest(entry.task),
        "file": entry.file,
        "sha256": file_sha256(path),
        "source": task.source,
        "num_items": len(examples),
        "seed": seed,
    }
    if entry.examples_file:
        description["examples_file"] = entry.examples_file
        description["examples_sha256"] = file_sha256(folder / entry.examples_file)
    return TaskData(task, examples, description)


# Fields of a task that say where its data come from: the data have a digest of their own.
_OF_DATA = ("file", "source", "examples_file", "example_table")


def task_digest(task: EvaluationTask) -> str:
    """Return the SHA-256 of a task's class and fields.

    Functions are represented by their names.
    """
    fields = _described(task)
    text = json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def _described(value: Any) -> Any:
    """Return a value as JSON values that are the same in each process."""
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, Mapping):
        return [[_described(key), _described(part)] for key, part in value.items()]
    if isinstance(value, list | tuple):
        return [_described(part) for part in value]
    if isinstance(value, set | frozenset):
        return sorted(json.dumps(_described(part)) for part in value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, type) or (isinstance(value, Callable) and hasattr(value, "__qualname__")):
        return f"{value.__module__}.{value.__qualname__}"
    name = _described(type(value))
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value) if field.name not in _OF_DATA]
        return [name, {field: _described(getattr(value, field)) for field in fields}]
    if isinstance(value, EvaluationTask):
        return [name, {field: _described(part) for field, part in sorted(vars(value).items())}]
    return name
