"""What `fit` and `evaluate` are given: texts made into batches, ids looked at before compiling."""

import keras
import tensorflow as tf

from gpt_keras.datasets import padded
from gpt_keras.models.gpt import check_token_ids
from gpt_keras.models.requests import require_tokenizer


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


def check_data(x, y, model) -> None:
    """Look at arrays, or at the first batch of a dataset, for what a `CausalLM` cannot take.

    XLA clamps an id outside the vocabulary without a word, and the model would learn nonsense.

    Raises:
        ValueError: ids outside the vocabulary or not integers, or sequences that are too long.
    """
    if isinstance(x, tf.data.Dataset):
        for batch in x.take(1):
            token_ids, targets, _ = keras.utils.unpack_x_y_sample_weight(batch)
            check_data(token_ids, targets, model)
    elif hasattr(x, "shape"):
        limit = model.max_sequence_length
        if limit is not None and len(x.shape) > 1 and x.shape[1] > limit:
            raise ValueError(
                f"Sequences of {x.shape[1]} tokens are longer than the model's "
                f"max_sequence_length={limit}."
            )
        check_token_ids(x, model.vocabulary_size)
        if y is not None:
            check_token_ids(y, model.vocabulary_size)
