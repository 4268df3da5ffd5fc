"""Parts that all figures share: styles, axes, legends."""

import io
from collections.abc import Sequence

import matplotlib.axes
import matplotlib.figure

# A colour, a line style and a marker for each series, as arguments of `Axes.plot`.
STYLES = (
    {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    {"color": "#009E73", "linestyle": "-.", "marker": "^"},
    {"color": "#555555", "linestyle": ":", "marker": "D"},
    {"color": "#CC79A7", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
)


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure that a notebook shows even where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", bbox_inches="tight")
        return file.getvalue()


def new_axes(xlabel: str, ylabel: str) -> tuple[Figure, matplotlib.axes.Axes]:
    """Return a figure and its one pair of axes, with a grid."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)
    return figure, axes


def legend_above(figure: Figure, axes: matplotlib.axes.Axes) -> None:
    """Put the legend of the axes above them, where it covers no curve."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)


def tick_rotation(names: Sequence[str], longest: int) -> int:
    """Return by how many degrees labels below columns are turned: 0 if each has room."""
    return 0 if max(map(len, names)) <= longest else 90
