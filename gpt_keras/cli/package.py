"""`gk`: the package `gpt_keras`, imported when it is first used.

Reading arguments and showing help need no TensorFlow, whose import takes seconds.
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
    """Return the variables of a module that imports nothing, without importing its package.

    Args:
        name: The module's file in `gpt_keras`.
    """
    return runpy.run_path(str(pathlib.Path(__file__).parent.parent / name))
