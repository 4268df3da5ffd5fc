"""Attribution: the contribution of each token of a text to a prediction."""

import keras
import numpy as np
import tensorflow as tf

from gpt_keras.checks import check_positive, check_positive_int
from gpt_keras.interpretation.activations import record, run

_FIRST_STEPS = 32

# Maximum number of tokens in a batch, which limits the memory for their logits.
_TOKENS = 2048


def gradient_times_input(model: keras.Model, token_ids, target: int | None = None) -> np.ndarray:
    """Return gradient times input: the attribution of a logit to each token.

    The gradient of the target's logit with respect to the input of the first block, times that
    input, summed over `hidden_dim` (Shrikumar et al. 2017, "Learning Important Features Through
    Propagating Activation Differences", section 3.1). It is a first-order approximation: fast, but
    it misses tokens whose effect is saturated.

    Args:
        model: A causal `CausalLM`, or a causal Keras model with `TransformerBlock`s that returns
            logits.
        token_ids: Integers, `(length,)`.
        target: Id of the token to explain, as the next token after the text. Default: the most
            likely one.

    Returns:
        `(length,)`, attribution of each token in units of the logit.

    Raises:
        ValueError: `token_ids` is not one text, `target` is outside the vocabulary, or the model
            has no `TransformerBlock`.

    Example:
        >>> import gpt_keras as gk
        >>> config = gk.GPTConfig(vocabulary_size=100, max_sequence_length=16, num_layers=2,
        ...                       num_heads=4, hidden_dim=8)
        >>> gk.interpretation.gradient_times_input(gk.GPT(config), [1, 2, 3]).shape
        (3,)
    """
    token_ids = _one_text(token_ids)
    target = _target(model, token_ids, target)
    stream = _embedded(model, token_ids)
    _, gradient = _logits_and_gradients(model, token_ids, target, stream)
    return (gradient * stream).sum(axis=-1, dtype=float)[0]


def integrated_gradients(
    model: keras.Model,
    token_ids,
    target: int | None = None,
    baseline: int | None = None,
    tolerance: float = 0.02,
    max_steps: int = 1024,
) -> np.ndarray:
    """Return integrated gradients: the attribution of a logit to each token.

    The baseline is a text of the same length in which every token is `baseline`. The gradient of
    the target's logit is averaged along a straight line of embeddings, from the baseline to the
    text, and multiplied by their difference (Sundararajan et al. 2017, "Axiomatic Attribution for
    Deep Networks", section 3). The attributions sum to the difference of the two logits. The number
    of integration points is doubled until they do.

    Args:
        model: As in `gradient_times_input`.
        token_ids: As in `gradient_times_input`.
        target: As in `gradient_times_input`.
        baseline: Id of a token without information. Default: the tokenizer's end-of-text token.
        tolerance: Maximum relative error of the sum of the attributions.
        max_steps: Maximum number of integration points.

    Returns:
        `(length,)`, attribution of each token in units of the logit.

    Raises:
        ValueError: An argument is out of range, `baseline` is not given and the model has no
            end-of-text token, or `max_steps` points do not reach `tolerance`.

    Example:
        >>> import gpt_keras as gk
        >>> config = gk.GPTConfig(vocabulary_size=100, max_sequence_length=16, num_layers=2,
        ...                       num_heads=4, hidden_dim=8)
        >>> gk.interpretation.integrated_gradients(gk.GPT(config), [1, 2, 3], baseline=0).shape
        (3,)
    """
    check_positive("tolerance", tolerance)
    check_positive_int("max_steps", max_steps)
    token_ids = _one_text(token_ids)
    target = _target(model, token_ids, target)
    nothing = np.full_like(token_ids, _baseline(model, baseline))
    begin, end = _embedded(model, nothing), _embedded(model, token_ids)
    ends, _ = _logits_and_gradients(model, token_ids, target, np.concatenate([begin, end]))
    difference = ends[1] - ends[0]
    steps = min(_FIRST_STEPS, max_steps)
    while True:
        # Gauss-Legendre quadrature is exact for polynomials up to degree 2 * steps - 1.
        points, weights = np.polynomial.legendre.leggauss(steps)
        way = begin + (points[:, None, None] + 1) / 2 * (end - begin)
        _, gradients = _logits_and_gradients(model, token_ids, target, way.astype(end.dtype))
        gradient = np.einsum("s,sld->ld", weights / 2, gradients)
        parts = (gradient * (end - begin)[0]).sum(axis=-1)
        # If the two logits are almost equal, rounding errors exceed a tolerance relative to their
        # difference. The scale therefore has lower bounds.
        scale = max(abs(difference), 0.01 * np.abs(parts).sum(), 1e-5)
        if abs(parts.sum() - difference) <= tolerance * scale:
            return parts
        if steps == max_steps:
            raise ValueError(
                f"`max_steps` must be above {max_steps}, or `tolerance` above {tolerance}: the "
                f"attributions sum to {parts.sum():.4g} instead of {difference:.4g}."
            )
        steps = min(2 * steps, max_steps)


def occlusion(
    model: keras.Model, token_ids, target: int | None = None, baseline: int | None = None
) -> np.ndarray:
    """Return occlusion: the decrease of a logit when each token is replaced.

    One token at a time is replaced by `baseline` (Zeiler and Fergus 2014, "Visualizing and
    Understanding Convolutional Networks", section 4.2, for images).

    Args:
        model: As in `gradient_times_input`.
        token_ids: As in `gradient_times_input`.
        target: As in `gradient_times_input`.
        baseline: Id of the replacement token. Default: the tokenizer's end-of-text token.

    Returns:
        `(length,)`, decrease of the target's logit for each replaced token.

    Raises:
        ValueError: `token_ids` is not one text, `target` is outside the vocabulary, `baseline` is
            not given and the model has no end-of-text token, or the model has no
            `TransformerBlock`.

    Example:
        >>> import gpt_keras as gk
        >>> config = gk.GPTConfig(vocabulary_size=100, max_sequence_length=16, num_layers=2,
        ...                       num_heads=4, hidden_dim=8)
        >>> gk.interpretation.occlusion(gk.GPT(config), [1, 2, 3], baseline=0).shape
        (3,)
    """
    token_ids = _one_text(token_ids)
    target = _target(model, token_ids, target)
    is_replaced = np.eye(token_ids.shape[1], dtype=bool)
    replaced = np.where(is_replaced, _baseline(model, baseline), token_ids)
    logits = run(model, np.concatenate([token_ids, replaced]))[:, -1, target]
    logits = keras.ops.convert_to_numpy(logits).astype(float)
    return logits[0] - logits[1:]


def _one_text(token_ids) -> np.ndarray:
    token_ids = np.asarray(token_ids)
    if token_ids.ndim != 1 or not token_ids.size:
        raise ValueError(
            f"`token_ids` must be the ids of one text, (length,), got shape {token_ids.shape}."
        )
    return token_ids[None]


def _target(model, token_ids, target):
    logits = keras.ops.convert_to_numpy(run(model, token_ids))[0, -1]
    if target is None:
        return int(logits.argmax())
    if not 0 <= target < len(logits):
        raise ValueError(f"`target` must be an id from 0 to {len(logits) - 1}, got {target!r}.")
    return target


def _baseline(model, baseline):
    if baseline is None:
        baseline = getattr(getattr(model, "tokenizer", None), "end_of_text_id", None)
    if baseline is None:
        raise ValueError("`baseline` must be given: the model has no end-of-text token.")
    return baseline


def _embedded(model, token_ids) -> np.ndarray:
    """Return the residual stream before the first block, `(1, length, hidden_dim)`."""
    return record(model, token_ids, "input")[0]


def _logits_and_gradients(model, token_ids, target, streams):
    """Return the target's logit, and its gradient, for each input of the first block.

    The shapes are `(number, length, hidden_dim)` for `streams` and the gradients, and `(number,)`
    for the logits.
    """
    size = max(1, _TOKENS // token_ids.shape[1])
    parts = [
        _logits_and_gradients_at_once(model, token_ids, target, streams[i : i + size])
        for i in range(0, len(streams), size)
    ]
    logits, gradients = zip(*parts, strict=True)
    return np.concatenate(logits), np.concatenate(gradients)


def _logits_and_gradients_at_once(model, token_ids, target, streams):
    streams = tf.constant(streams)
    with tf.GradientTape() as tape:
        tape.watch(streams)

        def begin_with(point, layer, value):
            if (point, layer) == ("input", 0):
                return streams

        logits = run(model, token_ids, begin_with)[:, -1, target]
    return logits.numpy(), tape.gradient(logits, streams).numpy()
