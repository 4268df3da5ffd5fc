"""Conversion of texts in any container to a string or a list of strings."""

from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np

_CONTAINERS = (
    "a list, tuple, NumPy array, pandas Series, string tensor, generator or tf.data.Dataset"
)


def as_texts(name: str, value: Any) -> str | list[str]:
    """Return texts from any container as a string or a list of strings.

    Args:
        name: Name of the argument, for the error message.
        value: One string, or a one-dimensional container of strings: a list, tuple, NumPy array,
            pandas Series, string tensor, generator, or a `tf.data.Dataset` of strings, batched or
            not. A scalar string tensor is one string. Bytes inside a container or a tensor are
            decoded as UTF-8.

    Returns:
        A string for one text, a list of strings for a container.

    Raises:
        ValueError: `value` is neither a text nor a container of texts.

    Example:
        >>> import numpy as np
        >>> from gpt_keras.texts import as_texts
        >>> as_texts("texts", np.array(["a", "b"])), as_texts("texts", "a")
        (['a', 'b'], 'a')
        >>> as_texts("texts", ["a", 3])
        Traceback (most recent call last):
        ...
        ValueError: `texts` must hold strings, got 3 of type int as number 1.
    """
    if isinstance(value, str):
        return str(value)
    if hasattr(value, "as_numpy_iterator"):  # a tf.data.Dataset, of strings or of batches
        elements = dataset_elements(name, value)
    elif isinstance(value, (bytes, Mapping, Set, Path)):
        raise ValueError(_message(name, value))
    elif hasattr(value, "__array__"):
        array = _array(name, value)
        if array.ndim == 0:
            return _text(name, array.item(), value)
        elements = array.tolist()
    elif isinstance(value, Iterable):
        elements = value
    else:
        raise ValueError(_message(name, value))
    return [_text(name, element, element, i) for i, element in enumerate(elements)]


def as_list_of_texts(name: str, value: Any) -> list[str]:
    """Return several texts as a list of strings, as `as_texts` does.

    Args:
        name: Name of the argument, for the error message.
        value: A container of strings; a single string raises an error.

    Raises:
        ValueError: `value` is one string, or not a container of texts.
    """
    texts = as_texts(name, value)
    if isinstance(texts, str):
        raise ValueError(
            f"`{name}` must be several strings ({_CONTAINERS}), got {describe(value)}."
        )
    return texts


def describe(value: object) -> str:
    """Return a value, shortened, and its type for an error message."""
    shown = repr(value)
    return f"{shown[:60]}{'...' if len(shown) > 60 else ''} of type {type(value).__name__}"


def dataset_elements(name: str, dataset: Any) -> Iterator[Any]:
    """Yield the texts of a `tf.data.Dataset`, batched or not, one at a time.

    Args:
        name: Name of the argument, for the error message.
        dataset: The dataset.

    Raises:
        ValueError: A batch has more than one dimension.
    """
    for element in dataset.as_numpy_iterator():
        if isinstance(element, np.ndarray):
            yield from _array(name, element).reshape(-1).tolist()
        else:
            yield element


def is_unicode(text: str) -> bool:
    """Return whether a string can be encoded as UTF-8.

    A string with a lone surrogate cannot.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _array(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (NotImplementedError, ValueError, TypeError) as error:  # a symbolic tensor has no values
        raise ValueError(_message(name, value)) from error
    if array.ndim > 1:
        raise ValueError(
            f"`{name}` must have one dimension, a text in each entry, got shape {array.shape}."
        )
    return array


def _text(name: str, element: Any, shown: object, number: int | None = None) -> str:
    if getattr(element, "ndim", None) == 0 and hasattr(element, "__array__"):  # a scalar tensor
        element = np.asarray(element).item()
    if isinstance(element, bytes):
        try:
            return element.decode("utf-8")
        except UnicodeDecodeError as error:
            where = "" if number is None else f" as number {number}"
            raise ValueError(
                f"`{name}` must be UTF-8, got the bytes {element[:60]!r}{where}."
            ) from error
    if isinstance(element, str):
        return str(element)
    if number is None:
        raise ValueError(_message(name, shown))
    raise ValueError(f"`{name}` must hold strings, got {describe(shown)} as number {number}.")


def _message(name: str, value: object) -> str:
    return f"`{name}` must be a string or several ({_CONTAINERS}), got {describe(value)}."
