"""Rows of a table as text, and back: structured data for language models."""

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpt_keras.datasets.class_labels import INTEGER
from gpt_keras.records import read_rows
from gpt_keras.texts import describe, is_unicode

TYPES = ("bool", "int", "float", "str", "any")

# Numbers in CSV files. A field with a leading zero or plus is a code, such as a postal code.
_NUMBER = re.compile(r"-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_TRUTH_VALUES = {"true": True, "True": True, "TRUE": True}
_TRUTH_VALUES |= {"false": False, "False": False, "FALSE": False}

# Characters that strings without quotes may hold: no separator, quote or line break.
_PLAIN = r'[^";\x00-\x1f\x7f-\x9f\u2028\u2029]'
_PLAIN_NAME = r'[^":;\x00-\x1f\x7f-\x9f\u2028\u2029]'
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_FIELD = re.compile(rf"({_QUOTED}|{_PLAIN_NAME}+): ({_QUOTED}|{_PLAIN}+)(; |\Z)", re.DOTALL)

# JSON escapes the other line breaks itself.
_LINE_BREAKS = str.maketrans({"\x85": r"\u0085", "\u2028": r"\u2028", "\u2029": r"\u2029"})


@dataclasses.dataclass(frozen=True)
class TableRows:
    """Format of a table's rows as text: `age: 39; job: clerk; married: null`.

    A field is `column: value`; semicolons separate the fields, in the order of `types`. Numbers,
    `true`, `false` and `null` (a missing value) are written as in JSON. Strings stand without
    quotes where that is not ambiguous, and otherwise as JSON strings: `"39"`, `"a; b"`.

    The same value always gives the same text: a column of type `"float"` writes 3 as `3.0`. So
    training and later use must share one `TableRows`; keep `types`, which JSON can hold.

    Args:
        types: Type of each column: `"bool"`, `"int"`, `"float"`, `"str"`, or `"any"` for a
            mixed column.

    Raises:
        ValueError: There is no column, or a type is unknown.

    Example:
        >>> import gpt_keras as gk
        >>> table = gk.datasets.TableRows({"age": "int", "job": "str"})
        >>> table.to_text({"age": 39, "job": "clerk", "id": 17})
        'age: 39; job: clerk'
        >>> table.to_row("age: null; job: clerk")
        {'age': None, 'job': 'clerk'}
    """

    types: dict[str, str]

    def __post_init__(self):
        if not isinstance(self.types, Mapping) or not self.types:
            raise ValueError(f"`types` must map columns to types, got {self.types!r}.")
        for column, kind in self.types.items():
            if not isinstance(column, str) or not is_unicode(column):
                raise ValueError(f"A column's name must be a Unicode string, got {column!r}.")
            if kind not in TYPES:
                raise ValueError(
                    f"The type of the column {column!r} must be one of {', '.join(TYPES)}, got "
                    f"{kind!r}."
                )

    def to_text(self, row: Mapping[str, Any]) -> str:
        """Return a row as text.

        Args:
            row: Value of each column; other columns are ignored. None and NaN are missing values.
                Strings are converted to the type of their column, so rows of CSV files fit.

        Returns:
            The text, in one line.

        Raises:
            ValueError: The row lacks a column, or a value does not fit the type of its column.

        Example:
            >>> import gpt_keras as gk
            >>> table = gk.datasets.TableRows({"name": "str", "fare": "float"})
            >>> table.to_text({"name": "Braund; Owen", "fare": "7"})
            'name: "Braund; Owen"; fare: 7.0'
        """
        values = self._typed_row(row, getattr(row, "place", "`row`"))
        return "; ".join(f"{_written_name(column)}: {_written(v)}" for column, v in values.items())

    def to_row(self, text: str) -> dict[str, Any]:
        """Return the row that a text describes, the inverse of `to_text`.

        Args:
            text: Text in the form of `to_text`, for example from `generate`. The fields may stand
                in any order.

        Returns:
            Value of each column, in the order of `types`; None for missing values.

        Raises:
            ValueError: The text has another form, a column is unknown, absent or there twice, or a
                value does not fit the type of its column.

        Example:
            >>> import gpt_keras as gk
            >>> table = gk.datasets.TableRows({"name": "str", "fare": "float"})
            >>> table.to_row('fare: 7.0; name: "Braund; Owen"')
            {'name': 'Braund; Owen', 'fare': 7.0}
        """
        row, start = {}, 0
        while start < len(text):
            field = _FIELD.match(text, start)
            if field is None or (field[3] and field.end() == len(text)):
                raise ValueError(
                    "`text` must have fields `column: value`, separated by semicolons; got "
                    f"{describe(text[start:])} at character {start}."
                )
            column, value = _read_name(field[1]), _read_value(field[2])
            if column in row or column not in self.types:
                problem = "twice" if column in row else "which is unknown"
                raise ValueError(
                    f"`text` must have each of the columns {', '.join(self.types)} once, got "
                    f"{column!r}, {problem}."
                )
            row[column], start = value, field.end()
        return self._typed_row(row, "`text`")

    def _typed_row(self, row, place):
        absent = next((column for column in self.types if column not in row), None)
        if absent is not None:
            raise ValueError(
                f"{place} must have the columns {', '.join(self.types)}, but lacks {absent!r}."
            )
        return {
            column: _typed(_plain(row[column], column, place), kind, column, place)
            for column, kind in self.types.items()
        }


def table_rows(
    source: Any, columns: Sequence[str] | None = None, *, exclude: Sequence[str] = ()
) -> TableRows:
    """Find the types of the columns of a table, whose rows become text.

    In CSV and TSV files a column has the type `"bool"`, `"int"` or `"float"` if all of its values
    can be read as this type. Numbers with a leading zero or plus, such as postal codes, are
    strings.

    Args:
        source: A table as in `gk.records.read_rows`; it is read once, row by row.
        columns: The columns of the text, in this order. Default: the columns of the first row. Then
            all rows must have the same columns.
        exclude: Columns that are not part of the text, such as the label.

    Returns:
        A `TableRows`: `to_text` and `to_row` convert rows, and `gk.datasets.classification` takes
        it as `text`.

    Raises:
        ValueError: The table has no rows, or is broken as in `gk.records.read_rows`. Also: a column
            does not exist, no column is left, or a value is neither a string, a number, a truth
            value nor missing.
        ImportError: The source is a parquet file, and pyarrow is not installed.

    Example:
        Classification of structured data, with a model that reads characters:

        >>> import gpt_keras as gk
        >>> people = [{"age": 20 + i, "job": "clerk", "rich": "no"} for i in range(6)]
        >>> people += [{"age": 40 + i, "job": "judge", "rich": "yes"} for i in range(6)]
        >>> table = gk.datasets.table_rows(people, exclude=["rich"])
        >>> table.types
        {'age': 'int', 'job': 'str'}
        >>> data = gk.datasets.classification(
        ...     people, text=table, label="rich", validation_fraction=0, test_fraction=0.5
        ... )
        >>> sorted(data.test.texts)[0]
        'age: 20; job: clerk'
        >>> tokenizer = gk.tokenizers.CharacterTokenizer.train(map(table.to_text, people))
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=tokenizer.vocabulary_size + 3)
        >>> language_model = gk.GPTCausalLM(config, tokenizer)
        >>> model = gk.GPTClassifier(language_model, class_names=data.class_names)
        >>> model.compile(run_eagerly=True)
        >>> _ = model.fit(*data.train, class_weight=data.class_weights, verbose=0)
    """
    candidates: dict[str, set[str]] = {}  # types that fit all values of a column so far
    names = None
    for row in read_rows(source, columns):
        if names is None:
            names = list(row)
            candidates = {name: set(TYPES) for name in names if name not in _excluded(exclude, row)}
        different = next(
            (name for name in [*names, *row] if (name in row) != (name in names)), None
        )
        if different is not None:
            raise ValueError(
                f"{row.place} {'has' if different in row else 'lacks'} the column {different!r}, "
                "unlike the first row: all rows must have the same columns. `columns` chooses some."
            )
        for name, types in candidates.items():
            value = _plain(row[name], name, row.place)
            if value is not None:
                types &= _fitting_types(value, row.is_typed) | {"any"}
    if names is None:
        raise ValueError("`source` must have rows, but is empty.")
    return TableRows(
        {
            # A column without values has all types still.
            name: "any" if len(types) == len(TYPES) else min(types, key=TYPES.index)
            for name, types in candidates.items()
        }
    )


def _excluded(exclude, row) -> list[str]:
    names = [exclude] if isinstance(exclude, str) else list(exclude)
    unknown = next((name for name in names if name not in row), None)
    if unknown is not None:
        raise ValueError(
            f"`exclude` must name columns of the table, {', '.join(map(repr, row))}; got "
            f"{unknown!r}."
        )
    return names


def _plain(value: Any, column: str, place: str) -> Any:
    """Return a value as a str, int, float or bool of Python, or None if it is missing."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str) and not is_unicode(value):
        raise ValueError(f"{place}: {column!r} has a lone surrogate: {value!r:.60}.")
    if isinstance(value, bool | int | float | str):
        return value
    raise ValueError(
        f"{place}: {column!r} must be a string, a number, a truth value or None, got "
        f"{describe(value)}. Convert it to a string first."
    )


def _fitting_types(value: Any, is_typed: bool) -> set[str]:
    if isinstance(value, str) and not is_typed:
        found = {"bool": value in _TRUTH_VALUES, "int": INTEGER.fullmatch(value)}
        found |= {"float": _NUMBER.fullmatch(value), "str": True}
        return {name for name, fits in found.items() if fits}
    if isinstance(value, int) and not isinstance(value, bool):
        return {"int", "float"} if _is_exact(value) else {"int"}
    return {type(value).__name__}


def _is_exact(value: int) -> bool:
    try:
        return float(value) == value
    except OverflowError:
        return False


def _typed(value: Any, kind: str, column: str, place: str) -> Any:
    """Return a value in the type of its column."""
    if value is None or kind == "any":
        return value
    typed = value
    if isinstance(value, str):
        if kind == "bool":
            typed = _TRUTH_VALUES.get(value, value)
        elif kind == "int" and INTEGER.fullmatch(value):
            typed = int(value)
        elif kind == "float" and _NUMBER.fullmatch(value):
            typed = float(value)
    elif kind == "int" and isinstance(value, float) and value.is_integer():
        typed = int(value)
    elif kind == "float" and type(value) is int and _is_exact(value):
        typed = float(value)
    if type(typed).__name__ != kind:
        raise ValueError(f"{place}: {column!r} must be of type {kind}, got {describe(value)}.")
    return typed


def _written(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    return value if _is_plain(value, _PLAIN) and _read_value(value) == value else _quoted(value)


def _written_name(name: str) -> str:
    return name if _is_plain(name, _PLAIN_NAME) else _quoted(name)


def _is_plain(text: str, characters: str) -> bool:
    return text == text.strip() and re.fullmatch(f"{characters}+", text) is not None


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).translate(_LINE_BREAKS)


def _read_name(text: str) -> str:
    return _unquoted(text) if text.startswith('"') else text


def _read_value(text: str) -> Any:
    """Return the value of a literal of JSON, and other text as a string."""
    if text.startswith('"'):
        return _unquoted(text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _unquoted(text: str) -> str:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"`text` must hold JSON strings, got {describe(text)} ({error})."
        ) from error
