"""Conversion of the data of `CausalLM.fit` and `evaluate` to Keras's input."""

import keras

from gpt_keras.datasets import MaskedSequences, padded
from gpt_keras.generation.arguments import require_tokenizer
from gpt_keras.models.batches import TokenBatches, checked_batches, is_checked
from gpt_keras.models.text_containers import find_training_texts


def read(
    model, x, y=None, sample_weight=None, batch_size=None, shuffle=False, class_weight=None
) -> tuple:
    """Return data of a `CausalLM` in the form that Keras accepts.

    Texts and `MaskedSequences` become a dataset of padded rows. Arrays are checked as a whole; a
    batch of any other source is checked when it arrives.

    Args:
        model: A `CausalLM`.
        x: As in `CausalLM.fit`.
        y: As in `CausalLM.fit`.
        sample_weight: As in `CausalLM.fit`.
        batch_size: Rows in a batch; None for 32.
        shuffle: Whether rows of texts are shuffled.
        class_weight: As in `CausalLM.fit`.

    Returns:
        `(x, y, sample_weight, batch_size)`.

    Raises:
        ValueError: There is no data, ids are outside the vocabulary or not integers, sequences are
            too long, or the weights have the shape of neither rows nor tokens.
    """
    if is_checked(x):
        return x, y, sample_weight, batch_size
    texts, x = find_training_texts("x", x)
    is_dataset = texts is None and not isinstance(x, MaskedSequences)
    if not is_dataset:
        x = _to_dataset(x, model, 32 if batch_size is None else batch_size, 0 if shuffle else None)
    batches = TokenBatches(model, class_weight=class_weight)
    source = checked_batches(x, batches)
    if source is not None:
        for name, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None:
                raise ValueError(
                    f"`{name}` must be None where `x` is texts or a dataset, which has its own."
                )
        return source, None, None, batch_size if is_dataset else None
    _check_not_empty(x)
    return *batches.arrays(x, y, sample_weight), batch_size


def read_ids(model, x):
    """Return token ids without targets, checked as in `read`.

    Raises:
        ValueError: As in `read`.
    """
    batches = TokenBatches(model, has_targets=False)
    source = checked_batches(x, batches)
    if source is not None:
        return source
    _check_not_empty(x)
    return batches.arrays(x)[0]


def _check_not_empty(x):
    if x is None or (hasattr(x, "__len__") and len(x) == 0):
        raise ValueError(f"`x` must hold token ids or texts, got {x!r}.")


def read_validation(model, data, batch_size=None):
    """Return `validation_data` in the form that Keras accepts, checked as in `read`.

    Raises:
        ValueError: As in `read`.
    """
    if data is None:
        return None
    texts, data = find_training_texts("validation_data", data)
    is_tuple = texts is None and isinstance(data, list | tuple)
    is_tuple &= not isinstance(data, MaskedSequences)
    parts = keras.utils.unpack_x_y_sample_weight(data) if is_tuple else (texts or data, None, None)
    x, y, sample_weight, _ = read(model, *parts, batch_size)
    return x if y is None else (x, y, sample_weight)


def _to_dataset(x, model, batch_size, seed):
    """Return texts or masked sequences as a dataset."""
    if isinstance(x, MaskedSequences):
        return x.batches(batch_size, seed=seed)
    return padded(
        x,
        require_tokenizer(model.tokenizer),
        sequence_length=model.max_sequence_length,
        batch_size=batch_size,
        seed=seed,
    )
