"""A folder of checkpoints: atomic writes, checksums, one process at a time."""

import errno
import hashlib
import json
import math
import os
import pathlib
import re
import shutil
import threading
import zipfile
from typing import Any

import ml_dtypes  # comes with Keras
import numpy as np

from gpt_keras.atomic import atomic_directory

_NAME = re.compile(r"checkpoint-(\d+)")
_ARRAYS, _STATE, _CONFIG, _SUMS = "arrays.npz", "state.json", "config.json", "sha256.json"

# Suffix of a checkpoint that is written, but not yet in its place.
_FRESH = ".fresh"

# The open folders of this process by path. After an error in `fit`, the folder of the failed
# training is still open when the next one begins.
_OPEN: dict[pathlib.Path, "CheckpointFolder"] = {}


class CheckpointFolder:
    """A folder with checkpoints of one training.

    Args:
        path: The folder; it is created if needed.
        keep: Number of newest checkpoints to keep.

    Raises:
        ValueError: Another process uses the folder.
    """

    def __init__(self, path: str | os.PathLike, keep: int):
        self.path = pathlib.Path(path).resolve()
        self.keep = keep
        self._writer: threading.Thread | None = None
        self._error: BaseException | None = None
        self.path.mkdir(parents=True, exist_ok=True)
        if self.path in _OPEN:
            _OPEN[self.path].close()
        self._lock = _lock(self.path / "lock")
        _OPEN[self.path] = self
        self._clean()

    def _clean(self):
        """Finish or undo what a kill interrupted."""
        for fresh in self.path.glob(f"*{_FRESH}"):  # complete, but not yet in its place
            place = fresh.with_name(fresh.name.removeprefix(".").removesuffix(_FRESH))
            if not place.exists():
                os.replace(fresh, place)
        for leftover in (*self.path.glob(".checkpoint-*"), *self.path.glob("..checkpoint-*")):
            shutil.rmtree(leftover, ignore_errors=True)

    def close(self) -> None:
        """Finish writing, and let other processes use the folder."""
        if self._writer is not None:
            self._writer.join()
        if _OPEN.get(self.path) is self:
            del _OPEN[self.path]
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def write_later(self, number: int, *content) -> None:
        """Write a checkpoint in the background; call `wait` before the next one.

        Args:
            number: As in `write`.
            *content: The other arguments of `write`.
        """

        def write():
            try:
                self.write(number, *content)
            except BaseException as error:  # `wait` raises it in the main thread
                self._error = error

        self._writer = threading.Thread(target=write, name=f"checkpoint {number}")
        self._writer.start()

    def wait(self) -> None:
        """Wait until the checkpoint is written.

        Raises:
            OSError: As in `write`.
        """
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def numbers(self) -> list[int]:
        """Return the numbers of all checkpoints, the newest first."""
        return _numbers(self.path)

    def write(
        self, number: int, state: dict[str, Any], arrays: list[np.ndarray], config: dict[str, Any]
    ) -> None:
        """Write a checkpoint completely or not at all, then delete old ones.

        Args:
            number: Number of the checkpoint: of the batches so far.
            state: What JSON can hold.
            arrays: Arrays of any dtype.
            config: Description of the model, for people.

        Raises:
            OSError: The disk is full, or the folder is not writable.
        """
        path = _path(self.path, number)
        fresh = path.with_name(f".{path.name}{_FRESH}")
        with atomic_directory(fresh) as folder:
            named = {str(i): _plain(array) for i, array in enumerate(arrays)}
            np.savez(folder / _ARRAYS, **named)
            state = {**state, "dtypes": [array.dtype.name for array in arrays]}
            (folder / _STATE).write_text(json.dumps(state), encoding="utf-8")
            (folder / _CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
            sums = {name: _sum_of(folder / name) for name in (_ARRAYS, _STATE, _CONFIG)}
            (folder / _SUMS).write_text(json.dumps(sums), encoding="utf-8")
            for file in folder.iterdir():
                _sync(file)
        # The checkpoint at the end of an epoch can have the number of one before its validation.
        stale = path.with_name(f".{path.name}.stale")
        if path.exists():
            os.replace(path, stale)
        os.replace(fresh, path)
        shutil.rmtree(stale, ignore_errors=True)
        best = best_number(self.path)
        for old in self.numbers()[self.keep :]:
            if old not in (best, number):
                shutil.rmtree(_path(self.path, old), ignore_errors=True)

    def set_aside(self, number: int) -> None:
        """Rename a damaged checkpoint, so that it no longer counts.

        Args:
            number: Number of the checkpoint.
        """
        path = _path(self.path, number)
        aside = path.with_name(f"damaged-{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(path, aside)


def read_checkpoint(
    path: str | os.PathLike, number: int
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Return state and arrays of a checkpoint.

    Args:
        path: The folder of the checkpoints.
        number: Number of the checkpoint.

    Raises:
        ValueError: A file is missing, or its checksum is wrong.
    """
    folder = _path(pathlib.Path(path), number)
    try:
        sums = json.loads((folder / _SUMS).read_text(encoding="utf-8"))
        for name, expected in sums.items():
            if _sum_of(folder / name) != expected:
                raise ValueError(f"{folder / name} is damaged: its checksum is wrong.")
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        with np.load(folder / _ARRAYS) as stored:
            arrays = [
                _of_dtype(stored[str(i)], dtype) for i, dtype in enumerate(state.pop("dtypes"))
            ]
    except (OSError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{folder} is damaged: {error}.") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{folder} is damaged: {error}.") from error
    return state, arrays


def checkpoint_numbers(path: str | os.PathLike) -> list[int]:
    """Return the numbers of the checkpoints in a folder, the newest first.

    Args:
        path: The folder, which need not exist.
    """
    return _numbers(pathlib.Path(path))


def best_number(path: str | os.PathLike) -> int | None:
    """Return the number of the best checkpoint in a folder, or None.

    Args:
        path: The folder.
    """
    path, found = pathlib.Path(path), []
    for number in _numbers(path):
        try:
            state = json.loads((_path(path, number) / _STATE).read_text(encoding="utf-8"))
            best = state["best"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if best is not None and not math.isnan(best["value"]):
            found.append((best["value"] if best["is_higher"] else -best["value"], -number))
    return -max(found)[1] if found else None


def _path(folder: pathlib.Path, number: int) -> pathlib.Path:
    return folder / f"checkpoint-{number:08}"


def _numbers(folder: pathlib.Path) -> list[int]:
    if not folder.is_dir():
        return []
    found = [_NAME.fullmatch(path.name) for path in folder.iterdir()]
    return sorted((int(match[1]) for match in found if match), reverse=True)


def _plain(array: np.ndarray) -> np.ndarray:
    """Return an array that NumPy can store: other dtypes, such as bfloat16, as bytes."""
    return array if array.dtype.kind in "biufc" else array[..., np.newaxis].view(np.uint8)


def _of_dtype(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype.name == name:
        return array
    dtype = np.dtype(getattr(ml_dtypes, name))
    return np.ascontiguousarray(array).view(dtype)[..., 0]


def _sum_of(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: pathlib.Path) -> None:
    """Write a file to the disk, so that a power cut does not lose it after the rename."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(path: pathlib.Path) -> int | None:
    """Lock a file until the process ends, and return its descriptor."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        # Not `flock`, which child processes inherit.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):  # a file system without locks
            os.close(descriptor)
            return None
        owner = os.read(descriptor, 100).decode(errors="replace").strip()
        os.close(descriptor)
        raise ValueError(
            f"`directory` {str(path.parent)!r} is in use by process {owner or 'unknown'}: two "
            "trainings cannot write the same checkpoints."
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
