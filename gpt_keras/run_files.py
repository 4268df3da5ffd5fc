"""Parts of the files that record a run: versions, machine, JSON, Markdown."""

import json
import math
import os
import platform
from importlib import metadata
from typing import Any

from gpt_keras.version import __version__

_PACKAGES = ("tensorflow", "keras", "numpy", "tokenizers")


def package_versions() -> dict[str, str]:
    """Return the versions of Python, gpt_keras and its main dependencies."""
    versions = {"python": platform.python_version(), "gpt_keras": __version__}
    return versions | {name: metadata.version(name) for name in _PACKAGES}


def describe_machine() -> dict[str, Any]:
    """Return the system, the number of CPU cores and the number of GPUs."""
    import tensorflow as tf

    return {
        "system": platform.platform(),
        "cores": os.cpu_count() or 1,
        "gpus": len(tf.config.list_physical_devices("GPU")),
    }


def json_text(record: Any) -> str:
    """Return a record as indented JSON; a number that is not finite becomes a string.

    JSON has no NaN and no infinity. `float` reads the strings.
    """
    text = json.dumps(_finite(record), indent=2, ensure_ascii=False, allow_nan=False)
    return text + "\n"


def _finite(value):
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def table_cell(value: Any) -> str:
    """Return a value as the text of a cell of a Markdown table."""
    return str(value).replace("|", "\\|").replace("\n", "⏎")


def code_block(text: str) -> list[str]:
    """Return the lines of a Markdown code block, with a fence that the text lacks."""
    fence = "```"
    while fence in text:
        fence += "`"
    return [fence + "text", text, fence]
