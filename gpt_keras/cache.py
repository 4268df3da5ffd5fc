"""The cache directory: files that the package can make or download again."""

import os
import tempfile
from pathlib import Path

VARIABLE = "GPT_KERAS_CACHE"


def default_cache_dir() -> Path:
    """Return `$GPT_KERAS_CACHE`, or `~/.cache/gpt_keras` if it is not set."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "gpt_keras")


def check_cache_dir(folder: Path) -> None:
    """Create a cache directory and check that it is writable.

    Args:
        folder: The directory. Its parents are created, too.

    Raises:
        ValueError: The directory cannot be created or is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"`cache_dir` must be a writable directory, got {str(folder)!r} ({error.strerror}). "
            f"Its default is the environment variable {VARIABLE}, or ~/.cache/gpt_keras."
        ) from error
