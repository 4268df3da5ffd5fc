"""Attention weights and induction scores of all heads."""

import keras
import numpy as np

from gpt_keras.checks import check_positive_int, check_seed
from gpt_keras.generation.backbone import num_logits
from gpt_keras.interpretation.activations import run_layers


def attention_weights(model: keras.Model, token_ids) -> np.ndarray:
    """Return the attention weights of every layer and head.

    Args:
        model: A `CausalLM` or any Keras model with `TransformerBlock`s.
        token_ids: Integers, `(batch, length)`. For a model that is not causal, also its dict of
            inputs with a `"padding_mask"`.

    Returns:
        `(layers, batch, heads, length, length)` float32, rows for queries and columns for keys.
        Each row sums to 1.

    Raises:
        ValueError: The model has no `TransformerBlock`.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> config = gk.GPTConfig(vocabulary_size=100, max_sequence_length=16, num_layers=2,
        ...                       num_heads=4, hidden_dim=8)
        >>> weights = gk.interpretation.attention_weights(gk.GPT(config), np.array([[1, 2, 3]]))
        >>> weights.shape
        (2, 1, 4, 3, 3)
        >>> weights[0, 0, 0, 0].tolist()    # the first token attends only to itself
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
    """Return the induction score of each attention head.

    The input is a sequence of random tokens, given twice. In the second half, an induction head
    attends to the token after the previous occurrence of the current token, and so predicts the
    next token. The score is the mean attention weight at that position (Olsson et al. 2022,
    "In-context Learning and Induction Heads").

    Args:
        model: A causal model, as in `attention_weights`. It must accept `2 * length` tokens.
        vocabulary_size: Token ids are drawn from `[0, vocabulary_size)`. Default: the model's whole
            vocabulary.
        length: Number of random tokens, before the repetition.
        batch_size: Number of sequences.
        seed: Random seed of the tokens.

    Returns:
        `(layers, heads)`, from 0 to 1.

    Raises:
        ValueError: An argument is out of range, or the model has no `TransformerBlock`.

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
