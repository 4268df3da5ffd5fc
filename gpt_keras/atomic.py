"""Files and folders that appear whole or not at all."""

import contextlib
import os
import pathlib
import shutil
import tempfile
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def atomic_file(path) -> Iterator[pathlib.Path]:
    """Give a temporary path next to `path`, and rename it to `path` if the block succeeds.

    The temporary name ends like `path`, for writers that look at the suffix.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name for each process and thread: two that write the same file do not mix.
    temporary = path.with_name(f".{os.getpid()}.{threading.get_ident()}.partial.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path) -> Iterator[pathlib.Path]:
    """Give a temporary directory next to `path`, and rename it to `path` if the block succeeds.

    Raises:
        ValueError: `path` exists and is not an empty directory.
    """
    path = pathlib.Path(path).resolve()
    check_empty_directory(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.partial.", dir=path.parent))
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)  # mkdtemp makes it private, and the result is not
        if path.exists():
            path.rmdir()
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_empty_directory(path) -> None:
    """Raise `ValueError` if `path` exists and is anything but an empty directory."""
    path = pathlib.Path(path)
    if path.resolve() == pathlib.Path.cwd():
        raise ValueError(f"{str(path)!r} is the current directory; name a new one.")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(
            f"{str(path)!r} exists already; what is written needs a new or an empty directory."
        )
