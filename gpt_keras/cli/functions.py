"""A user's own function as an argument of a command."""

import importlib
import importlib.util
import os
import pathlib
import sys
from collections.abc import Callable


def load_function(name: str, source: str) -> Callable:
    """Import a function.

    Args:
        name: Name of the argument, for the error messages.
        source: `module:function`, or `file.py:function`.

    Returns:
        The function.

    Raises:
        ValueError: `source` has another form, or there is no module, file or function of this name.
    """
    place, _, attribute = source.rpartition(":")
    if not place or not attribute.isidentifier():
        raise ValueError(f"`{name}` must be module:function or file.py:function, got {source!r}.")
    module = _from_file(name, place) if place.endswith(".py") else _by_name(name, place)
    function = getattr(module, attribute, None)
    if not callable(function):
        raise ValueError(f"`{name}` must name a function, but {place} has no {attribute!r}.")
    return function


def function_file(source: str) -> str | None:
    """Return the file of a `source` of `load_function`; None for a module."""
    place = source.rpartition(":")[0]
    return place if place.endswith(".py") else None


def _from_file(name: str, path: str):
    if not pathlib.Path(path).is_file():
        raise ValueError(f"`{name}` must name a file, but there is no file {path!r}.")
    _import_from(str(pathlib.Path(path).absolute().parent))  # as for `python path`
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _by_name(name: str, module: str):
    _import_from(os.getcwd())  # as for `python -m module`
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A module that the user's module imports may be missing too.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"`{name}` must name a module or a file that ends in .py, but there is no module "
            f"{module!r}."
        ) from error


def _import_from(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)
