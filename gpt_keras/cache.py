"""The folder for files that the package can make or download again."""

import os
from pathlib import Path

VARIABLE = "GPT_KERAS_CACHE"


def default_cache_dir() -> Path:
    """Return `$GPT_KERAS_CACHE`, or `~/.cache/gpt_keras` if that is not set."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "gpt_keras")
