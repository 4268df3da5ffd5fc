"""Attention weights and induction scores of every head."""

import keras
import numpy as np

from gpt_keras.checks import check_positive_int, check_seed
from gpt_keras.generation.backbone import num_logits
from gpt_keras.interpretation.activations import run_layers


def attention_weights(model: keras.Model, token_ids) -> np.ndarray:
    """Return the attention weights of every layer and head.

    Args:
        model: A `CausalLM` or any Keras model with `TransformerBlock`s.
        token_ids: Integers, `(batch, length)`, or the dict that a model takes which is not causal.

    Returns:
        float32 `(layers, batch, heads, length, length)`: how much the token of the row takes of
        the token of the column; each row sums to 1.

    Raises:
        ValueError: There is no `TransformerBlock` in the model.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> config = gk.GPTConfig(vocabulary_size=100, max_sequence_length=16, num_layers=2,
        ...                       num_heads=4, hidden_dim=8)
        >>> weights = gk.interpretation.attention_weights(gk.GPT(config), np.array([[1, 2, 3]]))
        >>> weights.shape
        (2, 1, 4, 3, 3)
        >>> weights[0, 0, 0, 0].tolist()    # the first token sees itself alone
        [1.0, 0.0, 0.0]
    """
    padding_mask = token_ids["padding_mask"] if isinstance(token_ids, dict) else None
    found = []

    def keep(block, point, number, value):
        if point == "input":
            found.append(keras.ops.convert_to_numpy(block.attention_weights(value, padding_mask)))

    run_layers(model, token_ids, keep)
    return np.stack(found)


def induction_scores(
    model: keras.Model,
    vocabulary_size: int | None = None,
    length: int = 25,
    batch_size: int = 4,
    seed: int = 0,
) -> np.ndarray:
    """Return for each head how much it attends to what followed the same token the last time.

    The tokens are random and then repeated, so that nothing but the repetition tells what comes
    next. A head that, at a token, looks at the token after that one's earlier occurrence is an
    induction head (Olsson et al. 2022, "In-context Learning and Induction Heads").

    Args:
        model: As in `attention_weights`, causal.
        vocabulary_size: The tokens are drawn from the ids below. Default: all the model's.
        length: Number of tokens that are repeated.
        batch_size: Number of sequences.
        seed: Number from which the tokens follow.

    Returns:
        `(layers, heads)`, from 0 to 1: the mean share of the attention, over the repetition.

    Raises:
        ValueError: An argument is out of its range, or there is no `TransformerBlock`.

    Example:
        >>> import gpt_keras as gk
        >>> config = gk.GPTConfig(vocabulary_size=100, max_sequence_length=64, num_layers=2,
        ...                       num_heads=4, hidden_dim=8)
        >>> gk.interpretation.induction_scores(gk.GPT(config)).shape
        (2, 4)
    """
    if vocabulary_size is None:
        vocabulary_size = num_logits(getattr(model, "backbone", model))
    for name, value in (("length", length), ("batch_size", batch_size)):
        check_positive_int(name, value)
    check_positive_int("vocabulary_size", vocabulary_size)
    check_seed(seed)
    once = np.random.default_rng(seed).integers(vocabulary_size, size=(batch_size, length))
    weights = attention_weights(model, np.concatenate([once, once], axis=1))
    query = np.arange(length, 2 * length)
    return weights[..., query, query - length + 1].mean(axis=(1, 3))
