"""Activations of a model while it runs: recorded, and replaced."""

import collections
from collections.abc import Callable

import keras
import numpy as np

from gpt_keras.checks import check_choice
from gpt_keras.layers.probing import probe

POINTS = ("input", "heads", "attention", "feed_forward", "output")


def run(model: keras.Model, token_ids, edit: Callable | None = None):
    """Run a model and look at, or change, what goes on between its parts.

    `edit(point, layer, value)` is called in the order in which the model computes, with the number
    of the block, from 0, and one of these points:

    - `"input"`: the residual stream before the block, `(batch, length, hidden_dim)`;
    - `"heads"`: what the heads have mixed, `(batch, length, heads, head_dim)`, before it is
      projected into the stream;
    - `"attention"` and `"feed_forward"`: what the sub-layer adds to the stream;
    - `"output"`: the stream after the block.

    Args:
        model: A `CausalLM` or any Keras model with `TransformerBlock`s.
        token_ids: Integers, `(batch, length)`, or what else the model takes.
        edit: The function; the tensor that it returns replaces `value`, and None keeps it.

    Returns:
        The output of the model, a tensor.

    Raises:
        ValueError: There is no `TransformerBlock` in the model.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> config = gk.GPTConfig(vocabulary_size=100, max_sequence_length=16, num_layers=2,
        ...                       num_heads=4, hidden_dim=8)
        >>> def without_feed_forward(point, layer, value):
        ...     if point == "feed_forward":
        ...         return 0 * value
        >>> model = gk.GPT(config)
        >>> gk.interpretation.run(model, np.array([[1, 2, 3]]), without_feed_forward).shape
        TensorShape([1, 3, 100])
    """

    def edit_at(block, point, layer, value):
        return None if edit is None else edit(point, layer, value)

    return run_layers(model, token_ids, edit_at)


def run_layers(model, token_ids, edit):
    """As `run`, with `edit(layer, point, number, value)`: the Keras layer as well."""
    seen = collections.Counter()

    def at(layer, point, value):
        number = seen[point]
        seen[point] += 1
        edited = edit(layer, point, number, value)
        return value if edited is None else edited

    backbone = getattr(model, "backbone", model)
    inputs = token_ids if isinstance(token_ids, dict) else keras.ops.convert_to_tensor(token_ids)
    if not backbone.built:
        backbone(inputs)  # Keras builds a layer by calling it, which is no run to look at
    with probe(at):
        output = backbone(inputs, training=False)
    if not seen["input"]:
        raise ValueError(f"`model` must have TransformerBlocks; {backbone.name!r} has none.")
    return output


def record(model: keras.Model, token_ids, point: str) -> np.ndarray:
    """Return what a model computes at one point of every block.

    Args:
        model: As in `run`.
        token_ids: As in `run`.
        point: One of the points in `run`.

    Returns:
        `(layers, batch, length, ...)`.

    Raises:
        ValueError: There is no such point, or no `TransformerBlock` in the model.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> config = gk.GPTConfig(vocabulary_size=100, max_sequence_length=16, num_layers=2,
        ...                       num_heads=4, hidden_dim=8)
        >>> gk.interpretation.record(gk.GPT(config), np.array([[1, 2, 3]]), "heads").shape
        (2, 1, 3, 4, 2)
    """
    check_choice("point", point, POINTS)
    found = []

    def keep(at, layer, value):
        if at == point:
            found.append(keras.ops.convert_to_numpy(value))

    run(model, token_ids, keep)
    if not found:
        raise ValueError(
            f"`point` must be one that the model's blocks have, got {point!r}: their attention is "
            "no CausalMultiHeadAttention."
        )
    return np.stack(found)


def residual_stream(model: keras.Model, token_ids) -> np.ndarray:
    """Return the residual stream before the first block and after each.

    Args:
        model: As in `run`.
        token_ids: As in `run`.

    Returns:
        `(layers + 1, batch, length, hidden_dim)`.

    Raises:
        ValueError: There is no `TransformerBlock` in the model.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> config = gk.GPTConfig(vocabulary_size=100, max_sequence_length=16, num_layers=2,
        ...                       num_heads=4, hidden_dim=8)
        >>> gk.interpretation.residual_stream(gk.GPT(config), np.array([[1, 2, 3]])).shape
        (3, 1, 3, 8)
    """
    found = []

    def keep(point, layer, value):
        if point == "output" or (point, layer) == ("input", 0):
            found.append(keras.ops.convert_to_numpy(value))

    run(model, token_ids, keep)
    return np.stack(found)


def logit_lens(model: keras.Model, token_ids) -> np.ndarray:
    """Return what the model would predict if it ended after each of its blocks.

    The stream between two blocks goes straight to the model's end, its final norm and output
    projection (nostalgebraist 2020, "interpreting GPT: the logit lens").

    Args:
        model: As in `run`.
        token_ids: As in `run`.

    Returns:
        Logits, `(layers + 1, batch, length, vocabulary_size)`: before the first block and after
        each; the last ones are those of the model.

    Raises:
        ValueError: There is no `TransformerBlock` in the model.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> config = gk.GPTConfig(vocabulary_size=100, max_sequence_length=16, num_layers=2,
        ...                       num_heads=4, hidden_dim=8)
        >>> model, ids = gk.GPT(config), np.array([[1, 2, 3]])
        >>> lens = gk.interpretation.logit_lens(model, ids)
        >>> lens.shape
        (3, 1, 3, 100)
        >>> bool(np.allclose(lens[-1], model(ids)))
        True
    """
    streams = residual_stream(model, token_ids)
    last = len(streams) - 2

    def end_early(point, layer, value):
        # As one larger batch: the end of the model is the same for all.
        if (point, layer) == ("output", last):
            return keras.ops.convert_to_tensor(np.concatenate(streams))

    logits = keras.ops.convert_to_numpy(run(model, token_ids, end_early))
    return logits.reshape(len(streams), -1, *logits.shape[1:])
