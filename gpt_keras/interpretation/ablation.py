"""Ablation and activation patching of heads and layers: their effect on the loss."""

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
    """Return the increase in loss when each attention head is ablated.

    The loss is the mean next-token loss on the given texts. One head at a time is removed: its
    output is replaced at every position (Michel et al. 2019, "Are Sixteen Heads Really Better than
    One?", section 3).

    Args:
        model: A causal `CausalLM`, or a causal Keras model with `TransformerBlock`s that returns
            logits.
        token_ids: Integers, `(batch, length)`, with a length of at least 2. All tokens except the
            first of each row are targets.
        replacement: Replacement for the head's output. `"zero"`: zeros. `"mean"`: its mean over all
            positions of all rows, which keeps the constant part of the output.

    Returns:
        `(layers, heads)`, increase in loss in nats per token. It is negative if the model is better
        without the head.

    Raises:
        ValueError: An argument is out of range, or the model has no `TransformerBlock`.

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
    """Return the increase in loss when each block, or a sub-layer of it, is ablated.

    The loss is the mean next-token loss on the given texts. One part at a time is removed: the
    vector that it adds to the residual stream is replaced at every position.

    Args:
        model: As in `head_ablation`.
        token_ids: As in `head_ablation`.
        part: `"attention"` or `"feed_forward"` for a sub-layer, `"block"` for the whole block.
        replacement: Replacement for the added vector. `"zero"`: zeros. `"mean"`: its mean over all
            positions of all rows.

    Returns:
        `(layers,)`, increase in loss in nats per token.

    Raises:
        ValueError: An argument is out of range, or the model has no `TransformerBlock`.

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
    """Return the change in a target's loss when each head is patched.

    Activation patching (Vig et al. 2020, "Investigating Gender Bias in Language Models Using Causal
    Mediation Analysis"; Wang et al. 2022, "Interpretability in the Wild"): one head at a time gets
    the output that it has on a source text, at every position.

    Args:
        model: As in `head_ablation`.
        token_ids: Text to run, integers, `(length,)`.
        source_ids: Source text, `(length,)`, of the same length. Choose one that differs from
            `token_ids` only in the fact under study, such as a name.
        target: Token id. Its loss as the next token after the text is measured.

    Returns:
        `(layers, heads)`, change in loss in nats. A strongly negative value marks a head that
        carries the information that makes `target` likely after the source text.

    Raises:
        ValueError: The texts differ in length, or the model has no `TransformerBlock`.

    Example:
        >>> import gpt_keras as gk
        >>> config = gk.GPTConfig(vocabulary_size=100, max_sequence_length=16, num_layers=2,
        ...                       num_heads=4, hidden_dim=8)
        >>> gk.interpretation.head_patching(gk.GPT(config), [1, 2, 3], [1, 4, 3], target=5).shape
        (2, 4)
    """

    def choices(value):
        return np.eye(value.shape[2], dtype=bool)[:, None, :, None]  # one row per head

    return _patched(model, token_ids, source_ids, target, "heads", choices)


def layer_patching(
    model: keras.Model,
    token_ids,
    source_ids,
    target: int,
    point: Literal["input", "attention", "feed_forward", "output"] = "output",
) -> np.ndarray:
    """Return the change in a target's loss when each layer is patched at one position.

    Activation patching, also called causal tracing: the value of one layer at one position is
    replaced by its value on a source text (Meng et al. 2022, "Locating and Editing Factual
    Associations in GPT", section 2.1, with a second text instead of noise).

    Args:
        model: As in `head_ablation`.
        token_ids: Text to run, integers, `(length,)`.
        source_ids: Source text, `(length,)`, of the same length.
        target: Token id. Its loss as the next token after the text is measured.
        point: Point at which the value is replaced, as in `run`: the residual stream before
            (`"input"`) or after (`"output"`) the block, or the output of a sub-layer.

    Returns:
        `(layers, length)`, change in loss in nats.

    Raises:
        ValueError: An argument is out of range, the texts differ in length, or the model has no
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
        return np.eye(value.shape[1], dtype=bool)[:, :, None]  # one row per position

    return _patched(model, token_ids, source_ids, target, point, choices)


def _patched(model, token_ids, source_ids, target, point, choices: Callable) -> np.ndarray:
    """Return the changes in loss for each layer, with one batch per layer.

    `choices` maps a value to a mask. The mask has one row for each patch to try, and is True where
    that patch replaces the value.
    """
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
