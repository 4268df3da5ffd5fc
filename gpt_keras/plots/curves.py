"""Figures of training: losses and learning rates."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from matplotlib import ticker

from gpt_keras.checks import check_positive_int
from gpt_keras.plots.figure import STYLES, Figure, legend_above, new_axes


def training(
    history: keras.callbacks.History | Mapping[str, Sequence[float]], validation_freq: int = 1
) -> Figure:
    """Draw training and validation loss against epochs; a second axis reads them as perplexity.

    The training loss of an epoch is the mean over its batches, so it stands in the middle of the
    epoch; the validation loss is measured at the epoch's end, and stands there.

    Args:
        history: What `model.fit` returned, or its `history` dict: `"loss"` and, if there was
            validation data, `"val_loss"`, in nats per token.
        validation_freq: What `model.fit` was given: how many epochs lie between validations.

    Returns:
        The figure.

    Raises:
        ValueError: There is no `"loss"`, or it has no epochs.

    Example:
        >>> import gpt_keras as gk
        >>> figure = gk.plots.training({"loss": [3.0, 2.5], "val_loss": [2.8, 2.6]})
        >>> figure.axes[0].get_ylabel()
        'loss (nats per token)'
    """
    losses = getattr(history, "history", history)
    if not isinstance(losses, Mapping) or not len(losses.get("loss", ())):
        raise ValueError(
            f"`history` must be a Keras History, or its dict, with a 'loss' for at least one "
            f"epoch; got {losses!r}."
        )
    # A History counts epochs from `initial_epoch`.
    epochs = getattr(history, "epoch", None) or range(len(losses["loss"]))
    ends = np.array(epochs) + 1

    figure, axes = new_axes("epochs", "loss (nats per token)")
    axes.plot(ends - 0.5, losses["loss"], **STYLES[0], label="training (mean of the epoch)")
    if len(losses.get("val_loss", ())):
        measured = ends[validation_freq - 1 :: validation_freq]
        if len(measured) != len(losses["val_loss"]):
            raise ValueError(
                f"`history` has {len(losses['val_loss'])} validation losses of {len(ends)} epochs; "
                f"with `validation_freq`={validation_freq} there would be {len(measured)}."
            )
        axes.plot(
            measured,
            losses["val_loss"],
            **STYLES[1],
            label="validation (at its end)",
        )
    axes.set_xlim(ends[0] - 1, ends[-1] + 0.02 * len(ends))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    legend_above(figure, axes)

    perplexity = axes.secondary_yaxis("right", functions=(np.exp, _log))
    perplexity.set_ylabel("perplexity")
    # Ticks stand at the same heights as those of the loss.
    low, high = axes.get_ylim()
    heights = [tick for tick in axes.get_yticks() if low <= tick <= high]
    perplexity.set_yticks(np.exp(heights), [_rounded(value) for value in np.exp(heights)])
    return figure


def learning_rate(optimizer: keras.optimizers.Optimizer, num_steps: int) -> Figure:
    """Draw the learning rate that an optimizer uses at each step.

    Args:
        optimizer: A Keras optimizer, such as `gk.training.adamw()` makes.
        num_steps: Number of steps to draw.

    Returns:
        The figure.

    Example:
        >>> import gpt_keras as gk
        >>> optimizer = gk.training.adamw(1e-3, warmup_steps=10, total_steps=100)
        >>> gk.plots.learning_rate(optimizer, 100).axes[0].get_xlabel()
        'training steps'
    """
    check_positive_int("num_steps", num_steps)
    rate = optimizer.get_config()["learning_rate"]
    steps = np.arange(num_steps)
    if isinstance(rate, Mapping):
        schedule = keras.optimizers.schedules.deserialize(rate)
        rates = np.array([float(schedule(step)) for step in steps])
    else:
        rates = np.full(num_steps, float(rate))
    figure, axes = new_axes("training steps", "learning rate")
    axes.plot(steps, rates, color=STYLES[0]["color"])
    axes.set_ylim(0, 1.05 * rates.max())
    return figure


def loss_by_position(losses: Mapping[str, np.ndarray]) -> Figure:
    """Draw the mean loss at each position of a window: what more context is worth.

    Args:
        losses: For each label an array `(windows, length)` of losses in nats per token.

    Returns:
        The figure.

    Raises:
        ValueError: There are no losses, or more series than `gk.plots.STYLES`, or an array has not
            two dimensions.

    Example:
        >>> import gpt_keras as gk
        >>> import numpy as np
        >>> figure = gk.plots.loss_by_position({"GPT": np.ones((2, 8))})
        >>> len(figure.axes[0].lines)
        1
    """
    if not 1 <= len(losses) <= len(STYLES):
        raise ValueError(f"`losses` must have 1 to {len(STYLES)} series, got {len(losses)}.")
    figure, axes = new_axes("tokens of context", "mean loss (nats per token)")
    for style, (label, values) in zip(STYLES, losses.items()):
        if np.ndim(values) != 2:
            raise ValueError(
                f"`losses` must hold arrays (windows, length), but {label!r} has shape "
                f"{np.shape(values)}."
            )
        means = np.mean(values, axis=0)
        context = np.arange(1, len(means) + 1)  # a token sees itself
        # A marker at each power of two; in between the line alone, which is dense.
        powers = [i for i in range(len(means)) if (i + 1) & i == 0]
        axes.plot(context, means, **style, markevery=powers, label=label)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    legend_above(figure, axes)
    return figure


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _log(perplexity):
    # matplotlib asks for the inverse at values below 0, too, while it sets up the axis.
    return np.log(np.maximum(perplexity, 1e-12))
