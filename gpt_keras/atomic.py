"""Atomic writes: a file or folder appears complete or not at all."""

import contextlib
import os
import pathlib
import shutil
import tempfile
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def atomic_file(path) -> Iterator[pathlib.Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success.

    The temporary file has the suffix of `path`, because some writers choose a format by it.

    Args:
        path: The file to write. Its parent folders are created.

    Yields:
        The temporary path. It is deleted if the block raises.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name contains process and thread, so that two writers of `path` use different files.
    temporary = path.with_name(f".{os.getpid()}.{threading.get_ident()}.partial.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path) -> Iterator[pathlib.Path]:
    """Yield a temporary directory beside `path`; rename it to `path` on success.

    Args:
        path: The directory to write. Its parent folders are created.

    Yields:
        The temporary directory. It is deleted if the block raises.

    Raises:
        ValueError: `path` is the current directory, or exists and is not an empty directory.
    """
    path = pathlib.Path(path).resolve()
    check_empty_directory(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.partial.", dir=path.parent))
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)  # mkdtemp allows access by the owner only
        if path.exists():
            path.rmdir()
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_empty_directory(path) -> None:
    """Raise `ValueError` unless `path` is new or an empty directory.

    Raises:
        ValueError: `path` is the current directory, or exists and is not an empty directory.
    """
    path = pathlib.Path(path)
    if path.resolve() == pathlib.Path.cwd():
        raise ValueError(f"{str(path)!r} is the current directory; name a new one.")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{str(path)!r} exists already; give a new or an empty directory.")
