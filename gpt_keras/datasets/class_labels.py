"""Names and numbers of classes from the labels of a table."""

import re
import reprlib
from collections.abc import Sequence

import numpy as np

from gpt_keras.records import Row
from gpt_keras.texts import as_list_of_texts

INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")


def label_name(row: Row, column: str) -> str:
    """Return the label of a row as a name.

    Args:
        row: The row.
        column: Column of the label: a string, an integer, or a truth value. Pandas turns integers
            into floats where labels are missing, so 1.0 is the same as 1.

    Raises:
        ValueError: The label is missing, or has another type.

    Example:
        >>> from gpt_keras.datasets.class_labels import label_name
        >>> from gpt_keras.records import Row
        >>> label_name(Row({"stars": 5.0}, place="row 0"), "stars")
        '5'
    """
    value = row[column]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        value = value.strip()
    if value is None or value == "" or value != value:
        raise ValueError(f"{row.place}: the label {column!r} is missing.")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int):
        raise ValueError(
            f"{row.place}: the label {column!r} must be a name or an integer, got {value!r}."
        )
    return str(value)


def number_labels(
    names: Sequence[str], places: Sequence[str], class_names: Sequence[str] | None = None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of the classes, and the number of the class of each label.

    Args:
        names: Label of each row, as `label_name` returns it.
        places: Place of each row, for errors.
        class_names: Names in the order of their numbers; None for the sorted labels. Labels that
            are integers are sorted by value.

    Returns:
        `(class_names, numbers)`; the numbers are int32 `(rows,)`.

    Raises:
        ValueError: `class_names` are not different strings, or a label is neither a name nor the
            number of one.

    Example:
        >>> from gpt_keras.datasets.class_labels import number_labels
        >>> names, numbers = number_labels(["10", "9", "10"], places=["", "", ""])
        >>> names, numbers.tolist()
        (('9', '10'), [1, 0, 1])
        >>> number_labels(["1", "0"], ["", ""], class_names=["no", "yes"])[1].tolist()
        [1, 0]
    """
    if class_names is None:
        found = set(names)
        are_integers = all(INTEGER.fullmatch(name) for name in found)
        class_names = sorted(found, key=int if are_integers else None)
    else:
        class_names = [name.strip() for name in as_list_of_texts("class_names", class_names)]
        if len(set(class_names)) != len(class_names):
            raise ValueError(
                f"`class_names` must be different names, got {reprlib.repr(class_names)}."
            )
    numbers = {name: number for number, name in enumerate(class_names)}
    if not numbers.keys() >= set(names):
        by_number = {str(number): number for number in range(len(class_names))}
        if by_number.keys() >= set(names):
            numbers = by_number
    unknown = next((i for i, name in enumerate(names) if name not in numbers), None)
    if unknown is not None:
        raise ValueError(
            f"{places[unknown]}: a label must be one of `class_names`, "
            f"{reprlib.repr(list(class_names))}, or the number of one from 0 on; got "
            f"{names[unknown]!r}."
        )
    return tuple(class_names), np.array([numbers[name] for name in names], np.int32)
