"""Suites: lists of evaluation tasks with their files."""

import dataclasses
import os
from pathlib import Path
from typing import Any, NamedTuple

from gpt_keras.checks import check_positive_int
from gpt_keras.datasets.task_files import SUFFIXES, TaskFile, find_task_file, read_task_file
from gpt_keras.evaluation.tasks.few_shot import FewShotTask
from gpt_keras.evaluation.tasks.loading import load_task
from gpt_keras.evaluation.tasks.task import EvaluationTask

_SHIPPED = Path(__file__).parents[1] / "data" / "suites"


class SuiteEntry(NamedTuple):
    """Task of a suite, and the files that it needs in a folder of evaluation data.

    Attributes:
        task: The task.
        file: Name of the table's file.
        examples_file: Name of the file with solved examples, or None if the task needs none.
        limit: Number of rows to use, the first ones, or None for all.

    Example:
        >>> import gpt_keras as gk
        >>> entry = gk.evaluation.load_suite("quick").entries[0]
        >>> entry.file, entry.examples_file, entry.limit
        ('piqa.jsonl', None, 100)
    """

    task: EvaluationTask
    file: str
    examples_file: str | None
    limit: int | None


class Suite(NamedTuple):
    """Evaluation tasks that belong together.

    Attributes:
        name: Name of the suite.
        entries: The tasks with their files.

    Example:
        >>> import gpt_keras as gk
        >>> suite = gk.evaluation.load_suite("quick")
        >>> [(entry.task.name, entry.limit) for entry in suite.entries][:2]
        [('piqa', 100), ('openbookqa', 100)]
    """

    name: str
    entries: tuple[SuiteEntry, ...]

    def missing_files(self, folder: str | os.PathLike) -> dict[str, str]:
        """Return the files that a folder lacks, and where to get them.

        Args:
            folder: Folder of evaluation data.

        Returns:
            The source of each missing file, in words.

        Example:
            >>> import gpt_keras as gk
            >>> missing = gk.evaluation.load_suite("quick").missing_files("no folder")
            >>> missing["piqa.jsonl"].split(",")[0]
            'PIQA'
        """
        missing = {}
        for entry in self.entries:
            source = entry.task.source or f"the task {entry.task.name} does not say where it is"
            for file in (entry.file, entry.examples_file):
                if file is not None and not (Path(folder) / file).is_file():
                    is_examples = file != entry.file
                    missing[file] = f"{source} (solved examples)" if is_examples else source
        return missing


@dataclasses.dataclass(kw_only=True)
class _SuiteKeys:
    name: str
    tasks: list
    limit: int | None = None


@dataclasses.dataclass(kw_only=True)
class _EntryKeys:
    task: str
    file: str | None = None
    examples_file: str | None = None
    num_examples: int | None = None
    limit: int | None = None


def load_suite(source: str | os.PathLike) -> Suite:
    """Load a suite by name, or from a YAML file.

    The file has the keys `name`, `tasks`, and for all tasks `limit`. Each item of `tasks` is the
    name or the YAML file of a task as in `gk.evaluation.load_task`, or has the keys `task`, `file`,
    `examples_file`, `num_examples` and `limit`, whose values replace the task's. The path of a file
    is relative to the suite's folder. The file of a single task is a suite of this task.

    Args:
        source: `"quick"`: 100 rows of each of four tasks; `"standard"`: all rows of ten tasks; or
            the path of a file that ends in `.yaml` or `.yml`.

    Returns:
        The suite.

    Raises:
        ValueError: There is no such suite or file; or the file or the file of a task is broken, has
            an unknown key, lacks one, or a value is wrong. The message gives the file and the line.
        ImportError: PyYAML or Jinja2 is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> suite = gk.evaluation.load_suite("standard")
        >>> suite.name, len(suite.entries)
        ('standard', 10)
    """
    path = find_task_file(source, _SHIPPED)
    file = read_task_file(path)
    if "tasks" not in file.values:
        task = load_task(path)
        entry = _entry(file, (), _EntryKeys(task=str(path)), task, None)
        return Suite(task.name, (entry,))
    keys = _SuiteKeys(**file.checked(file.values, _SuiteKeys))
    if not isinstance(keys.name, str) or not keys.name:
        raise ValueError(f"{file.place('name')}: `name` must be a text, got {keys.name!r}.")
    _check_limit(file, keys.limit, "limit")
    if not isinstance(keys.tasks, list) or not keys.tasks:
        raise ValueError(
            f"{file.place('tasks')}: `tasks` must be a list of tasks, got {keys.tasks!r}."
        )
    entries = []
    for number, item in enumerate(keys.tasks):
        place = ("tasks", number)
        own = {"task": item} if isinstance(item, str) else file.checked(item, _EntryKeys, *place)
        own = _EntryKeys(**own)
        entries.append(_entry(file, place, own, _task(file, place, own.task), keys.limit))
    names = [entry.task.name for entry in entries]
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        line = file.place("tasks", len(names) - 1 - names[::-1].index(twice))
        raise ValueError(f"{line}: the names of tasks must differ, got {twice!r} twice.")
    return Suite(keys.name, tuple(entries))


def _task(file: TaskFile, place: tuple, source: Any) -> EvaluationTask:
    if not isinstance(source, str):
        raise ValueError(
            f"{file.place(*place, 'task')}: `task` must be a name or a path, got {source!r}."
        )
    is_path = Path(source).suffix in SUFFIXES
    try:
        return load_task(file.path.parent / source if is_path else source)
    except ValueError as error:
        raise ValueError(f"{file.place(*place)}: {error}") from error


def _entry(
    file: TaskFile, place: tuple, keys: _EntryKeys, task: EvaluationTask, limit: int | None
) -> SuiteEntry:
    for name in ("file", "examples_file"):
        value = getattr(keys, name)
        if value is not None and not (isinstance(value, str) and value):
            raise ValueError(
                f"{file.place(*place, name)}: `{name}` must be the name of a file, got {value!r}."
            )
    _check_limit(file, keys.limit, *place, "limit")
    if keys.num_examples is not None:
        if not isinstance(task, FewShotTask):
            raise ValueError(
                f"{file.place(*place, 'num_examples')}: the task {task.name!r} has no solved "
                "examples."
            )
        try:
            task = task.with_examples(keys.num_examples)
        except ValueError as error:
            raise ValueError(f"{file.place(*place, 'num_examples')}: {error}") from error
    found = keys.file or task.file
    if found is None:
        raise ValueError(
            f"{file.place(*place)}: the task {task.name!r} names no file of its table: add `file`."
        )
    examples_file = keys.examples_file or task.examples_file
    if task.num_examples and examples_file is None:
        raise ValueError(
            f"{file.place(*place)}: the task {task.name!r} has num_examples={task.num_examples}: "
            "add `examples_file`."
        )
    return SuiteEntry(
        task, found, examples_file if task.num_examples else None, keys.limit or limit
    )


def _check_limit(file: TaskFile, limit: Any, *keys: Any) -> None:
    if limit is not None:
        try:
            check_positive_int("limit", limit)
        except ValueError as error:
            raise ValueError(f"{file.place(*keys)}: {error}") from error
