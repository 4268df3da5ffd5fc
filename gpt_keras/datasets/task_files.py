"""YAML files that describe tasks: values, and the lines that they stand on."""

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gpt_keras.texts import describe

SUFFIXES = (".yaml", ".yml")


class TaskFile(NamedTuple):
    """Values of a YAML file, and the lines that they stand on.

    Attributes:
        path: The file.
        values: The values by key.
        lines: Line of each key or list item, from the path of keys to it: `("tasks", 1, "limit")`.
    """

    path: Path
    values: dict[str, Any]
    lines: dict[tuple, int]

    def place(self, *keys: Any) -> str:
        """Return the file and the line of a key for an error message."""
        line = self.lines.get(keys)
        return str(self.path) if line is None else f"{self.path}, line {line}"

    def checked(self, values: Any, cls: type, *keys: Any) -> dict[str, Any]:
        """Return keys and values as arguments of a dataclass.

        Args:
            values: Values of this file.
            cls: The dataclass.
            *keys: Path of keys to the values.

        Raises:
            ValueError: There are no keys and values, a key is unknown, or one is missing.
        """
        if not isinstance(values, Mapping):
            raise ValueError(
                f"{self.place(*keys)} must hold keys and values, got {describe(values)}."
            )
        fields = {field.name: field for field in dataclasses.fields(cls) if _is_key(field)}
        unknown = next((key for key in values if key not in fields), None)
        if unknown is not None:
            raise ValueError(
                f"{self.place(*keys, unknown)}: a key must be one of {', '.join(fields)}; got "
                f"{unknown!r}."
            )
        for name, field in fields.items():
            if name not in values and field.default is dataclasses.MISSING:
                raise ValueError(f"{self.place(*keys)} must have the key {name!r}.")
        return dict(values)

    def build(self, cls: type, values: Mapping[str, Any], *keys: Any) -> Any:
        """Return an instance of a dataclass from values of this file.

        Args:
            cls: The dataclass. Its errors begin with the name of the argument.
            values: The arguments.
            *keys: Path of keys to the values.

        Raises:
            ValueError: As in `checked`, or a value is wrong. The message gives file and line.
        """
        values = self.checked(values, cls, *keys)
        try:
            return cls(**values)
        except ValueError as error:
            key = re.match(r"`(\w+)`", str(error))
            place = self.place(*keys, key[1]) if key else self.place(*keys)
            raise ValueError(f"{place}: {error}") from error


def _is_key(field: dataclasses.Field) -> bool:
    return field.init and field.metadata.get("is_key", True)


def find_task_file(source: str | os.PathLike, *shipped: Path) -> Path:
    """Return the path of a task file.

    Args:
        source: Name of a file of this package, or the path of a YAML file.
        *shipped: Folders of the files of this package.

    Raises:
        ValueError: There is no such name or file.
    """
    path = Path(source)
    if path.suffix not in SUFFIXES:
        files = {found.stem: found for folder in shipped for found in folder.glob("*.yaml")}
        if str(source) not in files:
            raise ValueError(
                f"`source` must be one of {', '.join(sorted(files))}, or a path that ends in "
                f".yaml; got {str(source)!r}."
            )
        path = files[str(source)]
    if not path.is_file():
        raise ValueError(f"There is no file {str(path)!r}.")
    return path


def read_task_file(path: Path) -> TaskFile:
    """Read a YAML file of keys and values.

    Args:
        path: The file.

    Raises:
        ValueError: The file is not UTF-8, is broken YAML, has a key twice, or holds no keys.
        ImportError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise ImportError("YAML files need PyYAML: pip install 'gpt_keras[evaluation]'") from error
    try:
        text = path.read_text(encoding="utf-8")
        values, tree = yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be UTF-8 ({error}).") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = str(path) if mark is None else f"{path}, line {mark.line + 1}"
        raise ValueError(f"{place}: broken YAML ({getattr(error, 'problem', error)}).") from error
    if not isinstance(values, Mapping):
        raise ValueError(f"{path} must hold keys and values, got {describe(values)}.")
    lines: dict[tuple, int] = {}
    _collect_lines(path, tree, (), lines)
    return TaskFile(path, {str(key): value for key, value in values.items()}, lines)


def _collect_lines(path: Path, node: Any, keys: tuple, lines: dict[tuple, int]) -> None:
    """Add the lines of all keys and list items below a node; refuse a key twice."""
    if node.id == "mapping":
        children = [(key.value, key, value) for key, value in node.value]
    elif node.id == "sequence":
        children = [(number, value, value) for number, value in enumerate(node.value)]
    else:
        return
    for key, marked, value in children:
        below = (*keys, key)
        line = marked.start_mark.line + 1
        if below in lines:
            raise ValueError(f"{path}, line {line}: the key {key!r} stands there twice.")
        lines[below] = line
        _collect_lines(path, value, below, lines)
