"""Checks of token ids, and growth of a model's vocabulary."""

from typing import Any

import keras
import numpy as np

from gpt_keras.checks import check_positive_int, check_token_ids
from gpt_keras.layers.quantized_sublayers import is_quantized


def check_token_ids_if_known(token_ids, vocabulary_size: int) -> None:
    """Check the token ids of a call, if their values are known.

    Inside a compiled function the values are unknown, and only the dtype is checked. Whole numbers
    in float32 or float64 are accepted as ids, because `keras.Sequential` casts its input to the
    compute dtype of its first layer.

    Args:
        token_ids: An array or a tensor of ids.
        vocabulary_size: Number of ids of the model.

    Raises:
        ValueError: The ids are not integers, or an id is outside the vocabulary.
    """
    dtype = keras.backend.standardize_dtype(token_ids.dtype)
    if dtype in ("bfloat16", "float16"):
        raise ValueError(
            f"Token ids must be integers, got {dtype}, in which large ids are rounded; begin a "
            "keras.Sequential with keras.Input((None,), dtype='int32')."
        )
    # XLA silently clamps a wrong id. `CausalLM.fit` therefore checks its data itself.
    if isinstance(token_ids, np.ndarray) or hasattr(token_ids, "numpy"):
        token_ids = keras.ops.convert_to_numpy(token_ids)
        if dtype in ("float32", "float64") and np.array_equal(token_ids, np.floor(token_ids)):
            token_ids = token_ids.astype("int64")
        check_token_ids(token_ids, vocabulary_size)


def with_more_rows(
    backbone: keras.Model, vocabulary_size: int, changes: dict[str, Any]
) -> keras.Model:
    """Return a copy of a backbone with more token ids.

    Args:
        backbone: The model.
        vocabulary_size: Number of ids of the copy.
        changes: Entries of `get_config` that differ in the copy.

    Returns:
        A new model with the weights of `backbone`. The rows of the new ids are initialized at
        random.

    Raises:
        ValueError: The model has more ids already, or is quantized.
    """
    check_positive_int("vocabulary_size", vocabulary_size)
    if is_quantized(backbone):
        raise ValueError(
            f"{backbone.name!r} is quantized, but the new rows would not be: build it with its "
            f"`vocabulary_size` of {vocabulary_size} first, then quantize it."
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
