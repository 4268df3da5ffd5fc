"""Ablation and patching of heads and layers: what each is worth to the loss."""

from collections.abc import Callable
from typing import Literal

import keras
import numpy as np
from keras import ops

from gpt_keras.checks import check_choice
from gpt_keras.interpretation.activations import record, run

_PARTS = ("attention", "feed_forward", "block")
_REPLACEMENTS = ("zero", "mean")


def head_ablation(
    model: keras.Model, token_ids, replacement: Literal["zero", "mean"] = "mean"
) -> np.ndarray:
    """Return by how much the loss grows without each head (Michel et al. 2019, section 3).

    Args:
        model: A causal `CausalLM`, or a Keras model with `TransformerBlock`s that gives logits.
        token_ids: Integers, `(batch, length)`; each token but the first is one to be predicted.
        replacement: What takes the place of what the head gives: zeros, or its mean over all these
            tokens, which keeps what the head always adds.

    Returns:
        `(layers, heads)`, in nats per token; below 0 where the model does better without.

    Raises:
        ValueError: An argument is out of its range, or there is no `TransformerBlock`.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> config = gk.GPTConfig(vocabulary_size=100, max_sequence_length=16, num_layers=2,
        ...                       num_heads=4, hidden_dim=8)
        >>> gk.interpretation.head_ablation(gk.GPT(config), np.array([[1, 2, 3]])).shape
        (2, 4)
    """
    check_choice("replacement", replacement, _REPLACEMENTS)
    inputs, targets = _next_tokens(token_ids)
    heads = record(model, inputs, "heads")  # (layers, batch, length, heads, head_dim)
    means = heads.mean(axis=(1, 2), keepdims=True) * (replacement == "mean")
    num_layers, num_heads = heads.shape[0], heads.shape[3]

    def loss(layer=None, head=None):
        is_removed = (np.arange(num_heads) == head)[:, None]

        def edit(point, number, value):
            if point == "heads" and number == layer:
                return ops.where(is_removed, ops.cast(means[layer], value.dtype), value)

        return _loss(run(model, inputs, edit), targets)

    kept = loss()
    changes = [[loss(i, h) - kept for h in range(num_heads)] for i in range(num_layers)]
    return np.array(changes)


def layer_ablation(
    model: keras.Model,
    token_ids,
    part: Literal["attention", "feed_forward", "block"] = "block",
    replacement: Literal["zero", "mean"] = "zero",
) -> np.ndarray:
    """Return by how much the loss grows without a part of each block.

    Args:
        model: As in `head_ablation`.
        token_ids: As in `head_ablation`.
        part: A sub-layer, or the whole block.
        replacement: What takes the place of what the part adds to the stream: zeros, or its mean
            over all these tokens.

    Returns:
        `(layers,)`, in nats per token.

    Raises:
        ValueError: An argument is out of its range, or there is no `TransformerBlock`.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> config = gk.GPTConfig(vocabulary_size=100, max_sequence_length=16, num_layers=2,
        ...                       num_heads=4, hidden_dim=8)
        >>> gk.interpretation.layer_ablation(gk.GPT(config), np.array([[1, 2, 3]])).shape
        (2,)
    """
    check_choice("part", part, _PARTS)
    check_choice("replacement", replacement, _REPLACEMENTS)
    inputs, targets = _next_tokens(token_ids)
    if part == "block":
        added = record(model, inputs, "output") - record(model, inputs, "input")
    else:
        added = record(model, inputs, part)
    means = added.mean(axis=(1, 2), keepdims=True) * (replacement == "mean")

    def loss(layer=None):
        before = None

        def edit(point, number, value):
            nonlocal before
            if number != layer:
                return None
            if point == "input":
                before = value
            mean = ops.cast(means[layer], value.dtype)
            if point == part:
                return ops.zeros_like(value) + mean
            if part == "block" and point == "output":
                return before + mean
            return None

        return _loss(run(model, inputs, edit), targets)

    kept = loss()
    return np.array([loss(layer) - kept for layer in range(len(means))])


def head_patching(model: keras.Model, token_ids, source_ids, target: int) -> np.ndarray:
    """Return how the loss of a target changes when a head gives what it gives for another text.

    Args:
        model: As in `head_ablation`.
        token_ids: The text, integers, `(length,)`.
        source_ids: The other text, of the same length, which differs in what one asks about.
        target: Id of the token whose loss, after the last one, is looked at.

    Returns:
        `(layers, heads)`, in nats; far below 0 for a head that brings what makes `target` likely
        after the other text.

    Raises:
        ValueError: The texts have not one length, or there is no `TransformerBlock`.

    Example:
        >>> import gpt_keras as gk
        >>> config = gk.GPTConfig(vocabulary_size=100, max_sequence_length=16, num_layers=2,
        ...                       num_heads=4, hidden_dim=8)
        >>> gk.interpretation.head_patching(gk.GPT(config), [1, 2, 3], [1, 4, 3], target=5).shape
        (2, 4)
    """

    def choices(value):
        return np.eye(value.shape[2], dtype=bool)[:, None, :, None]  # a row for each head

    return _patched(model, token_ids, source_ids, target, "heads", choices)


def layer_patching(
    model: keras.Model,
    token_ids,
    source_ids,
    target: int,
    point: Literal["input", "attention", "feed_forward", "output"] = "output",
) -> np.ndarray:
    """Return how the loss of a target changes when what a layer gives at one token is exchanged.

    What takes its place is what the layer gives there for another text (Meng et al. 2022, section
    2.1, "causal tracing", with a second text in place of noise).

    Args:
        model: As in `head_ablation`.
        token_ids: The text, integers, `(length,)`.
        source_ids: The other text, of the same length.
        target: Id of the token whose loss, after the last one, is looked at.
        point: What is exchanged, see `run`: the stream or what a sub-layer adds to it.

    Returns:
        `(layers, length)`, in nats.

    Raises:
        ValueError: An argument is out of its range, the texts have not one length, or there is no
            `TransformerBlock`.

    Example:
        >>> import gpt_keras as gk
        >>> config = gk.GPTConfig(vocabulary_size=100, max_sequence_length=16, num_layers=2,
        ...                       num_heads=4, hidden_dim=8)
        >>> gk.interpretation.layer_patching(gk.GPT(config), [1, 2, 3], [1, 4, 3], target=5).shape
        (2, 3)
    """
    check_choice("point", point, ("input", "attention", "feed_forward", "output"))

    def choices(value):
        return np.eye(value.shape[1], dtype=bool)[:, :, None]  # a row for each position

    return _patched(model, token_ids, source_ids, target, point, choices)


def _patched(model, token_ids, source_ids, target, point, choices: Callable) -> np.ndarray:
    """For each layer the changes in loss, in a batch with a row for each of its `choices`."""
    token_ids, source_ids = np.asarray(token_ids), np.asarray(source_ids)
    if token_ids.ndim != 1 or token_ids.shape != source_ids.shape:
        raise ValueError(
            f"`token_ids` and `source_ids` must be (length,), of one length, got shapes "
            f"{token_ids.shape} and {source_ids.shape}."
        )
    sources = record(model, source_ids[None], point)

    def loss(layer=None):
        def edit(at, number, value):
            if at == point and number == layer:
                return ops.where(choices(value), ops.cast(sources[layer], value.dtype), value)

        logits = run(model, token_ids[None], edit)[:, -1]
        return _losses(logits, np.full(logits.shape[0], target))

    kept = loss()
    return np.stack([loss(layer) - kept for layer in range(len(sources))])


def _next_tokens(token_ids):
    token_ids = np.asarray(token_ids)
    if token_ids.ndim != 2 or token_ids.shape[1] < 2:
        raise ValueError(
            f"`token_ids` must be (batch, length) with at least two tokens in a row, got shape "
            f"{token_ids.shape}."
        )
    return token_ids[:, :-1], token_ids[:, 1:]


def _loss(logits, targets) -> float:
    return float(_losses(logits, targets).mean())


def _losses(logits, targets) -> np.ndarray:
    losses = keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)
    return ops.convert_to_numpy(losses)
