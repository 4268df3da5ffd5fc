"""Folder of an evaluation: `results.json`, and the records of each task.

`results.json` counts the records that are complete. A record after these belongs to a block that
was interrupted.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt_keras.atomic import atomic_file
from gpt_keras.run_files import json_text

RESULTS = "results.json"
REPORT = "report.md"

_KEYS = {"suite", "finished", "began", "model", "settings", "versions", "machine", "tasks"}
_TASK_KEYS = {"description_sha256", "file", "sha256", "source", "num_items", "seed"}
_TASK_KEYS |= {"num_done", "seconds", "batch_sizes"}
_FINISHED_KEYS = {"metrics", "num_cut"}


def items_file(folder: Path, task: str) -> Path:
    """Return the file of a task's records."""
    return folder / "items" / f"{task}.jsonl"


def read_results(folder: Path) -> dict[str, Any] | None:
    """Return the content of `results.json`; None if there is no such file.

    Raises:
        ValueError: The file is damaged, or belongs to another program.
    """
    path = folder / RESULTS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}.") from error
    if not isinstance(found, dict) or not found.keys() >= _KEYS:
        raise ValueError(f"{str(path)!r} is not the file of an evaluation.")
    keys = _TASK_KEYS | (_FINISHED_KEYS if found["finished"] else set())
    for name, entry in found["tasks"].items():
        if not isinstance(entry, dict) or not entry.keys() >= keys:
            raise ValueError(
                f"{str(path)!r} is damaged: the task {name!r} must have {', '.join(sorted(keys))}."
            )
    return found


def write_results(folder: Path, record: Mapping[str, Any]) -> None:
    """Write `results.json`, completely or not at all."""
    with atomic_file(folder / RESULTS) as file:
        file.write_text(json_text(record), encoding="utf-8")


def read_items(path: Path, count: int) -> tuple[list[dict[str, Any]], int]:
    """Read the first records of a task.

    Args:
        path: The file.
        count: Number of records to read.

    Returns:
        The records, and their size in bytes. Lines that follow them are ignored.

    Raises:
        ValueError: The file has fewer records, or a line is damaged.
    """
    records, size = [], 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if len(records) == count or not line.endswith(b"\n"):
                break
            try:
                record = json.loads(line)
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number}: broken JSON ({error}). Delete the file to run the "
                    "task again."
                ) from error
            if not isinstance(record, dict) or "was_cut" not in record:
                raise ValueError(
                    f"{path}, line {number}: this is not the record of an item. Delete the file to "
                    "run the task again."
                )
            records.append(record)
            size += len(line)
    if len(records) < count:
        raise ValueError(
            f"{path} must hold {count} items, as many as {RESULTS} counts, got {len(records)}. "
            "Delete the file to run the task again."
        )
    return records, size


def append_items(path: Path, size: int, records: Sequence[Mapping[str, Any]]) -> int:
    """Write records to a task's file, and wait until they are on the disk.

    Args:
        path: The file.
        size: Size in bytes of the complete records. Bytes that follow them are overwritten.
        records: The new records.

    Returns:
        The new size.
    """
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with path.open("r+b") as file:
        file.truncate(size)
        file.seek(size)
        file.write(text.encode("utf-8", errors="surrogatepass"))
        file.flush()
        os.fsync(file.fileno())
        return file.tell()
