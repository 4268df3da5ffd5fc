"""Words of texts, and rows of token ids."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from gpt_keras.evaluation.prediction_pairs import CHARACTER
from gpt_keras.texts import as_list_of_texts, describe


def split_words(text: str) -> list[str]:
    """Split a text at white space and around each Chinese character.

    Args:
        text: The text.

    Example:
        >>> from gpt_keras.evaluation.text_tokens import split_words
        >>> split_words("He said 你好, twice.")
        ['He', 'said', '你', '好', ',', 'twice.']
    """
    return CHARACTER.sub(r" \g<0> ", text).split()


def rows_of_tokens(name: str, texts: Any) -> list[list]:
    """Return the words of texts, or rows of token ids as lists.

    Args:
        name: Name of the argument, for error messages.
        texts: Several texts, or several rows of token ids.

    Raises:
        ValueError: `texts` is one text, or holds something else than texts or token ids.
    """
    rows = rows_of_ids(name, texts)
    if rows is None:
        return [split_words(text) for text in as_list_of_texts(name, texts)]
    return [row.tolist() for row in rows]


def rows_of_ids(name: str, rows: Any) -> list[np.ndarray] | None:
    """Return rows of token ids as arrays, or None if the first row is no row of ids.

    Args:
        name: Name of the argument, for error messages.
        rows: Several rows of token ids, or something else.

    Raises:
        ValueError: Only some of the rows are rows of ids.
    """
    if hasattr(rows, "to_list"):  # a ragged tensor
        rows = rows.to_list()
    is_array = hasattr(rows, "__array__") and np.ndim(rows) == 2
    if not is_array and not isinstance(rows, list | tuple):
        return None
    arrays = [_ids(row) for row in rows]
    if not arrays or arrays[0] is None:
        return None
    for i, array in enumerate(arrays):
        if array is None:
            raise ValueError(
                f"`{name}` must hold only lists of token ids, got {describe(rows[i])} as number "
                f"{i}."
            )
    return arrays


def _ids(row: Any) -> np.ndarray | None:
    if isinstance(row, str | bytes) or not (isinstance(row, Iterable) or hasattr(row, "__array__")):
        return None
    try:
        array = np.asarray(row)
    except ValueError:  # rows in a row
        return None
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        return None
    return array.astype(np.int64, copy=False)
