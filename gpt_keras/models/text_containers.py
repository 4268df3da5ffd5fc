"""Conversion of texts and batches from common containers to the input of models."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from gpt_keras.corpus import check_no_names_of_files
from gpt_keras.texts import as_list_of_texts, as_texts

# Key of the token ids in a batch that is a dict.
INPUT = "token_ids"

_WANTED = (
    "texts (a string, list, NumPy array, pandas Series, string tensor, generator or "
    "tf.data.Dataset of strings), token ids of the shape (batch, length), or a dataset or "
    "generator of batches (token_ids, targets[, sample_weight])"
)


def find_texts(name: str, x: Any) -> tuple[list[str] | None, Any]:
    """Return the texts of a container, if it holds texts.

    Args:
        name: The argument's name, for errors.
        x: Texts in a container of `as_texts`, or anything else.

    Returns:
        `(texts, x)`. `texts` is None if `x` holds no texts. Use the returned `x` in place of the
        argument: the check reads the first element of an iterator.

    Raises:
        ValueError: `x` mixes texts with something else, or is an endless dataset.
    """
    if isinstance(x, Iterator):
        first, x = _first(name, x)
        if not _is_text(first):
            return None, x
    elif not _begins_with_text(x):
        return None, x
    if isinstance(x, tf.data.Dataset) and x.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(f"`{name}` must end, got an endless dataset of texts: leave out `repeat`.")
    texts = as_texts(name, x)
    texts = [texts] if isinstance(texts, str) else texts
    return texts, texts


def find_training_texts(name: str, x: Any) -> tuple[list[str] | None, Any]:
    """Return the result of `find_texts`, and check that the texts are not file names.

    Args:
        name: The argument's name, for errors.
        x: As in `find_texts`.

    Raises:
        ValueError: As in `find_texts`, or all texts are names of files.
    """
    texts, x = find_texts(name, x)
    if texts is not None:
        check_no_names_of_files(name, texts)
    return texts, x


def hold_out(texts: list[str], fraction: float) -> tuple[list[str], list[str]]:
    """Split texts into training texts and validation texts.

    Args:
        texts: The texts.
        fraction: Part of the texts for validation, in (0, 1): the last ones, as in Keras's
            `validation_split`.

    Raises:
        ValueError: `fraction` is not in (0, 1), or one part is empty.
    """
    at = int(len(texts) * (1 - fraction)) if 0 < fraction < 1 else 0
    if at in (0, len(texts)):
        raise ValueError(
            f"`validation_split` must be in (0, 1) and leave at least one of {len(texts)} texts on "
            f"each side, got {fraction!r}."
        )
    return texts[:at], texts[at:]


def plain_batch(x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, Any, Any]:
    """Return a batch with dicts and ragged tensors converted to dense token ids.

    Ragged rows are padded on the right, and padding has weight 0. Other batches are returned
    unchanged. The function works in eager mode and in a graph.

    Args:
        x: Token ids, or a dict of `ids_in`.
        y: Targets, with the row lengths of `x`; or None.
        sample_weight: Weights of rows, or ragged weights of tokens; or None.

    Raises:
        ValueError: A dict has other keys than `"token_ids"`.
    """
    x = ids_in(x)
    if not isinstance(x, tf.RaggedTensor):
        return x, y, sample_weight
    weights = tf.ones_like(x, tf.float32).to_tensor()
    if isinstance(sample_weight, tf.RaggedTensor):
        weights = tf.cast(sample_weight.to_tensor(shape=tf.shape(weights)), tf.float32)
    elif sample_weight is not None:
        weights *= tf.reshape(tf.cast(sample_weight, tf.float32), [-1, 1])
    x = x.to_tensor()
    if isinstance(y, tf.RaggedTensor):
        y = y.to_tensor(shape=tf.shape(x))
    return x, y, weights


def ids_in(x: Any) -> Any:
    """Return `x["token_ids"]` of a dict, and any other value unchanged.

    Raises:
        ValueError: The dict has other keys than `"token_ids"`.
    """
    if not isinstance(x, Mapping):
        return x
    if set(x) != {INPUT}:
        raise ValueError(
            f"`x` must be {_WANTED}, or the ids in a dict under {INPUT!r}; got a dict with "
            f"the keys {sorted(map(str, x))}."
        )
    return x[INPUT]


def find_examples(name: str, x: Any) -> tuple[list | None, Any]:
    """Return the examples of text of a container, if it holds any.

    Args:
        name: The argument's name, for errors.
        x: Texts in a container of `find_texts`; or several texts for each example, as lists,
            tuples or rows of an array of strings; or anything else.

    Returns:
        `(examples, x)`. `examples` is None if `x` holds no texts. Use the returned `x` in place of
        the argument: the check reads the first element of an iterator.

    Raises:
        ValueError: An array of texts has more than two dimensions, or texts are mixed with
            something else.
    """
    if isinstance(x, Iterator):
        first, x = _first(name, x)
        if not _is_example(first):
            return None, x
        x = list(x)
    elif isinstance(x, tf.data.Dataset):
        labeled = find_labeled_texts(x)
        if labeled is None:
            return None, x
        x = labeled[0]
    if isinstance(x, list | tuple) and len(x) > 0 and _is_example(x[0]) and not _is_text(x[0]):
        rows = [as_list_of_texts(name, row) if hasattr(row, "__array__") else row for row in x]
        return rows, rows
    if isinstance(x, str) or not _begins_with_text(x):
        return None, x
    is_table = getattr(x, "ndim", 1) == 2
    rows = [as_list_of_texts(name, row) for row in np.asarray(x)] if is_table else as_texts(name, x)
    return rows, rows


def find_labeled_texts(dataset: tf.data.Dataset) -> tuple[Any, Any, Any] | None:
    """Return a dataset of `(text, label[, weight])` as arrays.

    Args:
        dataset: Batches or single examples. A pair of texts is a row of two strings.

    Returns:
        `(examples, labels, weights)`; labels and weights are None if absent. None if the dataset
        holds no texts.

    Raises:
        ValueError: The dataset is endless.
    """
    spec = dataset.element_spec
    parts = spec if isinstance(spec, tuple) else (spec,)
    if getattr(parts[0], "dtype", None) != tf.string:
        return None
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("`x` must end, got an endless dataset of texts: leave out `repeat`.")
    # A single label is a scalar, so the rank of the labels (or else of the texts) shows whether the
    # elements are batches.
    is_batched = parts[1].shape.rank > 0 if len(parts) > 1 else parts[0].shape.rank > 0
    elements = list((dataset if is_batched else dataset.batch(256)).as_numpy_iterator())
    if len(parts) == 1:
        return np.concatenate(elements), None, None
    columns = [np.concatenate(column) for column in zip(*elements)]
    return (*columns, None, None)[:3]


def _begins_with_text(x: Any) -> bool:
    if isinstance(x, tf.data.Dataset):
        return getattr(x.element_spec, "dtype", None) == tf.string
    if isinstance(x, list | tuple):
        return len(x) > 0 and _is_text(x[0])
    if hasattr(x, "__array__") and not isinstance(x, tf.RaggedTensor):
        dtype = getattr(x, "dtype", None)
        if dtype == tf.string:
            return True
        array = np.asarray(x) if getattr(dtype, "kind", "O") in "OSTU" else np.zeros(())
        return array.size > 0 and _is_text(array.reshape(-1)[0])
    return isinstance(x, str)


def _is_example(entry: Any) -> bool:
    return _is_text(entry) or _begins_with_text(entry)


def _is_text(entry: Any) -> bool:
    if isinstance(entry, str | bytes):
        return True
    return getattr(entry, "dtype", None) == tf.string and entry.shape == ()


def _first(name: str, iterator: Iterator) -> tuple[Any, Iterator]:
    """Return the first element, and a generator of all elements for Keras."""
    first = next(iterator, None)
    if first is None:
        raise ValueError(f"`{name}` must hold token ids or texts, got an empty iterator.")

    def whole():
        yield first
        yield from iterator

    return first, whole()
