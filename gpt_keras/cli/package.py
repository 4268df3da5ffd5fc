"""`gk`, a lazy import of the package `gpt_keras`.

The import of TensorFlow takes seconds. Parsing arguments and showing help do not need it.
"""

import importlib
import pathlib
import runpy
from typing import Any


class _Package:
    def __getattr__(self, name):
        return getattr(importlib.import_module("gpt_keras"), name)


gk = _Package()


def run_file(name: str) -> dict[str, Any]:
    """Run a module of `gpt_keras` without importing the package.

    The module must not import anything from `gpt_keras`.

    Args:
        name: File name of the module, relative to the folder of `gpt_keras`.

    Returns:
        The module's global variables by name.
    """
    return runpy.run_path(str(pathlib.Path(__file__).parent.parent / name))
