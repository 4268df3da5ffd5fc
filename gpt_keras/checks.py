"""Checks of arguments; each raises a `ValueError` that names the argument."""

import functools
import math
import numbers
import operator
from collections.abc import Callable
from typing import Any

import numpy as np


def check_positive_int(name: str, value: Any) -> None:
    """Raise `ValueError` unless `value` is an integer of at least 1."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ValueError(f"`{name}` must be an integer of at least 1, got {value!r}.")


def check_int64(name: str, value: Any) -> None:
    """Raise `ValueError` unless `value` is an integer that fits in 64 bits."""
    is_integer = hasattr(value, "__index__") and not isinstance(value, bool)
    if not is_integer or not -(2**63) <= operator.index(value) < 2**63:
        raise ValueError(f"`{name}` must be an integer from -2**63 to 2**63 - 1, got {value!r}.")


def check_number(name: str, value: Any) -> None:
    """Raise `ValueError` unless `value` is a finite number."""
    if not _is_number(value) or not math.isfinite(value):
        raise ValueError(f"`{name}` must be a number, got {value!r}.")


def check_at_least_0(name: str, value: Any) -> None:
    """Raise `ValueError` unless `value` is a finite number of at least 0."""
    if not _is_number(value) or not 0 <= value < math.inf:
        raise ValueError(f"`{name}` must be a number of at least 0, got {value!r}.")


def check_positive(name: str, value: Any) -> None:
    """Raise `ValueError` unless `value` is a finite number above 0."""
    if not _is_number(value) or not 0 < value < math.inf:
        raise ValueError(f"`{name}` must be a number above 0, got {value!r}.")


def check_rate(name: str, value: Any) -> None:
    """Raise `ValueError` unless `value` is a number in [0, 1)."""
    if not _is_number(value) or not 0 <= value < 1:
        raise ValueError(f"`{name}` must be a number in [0, 1), got {value!r}.")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise `ValueError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {value!r}.")


def check_head_groups(num_heads: int, num_key_value_heads: int) -> None:
    """Raise `ValueError` unless `num_key_value_heads` divides `num_heads`."""
    if num_heads % num_key_value_heads:
        raise ValueError(
            f"`num_heads` must be a multiple of `num_key_value_heads`, "
            f"got num_heads={num_heads} and num_key_value_heads={num_key_value_heads}."
        )


def check_seed(seed: int) -> None:
    """Raise `ValueError` unless `seed` is an integer from 0 to 2**63 - 1."""
    is_integer = hasattr(seed, "__index__") and not isinstance(seed, bool)
    if not is_integer or not 0 <= seed < 2**63:
        raise ValueError(f"`seed` must be an integer from 0 to 2**63 - 1, got {seed!r}.")


def check_token_ids(token_ids, vocabulary_size: int) -> None:
    """Raise `ValueError` unless all ids are integers in [0, vocabulary_size)."""
    token_ids = np.asarray(token_ids)
    if not np.issubdtype(token_ids.dtype, np.integer):
        raise ValueError(f"Token ids must be integers, got {token_ids.dtype}.")
    if token_ids.size and (token_ids.min() < 0 or token_ids.max() >= vocabulary_size):
        raise ValueError(token_id_error(token_ids.min(), token_ids.max(), vocabulary_size))


def token_id_error(lowest, highest, vocabulary_size: int) -> str:
    """Return the error message for token ids outside the vocabulary."""
    return (
        f"Token ids must be in [0, {vocabulary_size}), the vocabulary; "
        f"got ids from {lowest} to {highest}."
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def renamed(**names: str) -> Callable[[Callable], Callable]:
    """Return a decorator for a function whose arguments have new names.

    Args:
        **names: The new name of each old one.

    Returns:
        A decorator. The function raises `TypeError` for an old name, and gives the new one.

    Example:
        >>> from gpt_keras.checks import renamed
        >>> @renamed(number="count")
        ... def double(count):
        ...     return 2 * count
        >>> double(count=3)
        6
        >>> double(number=3)
        Traceback (most recent call last):
        ...
        TypeError: double: the argument `number` is now called `count`.
    """

    def decorate(function):
        @functools.wraps(function)
        def checked(*args, **kwargs):
            for old, new in names.items():
                if old in kwargs:
                    raise TypeError(
                        f"{function.__name__}: the argument `{old}` is now called `{new}`."
                    )
            return function(*args, **kwargs)

        return checked

    return decorate
