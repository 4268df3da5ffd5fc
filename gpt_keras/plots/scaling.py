"""Figures of scaling laws: loss against model size."""

from collections.abc import Sequence

import numpy as np

from gpt_keras.evaluation.scaling_law import PowerLaw
from gpt_keras.plots.figure import STYLES, Figure


def scaling_law(sizes: Sequence[float], losses: Sequence[float], law: PowerLaw) -> Figure:
    """Draw losses against model sizes, with a fitted power law and its residuals.

    Args:
        sizes: `(number,)`, numbers of parameters without embeddings.
        losses: `(number,)`, one loss for each size, in nats per token.
        law: The law, from `gk.evaluation.fit_power_law`.

    Returns:
        The figure. The upper panel shows losses and law, the lower panel the residuals. The axis of
        sizes is logarithmic.

    Example:
        >>> import gpt_keras as gk
        >>> law = gk.evaluation.PowerLaw(1.5, 20.0, 0.3)
        >>> sizes = [1e3, 1e4, 1e5]
        >>> len(gk.plots.scaling_law(sizes, law(sizes), law).axes)
        2
    """
    sizes, losses = np.asarray(sizes, dtype=float), np.asarray(losses, dtype=float)
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    dense = np.geomspace(sizes.min() / 1.5, sizes.max() * 1.5, 200)
    above.plot(
        dense,
        law(dense),
        color=STYLES[1]["color"],
        linestyle=STYLES[1]["linestyle"],
        label=f"{law.floor:.2f} + {law.scale:.3g} × size$^{{-{law.exponent:.3f}}}$",
    )
    above.plot(
        sizes, losses, color=STYLES[0]["color"], marker="o", linestyle="none", label="measured"
    )
    above.set_xscale("log")
    above.set_ylabel("loss (nats per token)")
    above.legend()
    below.axhline(0, color=STYLES[1]["color"], linestyle=STYLES[1]["linestyle"])
    below.plot(sizes, losses - law(sizes), color=STYLES[0]["color"], marker="o", linestyle="none")
    below.set_ylabel("residual")
    below.set_xlabel("parameters, embeddings left out")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    return figure
