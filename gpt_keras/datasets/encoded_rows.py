"""Rows of a table as token ids, for conversations, preferences and prompts."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np

from gpt_keras.checks import check_positive_int, check_rate, check_seed
from gpt_keras.datasets.splits import draw_splits, units_of
from gpt_keras.records import Row, read_rows

_SHOWN_PLACES = 5

T = TypeVar("T")


def length_limit(model: Any, sequence_length: int | None) -> int | None:
    """Return the largest number of input tokens of a row; None if there is none.

    Args:
        model: A `CausalLM`.
        sequence_length: The number that the user gives. Default: the model's
            `max_sequence_length`.

    Raises:
        ValueError: `sequence_length` is not a positive integer, or larger than the model's.
    """
    limit = model.max_sequence_length
    if sequence_length is None:
        return limit
    check_positive_int("sequence_length", sequence_length)
    if limit is not None and sequence_length > limit:
        raise ValueError(
            f"`sequence_length` must be at most {limit}, the model's max_sequence_length; got "
            f"{sequence_length}."
        )
    return sequence_length


def encode_rows(source: Any, encode: Callable[[Row], T], noun: str) -> list[T]:
    """Encode all rows of a table.

    Args:
        source: A table as in `gk.records.read_rows`.
        encode: Function of a row. Its errors begin with the place of the row.
        noun: Name of what the rows hold, in the plural, for an error.

    Returns:
        The results, in the order of the rows.

    Raises:
        ValueError: There are no rows, or some are wrong: the error of the first one, with the
            places of the others.

    Example:
        >>> from gpt_keras.datasets.encoded_rows import encode_rows
        >>> encode_rows([{"n": 2}, {"n": 3}], lambda row: row["n"] ** 2, "numbers")
        [4, 9]
    """
    encoded, wrong = [], []
    for row in read_rows(source):
        try:
            encoded.append(encode(row))
        except ValueError as error:
            wrong.append((row.place, error))
    if wrong:
        places = [place for place, _ in wrong[1:]]
        more = ""
        if places:
            more = f" {len(places)} more rows have errors: {'; '.join(places[:_SHOWN_PLACES])}"
            more += "; ..." if len(places) > _SHOWN_PLACES else "."
        raise ValueError(f"{wrong[0][1]}{more}") from wrong[0][1]
    if not encoded:
        raise ValueError(f"`source` must have {noun}, but is empty.")
    return encoded


def train_and_validation(
    rows: Sequence[T], keys: Sequence[Hashable], validation_fraction: float, seed: int, noun: str
) -> dict[str, list[T]]:
    """Split rows for training and validation; equal keys stay together.

    Args:
        rows: The rows.
        keys: Key of each row.
        validation_fraction: Fraction of the rows for validation, in [0, 1). With 0 there is no part
            of this name.
        seed: Seed of the split.
        noun: Name of the rows and of their keys, for an error, such as `"pairs with equal
            prompts"`.

    Returns:
        The rows of `"train"` and of `"validation"`, in their order.

    Raises:
        ValueError: `validation_fraction` or `seed` is out of range, or a part is empty.

    Example:
        >>> from gpt_keras.datasets.encoded_rows import train_and_validation
        >>> parts = train_and_validation("aabbc", "aabbc", 0.4, 0, "letters")
        >>> parts["train"], parts["validation"]
        (['a', 'a', 'c'], ['b', 'b'])
    """
    check_rate("validation_fraction", validation_fraction)
    check_seed(seed)
    fractions = [1 - validation_fraction, validation_fraction]
    splits = draw_splits(np.zeros(len(rows), np.int64), units_of(list(keys)), fractions, seed)
    parts = {}
    for number, (name, fraction) in enumerate(zip(("train", "validation"), fractions)):
        own = [row for row, split in zip(rows, splits) if split == number]
        if fraction and not own:
            raise ValueError(
                f"The {name} part is empty: its fraction is {fraction:g} of {len(rows)} rows, and "
                f"{noun} stay together. Change `validation_fraction` (0 for no validation part), "
                "or give more rows."
            )
        if fraction:
            parts[name] = own
    return parts
