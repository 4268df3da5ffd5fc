"""Parts shared by all figures: styles, axes, legends."""

import io
from collections.abc import Sequence

import matplotlib.axes
import matplotlib.figure

# Colour, line style and marker of each series, as arguments of `Axes.plot`.
STYLES = (
    {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    {"color": "#009E73", "linestyle": "-.", "marker": "^"},
    {"color": "#555555", "linestyle": ":", "marker": "D"},
    {"color": "#CC79A7", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
)


class Figure(matplotlib.figure.Figure):
    """Matplotlib figure that notebooks display without pyplot.

    Example:
        >>> import gpt_keras as gk
        >>> figure = gk.plots.training({"loss": [3.0, 2.5]})
        >>> isinstance(figure, gk.plots.Figure)
        True
    """

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", bbox_inches="tight")
        return file.getvalue()


def new_axes(xlabel: str, ylabel: str) -> tuple[Figure, matplotlib.axes.Axes]:
    """Return a figure with a single `Axes` that has a grid, and that `Axes`."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)
    return figure, axes


def legend_above(figure: Figure, axes: matplotlib.axes.Axes) -> None:
    """Put the legend above the axes, where it covers no curve."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)


def tick_rotation(names: Sequence[str], longest: int) -> int:
    """Return the rotation of tick labels in degrees: 0 if all are short, else 90."""
    return 0 if max(map(len, names)) <= longest else 90
