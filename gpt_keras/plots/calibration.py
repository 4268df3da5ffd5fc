"""Reliability diagram of a model's confidence."""

from gpt_keras.evaluation.calibration_error import Calibration
from gpt_keras.plots.figure import STYLES, Figure


def reliability(result: Calibration) -> Figure:
    """Draw a reliability diagram: accuracy against confidence, bin by bin.

    Points on the dotted diagonal are calibrated. Below it, the model is too sure. A line at a point
    is its accuracy plus and minus one standard error, and the lower panel has the number of items.

    Args:
        result: Result of `gk.evaluation.calibration`.

    Returns:
        The figure.

    Raises:
        ValueError: `result` is something else.

    Example:
        >>> import gpt_keras as gk
        >>> result = gk.evaluation.calibration([0.95] * 9 + [0.55] * 9, [1, 1, 0] * 6)
        >>> figure = gk.plots.reliability(result)
        >>> figure.axes[0].get_title()
        'expected calibration error 0.200 ± 0.096'
    """
    if not isinstance(result, Calibration):
        raise ValueError(
            f"`result` must be a Calibration of `gk.evaluation.calibration`, got {result!r}."
        )
    figure = Figure(figsize=(4.6, 5), layout="compressed")
    axes, counts = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    axes.plot([0, 1], [0, 1], color="black", linestyle=":", label="calibrated")
    axes.errorbar(
        [found.confidence for found in result.bins],
        [found.accuracy.value for found in result.bins],
        [found.accuracy.standard_error for found in result.bins],
        capsize=3,
        label="model",
        **STYLES[0],
    )
    axes.set_title(f"expected calibration error {result.expected_calibration_error}")
    axes.set_ylabel("accuracy")
    axes.set_ylim(-0.02, 1.02)
    axes.legend()
    for found in result.bins:
        counts.bar(
            found.low,
            found.accuracy.num_items,
            found.high - found.low,
            align="edge",
            color="0.7",
            edgecolor="black",
        )
    counts.set_xlabel("confidence")
    counts.set_ylabel("items")
    counts.set_xlim(0, 1)
    return figure
