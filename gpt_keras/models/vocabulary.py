"""Token ids and the rows of a model that belong to them: checks, and room for more."""

from typing import Any

import keras
import numpy as np

from gpt_keras.config import check_positive_int
from gpt_keras.layers.quantized_sublayers import is_quantized


def check_token_ids(token_ids, vocabulary_size: int) -> None:
    """Raise `ValueError` unless all ids are integers in [0, vocabulary_size)."""
    token_ids = np.asarray(token_ids)
    if not np.issubdtype(token_ids.dtype, np.integer):
        raise ValueError(f"Token ids must be integers, got {token_ids.dtype}.")
    if token_ids.size and (token_ids.min() < 0 or token_ids.max() >= vocabulary_size):
        raise ValueError(token_id_error(token_ids.min(), token_ids.max(), vocabulary_size))


def token_id_error(lowest, highest, vocabulary_size: int) -> str:
    """Return the message about ids outside the vocabulary."""
    return (
        f"Token ids must be in [0, {vocabulary_size}), the vocabulary; "
        f"got ids from {lowest} to {highest}."
    )


def check_token_ids_if_known(token_ids, vocabulary_size: int) -> None:
    """Check ids that have values; inside a compiled function they have none yet."""
    # XLA clamps a wrong id silently; `CausalLM.fit` looks at the data before it compiles.
    if isinstance(token_ids, np.ndarray) or hasattr(token_ids, "numpy"):
        check_token_ids(token_ids, vocabulary_size)


def with_more_rows(
    backbone: keras.Model, vocabulary_size: int, changes: dict[str, Any]
) -> keras.Model:
    """Return a copy of a backbone with more token ids.

    Args:
        backbone: the model.
        vocabulary_size: number of ids of the copy.
        changes: what differs in the copy's `get_config`.

    Raises:
        ValueError: the model has more ids already, or is quantized.
    """
    check_positive_int("vocabulary_size", vocabulary_size)
    if is_quantized(backbone):
        raise ValueError(
            f"{backbone.name!r} is quantized, and new rows would not be: give it its "
            f"`vocabulary_size` of {vocabulary_size} first, and then quantize it."
        )
    copy = type(backbone).from_config({**backbone.get_config(), **changes})
    for old, new in zip(backbone.variables, copy.variables, strict=True):
        if any(before > after for before, after in zip(old.shape, new.shape, strict=True)):
            raise ValueError(
                f"`vocabulary_size` must be at least the model's own, got {vocabulary_size}: "
                f"{old.path} has the shape {tuple(old.shape)}."
            )
        values = np.array(new)
        values[tuple(slice(size) for size in old.shape)] = np.array(old)
        new.assign(values)
    return copy
