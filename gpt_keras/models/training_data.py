"""What `fit` and `evaluate` are given: texts made into batches, arrays looked at beforehand."""

import reprlib

import keras
import numpy as np
import tensorflow as tf

from gpt_keras.checks import check_token_ids
from gpt_keras.datasets import padded
from gpt_keras.generation.arguments import require_tokenizer
from gpt_keras.models.text_containers import find_training_texts, with_plain_batches


def read(model, x, y=None, sample_weight=None, batch_size=None, shuffle=False) -> tuple:
    """Return `(x, y, sample_weight, batch_size)` as Keras takes them from a `CausalLM`.

    XLA clamps an id outside the vocabulary without a word, and the model would learn nonsense. So
    arrays are looked at whole; of a dataset that can be gone through again the first batch is, and
    each batch as it comes.

    Raises:
        ValueError: there is nothing, ids are outside the vocabulary or not integers, sequences are
            too long, or weights belong neither to rows nor to tokens.
    """
    texts, x = find_training_texts("x", x)
    x, y, sample_weight = with_plain_batches(x, y, sample_weight)
    if texts is not None or isinstance(x, tf.data.Dataset):
        for name, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None:
                raise ValueError(f"`{name}` must be None where `x` is texts or a dataset.")
        if texts is None:
            return _read_dataset(x, model), None, None, batch_size
        return _texts_to_dataset(texts, model, batch_size, shuffle), None, None, None
    x, y = as_array("x", x), as_array("y", y)
    if x is None or (hasattr(x, "__len__") and len(x) == 0):
        raise ValueError(f"`x` must hold token ids or texts, got {x!r}.")
    if hasattr(x, "shape"):
        _check_arrays(x, y, model)
        sample_weight = checked_weights(sample_weight, tuple(x.shape))
    return x, y, sample_weight, batch_size


def read_validation(model, data, batch_size=None):
    """Return `validation_data`, which holds what `read` takes, as Keras takes it.

    Raises:
        ValueError: as `read`.
    """
    if data is None:
        return None
    texts, data = find_training_texts("validation_data", data)
    is_tuple = texts is None and isinstance(data, list | tuple)
    parts = keras.utils.unpack_x_y_sample_weight(data) if is_tuple else (texts or data, None, None)
    x, y, sample_weight, _ = read(model, *parts, batch_size)
    return x if y is None else (x, y, sample_weight)


def as_array(name: str, value):
    """Return lists, which Keras would take for several inputs, as one array; all else as it is.

    Raises:
        ValueError: the lists inside have different lengths.
    """
    if not isinstance(value, list | tuple):
        return value
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"`{name}` must be an array or lists of one length: {error}") from error


def checked_weights(sample_weight, shape: tuple[int, ...]):
    """Return sample weights in the shape that the loss has; those of rows go for all of the row.

    Args:
        sample_weight: numbers, one for each row or one for each entry; or None.
        shape: of the loss.

    Raises:
        ValueError: they are neither, or not finite numbers.
    """
    if sample_weight is None:
        return None
    try:
        weights = np.asarray(sample_weight, "float32")
    except (TypeError, ValueError):
        weights = np.array(np.nan)  # of no shape
    if weights.shape in (shape[:1], (shape[0], 1)):
        weights = np.broadcast_to(weights.reshape(-1, *[1] * (len(shape) - 1)), shape)
    if weights.shape != shape or not np.isfinite(weights).all():
        shapes = " or ".join(dict.fromkeys([str(shape[:1]), str(shape)]))
        raise ValueError(
            f"`sample_weight`, or the third part of `validation_data` or of a dataset's batches, "
            f"must be finite numbers of the shape {shapes}; got the shape {weights.shape}: "
            f"{reprlib.repr(sample_weight)}."
        )
    return weights


def _texts_to_dataset(texts, model, batch_size, shuffle):
    return padded(
        texts,
        require_tokenizer(model.tokenizer),
        sequence_length=model.max_sequence_length,
        batch_size=32 if batch_size is None else batch_size,
        seed=0 if shuffle else None,
    )


def _read_dataset(data, model):
    if data.cardinality() != tf.data.UNKNOWN_CARDINALITY:
        for batch in data.take(1):
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
            _check_arrays(x, y, model)
            checked_weights(sample_weight, tuple(x.shape))
    return data.map(lambda *batch: _read_batch(batch, model))


def _read_batch(batch, model):
    """What `_read_dataset` does with each batch, in the graph."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    checks = []
    for ids in (x, y):
        if ids is not None:
            size = tf.cast(model.vocabulary_size, ids.dtype)
            message = f"Token ids must be in [0, {model.vocabulary_size}), the vocabulary."
            checks.append(tf.debugging.Assert(tf.reduce_all((ids >= 0) & (ids < size)), [message]))
    if model.max_sequence_length is not None:
        message = f"Sequences are longer than max_sequence_length={model.max_sequence_length}."
        fits = tf.shape(x)[1] <= model.max_sequence_length
        checks.append(tf.debugging.Assert(fits, [message]))
    shape = None if sample_weight is None else sample_weight.shape
    if shape is not None and (shape.rank == 1 or (shape.rank == 2 and shape[1] == 1)):
        batch = (x, y, tf.broadcast_to(tf.reshape(sample_weight, [-1, 1]), tf.shape(x)))
    with tf.control_dependencies(checks):
        batch = tf.nest.map_structure(tf.identity, batch)
    return batch if len(batch) > 1 else batch[0]


def _check_arrays(x, y, model):
    if len(x.shape) != 2:
        raise ValueError(f"Token ids must have the shape (batch, length), got {tuple(x.shape)}.")
    check_sequences(x, model)
    if y is not None:
        check_token_ids(y, model.vocabulary_size)


def check_sequences(token_ids, model) -> None:
    """Raise `ValueError` unless the model takes sequences of these ids and of this length."""
    limit = model.max_sequence_length
    if limit is not None and token_ids.shape[-1] > limit:
        raise ValueError(
            f"Sequences of {token_ids.shape[-1]} tokens are longer than the model's "
            f"max_sequence_length={limit}."
        )
    check_token_ids(token_ids, model.vocabulary_size)
