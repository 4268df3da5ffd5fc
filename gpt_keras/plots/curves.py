"""Figures of losses and learning rates."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from matplotlib import ticker

from gpt_keras.checks import check_positive_int
from gpt_keras.plots.figure import STYLES, Figure, legend_above, new_axes


def training(
    history: keras.callbacks.History | Mapping[str, Sequence[float]], validation_freq: int = 1
) -> Figure:
    """Draw training and validation loss against epochs.

    A second axis shows the same values as perplexity. The training loss of an epoch is a mean over
    its batches, so it is drawn at the middle of the epoch. The validation loss is measured at the
    end of the epoch and drawn there.

    Args:
        history: Return value of `model.fit`, or its `history` dict with `"loss"` and optionally
            `"val_loss"`, in nats per token.
        validation_freq: Number of epochs between validations, the value passed to `model.fit`.

    Returns:
        The figure.

    Raises:
        ValueError: `history` has no `"loss"` with at least one epoch, or the number of validation
            losses does not match `validation_freq`.

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
    # The epochs of a History begin at `initial_epoch`; a dict does not contain them.
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
    # Both axes have their ticks at the same heights.
    low, high = axes.get_ylim()
    heights = [tick for tick in axes.get_yticks() if low <= tick <= high]
    perplexity.set_yticks(np.exp(heights), [_rounded(value) for value in np.exp(heights)])
    return figure


def learning_rate(optimizer: keras.optimizers.Optimizer, num_steps: int) -> Figure:
    """Draw the learning-rate schedule of an optimizer.

    Args:
        optimizer: A Keras optimizer with a constant learning rate or a schedule, for example from
            `gk.training.adamw()`.
        num_steps: Number of training steps to draw.

    Returns:
        The figure.

    Raises:
        ValueError: `num_steps` is not a positive integer.

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
    """Draw the mean loss at each position of a window, against the length of context.

    Args:
        losses: Arrays by label, each `(windows, length)`, losses in nats per token.

    Returns:
        The figure, with one curve for each label.

    Raises:
        ValueError: There are no losses, there are more series than `gk.plots.STYLES`, or an array
            does not have two dimensions.

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
        context = np.arange(1, len(means) + 1)  # the context includes the current token
        # Markers only at powers of two: the axis is logarithmic, and the points are dense.
        powers = [i for i in range(len(means)) if (i + 1) & i == 0]
        axes.plot(context, means, **style, markevery=powers, label=label)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    legend_above(figure, axes)
    return figure


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _log(perplexity):
    # While matplotlib sets up the axis, it also evaluates the inverse at values below 0.
    return np.log(np.maximum(perplexity, 1e-12))
