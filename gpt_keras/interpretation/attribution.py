"""Attribution: how much each token of a text contributes to a prediction."""

import keras
import numpy as np
import tensorflow as tf

from gpt_keras.checks import check_positive, check_positive_int
from gpt_keras.interpretation.activations import record, run

_FIRST_STEPS = 32

# So many tokens are computed at once, which bounds what their logits need.
_TOKENS = 2048


def gradient_times_input(model: keras.Model, token_ids, target: int | None = None) -> np.ndarray:
    """Return for each token the gradient of the target's logit times the token's embedding.

    The logit, to first order, as a sum over the tokens (Shrikumar et al. 2017, section 3.1): fast,
    and blind where the model is saturated.

    Args:
        model: A causal `CausalLM`, or a Keras model with `TransformerBlock`s that gives logits.
        token_ids: Integers, `(length,)`.
        target: Id of the token whose logit, after the last one, is explained. Default: the most
            likely one.

    Returns:
        `(length,)`, in units of the logit.

    Raises:
        ValueError: `token_ids` is not one text, or there is no `TransformerBlock`.

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
    """Return for each token its part of the difference that the text makes to a target's logit.

    The gradient is averaged along the straight way, in the space of embeddings, from a text of
    nothing but `baseline` to this one, and multiplied by the difference (Sundararajan et al. 2017,
    section 3). The parts add up to the difference of the two logits; that they do is checked.

    Args:
        model: As in `gradient_times_input`.
        token_ids: As in `gradient_times_input`.
        target: As in `gradient_times_input`.
        baseline: Id of a token that says nothing. Default: the tokenizer's end of text.
        tolerance: By how much the parts may miss the difference of the logits, as a share of it.
        max_steps: The largest number of points on the way; as many are taken as `tolerance` needs.

    Returns:
        `(length,)`, in units of the logit.

    Raises:
        ValueError: An argument is out of its range, there is no `baseline`, or the parts do not
            add up with `max_steps` either.

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
        # The points and weights of Gauss and Legendre: exact for polynomials of degree 2 steps - 1.
        points, weights = np.polynomial.legendre.leggauss(steps)
        way = begin + (points[:, None, None] + 1) / 2 * (end - begin)
        _, gradients = _logits_and_gradients(model, token_ids, target, way.astype(end.dtype))
        gradient = np.einsum("s,sld->ld", weights / 2, gradients)
        parts = (gradient * (end - begin)[0]).sum(axis=-1)
        # Where the two logits happen to be close, rounding errors are no smaller for that.
        scale = max(abs(difference), 0.01 * np.abs(parts).sum(), 1e-5)
        if abs(parts.sum() - difference) <= tolerance * scale:
            return parts
        if steps == max_steps:
            raise ValueError(
                f"`max_steps` must be above {max_steps}, or `tolerance` above {tolerance}: the "
                f"parts add up to {parts.sum():.4g} and not to {difference:.4g}."
            )
        steps = min(2 * steps, max_steps)


def occlusion(
    model: keras.Model, token_ids, target: int | None = None, baseline: int | None = None
) -> np.ndarray:
    """Return for each token by how much a target's logit falls when another takes its place.

    Args:
        model: As in `gradient_times_input`.
        token_ids: As in `gradient_times_input`.
        target: As in `gradient_times_input`.
        baseline: Id of the token that takes the place. Default: the tokenizer's end of text.

    Returns:
        `(length,)`, in units of the logit (Zeiler and Fergus 2014, section 4.2, for pictures).

    Raises:
        ValueError: `token_ids` is not one text, or there is no `baseline`.

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
        raise ValueError("`baseline` must be given: the model has no token for the end of text.")
    return baseline


def _embedded(model, token_ids) -> np.ndarray:
    """The stream before the first block, `(1, length, hidden_dim)`."""
    return record(model, token_ids, "input")[0]


def _logits_and_gradients(model, token_ids, target, streams):
    """The target's logit for each stream before the first block, and its gradient."""
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
