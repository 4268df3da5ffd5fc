"""Texts and batches in the containers people have, in the form in which models take them."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gpt_keras.tokenizers.text_files import check_no_names_of_files
from gpt_keras.tokenizers.texts import as_list_of_texts, as_texts

# The key of the model's input in a batch that is a dict.
INPUT = "token_ids"

_WANTED = (
    "texts (a string, list, NumPy array, pandas Series, string tensor, generator or "
    "tf.data.Dataset of strings), token ids of the shape (batch, length), or a dataset or "
    "generator of batches (token_ids, targets[, sample_weight])"
)


def find_texts(name: str, x: Any) -> tuple[list[str] | None, Any]:
    """Return the texts in a container, or None if it holds something else, and the container.

    Args:
        name: the argument's name, for errors.
        x: texts as `as_texts` takes them, or anything else.

    Returns:
        `(texts, x)`; `x` in the form to use from now on, since an iterator was begun.

    Raises:
        ValueError: `x` begins with a text and holds something else too, or never ends.
    """
    if isinstance(x, Iterator):
        first, x = _first(x)
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
    """Return what `find_texts` returns; names of files are refused, which nobody wants to learn.

    Raises:
        ValueError: as `find_texts`, or all texts are names of files.
    """
    texts, x = find_texts(name, x)
    if texts is not None:
        check_no_names_of_files(name, texts)
    return texts, x


def hold_out(texts: list[str], fraction: float) -> tuple[list[str], list[str]]:
    """Return texts to train on and, as Keras's `validation_split` does, the last ones to validate.

    Raises:
        ValueError: either part would be empty.
    """
    at = int(len(texts) * (1 - fraction)) if 0 < fraction < 1 else 0
    if at in (0, len(texts)):
        raise ValueError(
            f"`validation_split` must be in (0, 1) and leave at least one of {len(texts)} texts on "
            f"each side, got {fraction!r}."
        )
    return texts[:at], texts[at:]


def plain_batch(x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, Any, Any]:
    """Return a batch without dicts and ragged tensors; all else as it is.

    The input of a dict stands under `"token_ids"`. Ragged rows are padded on the right, and
    padding has weight 0.

    Args:
        x: token ids, in eager mode or in a graph.
        y: targets, as long as `x` in each row; or None.
        sample_weight: weights of rows, or of tokens as ragged as `x`; or None.

    Raises:
        ValueError: a dict has other keys.
    """
    if isinstance(x, Mapping):
        if set(x) != {INPUT}:
            raise ValueError(
                f"`x` must be {_WANTED}, or the ids in a dict under {INPUT!r}; got a dict with "
                f"the keys {sorted(map(str, x))}."
            )
        x = x[INPUT]
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


def with_plain_batches(x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, Any, Any]:
    """Apply `plain_batch` to arrays, or to each batch of a dataset.

    Raises:
        ValueError: as `plain_batch`; or `x` is of no kind that a model takes.
    """
    if isinstance(x, tf.data.Dataset):
        parts = x.element_spec if isinstance(x.element_spec, tuple) else (x.element_spec,)
        if isinstance(parts[0], Mapping | tf.RaggedTensorSpec):
            x = x.map(_plain_parts)
        return x, y, sample_weight
    return plain_batch(x, y, sample_weight)


def _plain_parts(*batch):
    parts = plain_batch(*keras.utils.unpack_x_y_sample_weight(batch))
    return tuple(part for part in parts if part is not None)


def find_examples(x: Any) -> Any:
    """Return examples of text, or pairs of texts, as a list; batches and arrays as they are.

    Raises:
        ValueError: an array of texts has more than two dimensions, or holds something else too.
    """
    if isinstance(x, Iterator):
        first, x = _first(x)
        is_pair = isinstance(first, list | tuple) and len(first) > 0 and _is_text(first[0])
        return list(x) if is_pair or _is_text(first) else x
    if isinstance(x, list | tuple):
        return list(x)
    if isinstance(x, tf.data.Dataset):
        labeled = find_labeled_texts(x)
        x = x if labeled is None else labeled[0]
    if not hasattr(x, "__array__") or not _begins_with_text(x):
        return x
    array = np.asarray(x)
    return [as_list_of_texts("x", row) for row in array] if array.ndim == 2 else as_texts("x", x)


def find_labeled_texts(dataset: tf.data.Dataset) -> tuple[Any, Any, Any] | None:
    """Return examples, labels and weights of a dataset of `(text, label[, weight])`, as arrays.

    Args:
        dataset: batches or single examples. A pair of texts is a row of two strings.

    Returns:
        `(examples, labels, weights)`, weights maybe None; or None if the dataset holds no texts.

    Raises:
        ValueError: it never ends.
    """
    spec = dataset.element_spec
    parts = spec if isinstance(spec, tuple) else (spec,)
    if getattr(parts[0], "dtype", None) != tf.string:
        return None
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("`x` must end, got an endless dataset of texts: leave out `repeat`.")
    # A label has no dimensions; the rank of the labels, or else of texts, tells what is a batch.
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


def _is_text(entry: Any) -> bool:
    return isinstance(entry, str | bytes) or getattr(entry, "dtype", None) == tf.string


def _first(iterator: Iterator) -> tuple[Any, Iterator]:
    """Return the first element and a generator of all elements, which Keras takes."""
    first = next(iterator, None)
    if first is None:
        raise ValueError("`x` must hold token ids or texts, got a generator without elements.")

    def whole():
        yield first
        yield from iterator

    return first, whole()
