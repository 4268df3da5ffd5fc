"""What `fit` and `evaluate` are given: texts made into batches, ids looked at before compiling."""

import keras
import numpy as np
import tensorflow as tf

from gpt_keras.datasets import padded
from gpt_keras.models.requests import require_tokenizer
from gpt_keras.models.vocabulary import check_token_ids


def is_texts(x) -> bool:
    """Return whether `x` is a text or a list of texts."""
    return isinstance(x, str) or (
        isinstance(x, list | tuple) and len(x) > 0 and all(isinstance(text, str) for text in x)
    )


def texts_to_dataset(texts, model, batch_size, shuffle) -> tf.data.Dataset:
    """Return padded batches of token ids, targets and weights for a `CausalLM`."""
    return padded(
        [texts] if isinstance(texts, str) else list(texts),
        require_tokenizer(model.tokenizer),
        sequence_length=model.max_sequence_length,
        batch_size=32 if batch_size is None else batch_size,
        seed=0 if shuffle else None,
    )


def token_weights(sample_weight, x):
    """Give each token the weight of its row, where rows have weights: a loss has one a token."""
    if sample_weight is not None and len(sample_weight.shape) == 1 and len(x.shape) == 2:
        return np.repeat(np.asarray(sample_weight)[:, None], x.shape[1], axis=1)
    return sample_weight


def checked(x, y, model):
    """Return `x`, arrays or a dataset, once there is nothing in it that a `CausalLM` cannot take.

    XLA clamps an id outside the vocabulary without a word, and the model would learn nonsense. So
    arrays are looked at whole; of a dataset that can be gone through again the first batch is, and
    each batch as it comes.

    Raises:
        ValueError: there is nothing, ids are outside the vocabulary or not integers, or sequences
            are too long.
    """
    if isinstance(x, tf.data.Dataset):
        if x.cardinality() != tf.data.UNKNOWN_CARDINALITY:
            for batch in x.take(1):
                inputs, targets, _ = keras.utils.unpack_x_y_sample_weight(batch)
                _check_arrays(inputs, targets, model)
        return x.map(lambda *batch: _assert_batch(batch, model))
    if x is None or (hasattr(x, "__len__") and len(x) == 0):
        raise ValueError(f"`x` must hold token ids or texts, got {x!r}.")
    if hasattr(x, "shape"):
        _check_arrays(x, y, model)
    return x


def _check_arrays(x, y, model):
    limit = model.max_sequence_length
    if len(x.shape) != 2:
        raise ValueError(f"Token ids must have the shape (batch, length), got {tuple(x.shape)}.")
    if limit is not None and x.shape[1] > limit:
        raise ValueError(
            f"Sequences of {x.shape[1]} tokens are longer than the model's "
            f"max_sequence_length={limit}."
        )
    check_token_ids(x, model.vocabulary_size)
    if y is not None:
        check_token_ids(y, model.vocabulary_size)


def _assert_batch(batch, model):
    inputs, targets, _ = keras.utils.unpack_x_y_sample_weight(batch)
    checks = []
    for ids in (inputs, targets):
        if ids is not None:
            size = tf.cast(model.vocabulary_size, ids.dtype)
            message = f"Token ids must be in [0, {model.vocabulary_size}), the vocabulary."
            checks.append(tf.debugging.Assert(tf.reduce_all((ids >= 0) & (ids < size)), [message]))
    if model.max_sequence_length is not None:
        message = f"Sequences are longer than max_sequence_length={model.max_sequence_length}."
        fits = tf.shape(inputs)[1] <= model.max_sequence_length
        checks.append(tf.debugging.Assert(fits, [message]))
    with tf.control_dependencies(checks):
        batch = tf.nest.map_structure(tf.identity, batch)
    return batch if len(batch) > 1 else batch[0]
