"""Recording and editing of activations while a model runs."""

import collections
from collections.abc import Callable

import keras
import numpy as np

from gpt_keras.checks import check_choice
from gpt_keras.layers.probing import probe

POINTS = ("input", "heads", "attention", "feed_forward", "output")


def run(model: keras.Model, token_ids, edit: Callable | None = None):
    """Run a model, with a hook that reads or edits its activations.

    The hook is `edit(point, layer, value)`. It is called in the order of computation. `layer` is
    the number of the block, from 0. `point` is one of:

    - `"input"`: the residual stream before the block, `(batch, length, hidden_dim)`;
    - `"heads"`: the outputs of the attention heads before the output projection,
      `(batch, length, heads, head_dim)`;
    - `"attention"` and `"feed_forward"`: the output of the sub-layer, which is added to the
      residual stream, `(batch, length, hidden_dim)`;
    - `"output"`: the residual stream after the block, `(batch, length, hidden_dim)`.

    Args:
        model: A `CausalLM` or any Keras model with `TransformerBlock`s.
        token_ids: Integers, `(batch, length)`, or the dict of inputs that the model takes.
        edit: Hook. The tensor that it returns replaces `value`; None keeps `value`. Default: no
            hook.

    Returns:
        The output of the model, a tensor; `(batch, length, vocabulary_size)` logits for a language
        model.

    Raises:
        ValueError: The model has no `TransformerBlock`.

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
    """Run a model like `run`, with a hook that also receives the Keras layer.

    Args:
        model: As in `run`.
        token_ids: As in `run`.
        edit: Hook `edit(layer, point, number, value)`. `layer` is the Keras layer that holds the
            point, `number` is the number of the block.
    """
    seen = collections.Counter()

    def at(layer, point, value):
        number = seen[point]
        seen[point] += 1
        edited = edit(layer, point, number, value)
        return value if edited is None else edited

    backbone = getattr(model, "backbone", model)
    inputs = token_ids if isinstance(token_ids, dict) else keras.ops.convert_to_tensor(token_ids)
    if not backbone.built:
        backbone(inputs)  # builds the model outside the probe, which must see only one call
    with probe(at):
        output = backbone(inputs, training=False)
    if not seen["input"]:
        raise ValueError(f"`model` must have TransformerBlocks; {backbone.name!r} has none.")
    return output


def record(model: keras.Model, token_ids, point: str) -> np.ndarray:
    """Return the activations of a model at one point of every block.

    Args:
        model: As in `run`.
        token_ids: As in `run`.
        point: Name of a point, as in `run`.

    Returns:
        `(layers, batch, length, ...)`; the last axes depend on the point, see `run`.

    Raises:
        ValueError: `point` is not a point of the model, or the model has no `TransformerBlock`.

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
            f"`point` must be a point of the model's blocks, got {point!r}: their attention is not "
            "a CausalMultiHeadAttention."
        )
    return np.stack(found)


def residual_stream(model: keras.Model, token_ids) -> np.ndarray:
    """Return the residual stream before the first block and after each block.

    Args:
        model: As in `run`.
        token_ids: As in `run`.

    Returns:
        `(layers + 1, batch, length, hidden_dim)`.

    Raises:
        ValueError: The model has no `TransformerBlock`.

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
    """Return the logit lens: the model's prediction after each of its blocks.

    The final norm and the output projection are applied to the residual stream between blocks, as
    if the remaining blocks did not exist (nostalgebraist 2020, "interpreting GPT: the logit lens").

    Args:
        model: As in `run`.
        token_ids: As in `run`.

    Returns:
        Logits, `(layers + 1, batch, length, vocabulary_size)`: before the first block, then after
        each block. The last entry is the output of the model.

    Raises:
        ValueError: The model has no `TransformerBlock`.

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
        # All streams go through the final norm and the output projection as one larger batch.
        if (point, layer) == ("output", last):
            return keras.ops.convert_to_tensor(np.concatenate(streams))

    logits = keras.ops.convert_to_numpy(run(model, token_ids, end_early))
    return logits.reshape(len(streams), -1, *logits.shape[1:])
