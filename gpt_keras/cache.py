"""The folder for files that the package can make or download again."""

import os
import tempfile
from pathlib import Path

VARIABLE = "GPT_KERAS_CACHE"


def default_cache_dir() -> Path:
    """Return `$GPT_KERAS_CACHE`, or `~/.cache/gpt_keras` if that is not set."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "gpt_keras")


def check_cache_dir(folder: Path) -> None:
    """Make a cache directory, and raise `ValueError` unless files can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"`cache_dir` must be a directory that can be written to, got {str(folder)!r} "
            f"({error.strerror}). Without `cache_dir` the environment variable {VARIABLE} decides, "
            "or the home directory."
        ) from error
