"""Figure of evaluation results: metrics with intervals, models side by side."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from gpt_keras.evaluation.estimate import Estimate
from gpt_keras.evaluation.suites.result import SuiteResult
from gpt_keras.evaluation.tasks.task import TaskResult
from gpt_keras.plots.figure import STYLES, Figure
from gpt_keras.plots.fonts import drawable, fonts_for

# Metrics of a model: a `SuiteResult`, results of tasks, or `{task: {metric: estimate}}`.
_Results = SuiteResult | Iterable[TaskResult] | Mapping[str, Mapping[str, Estimate]]

_ROW_HEIGHT, _MODEL_HEIGHT = 0.3, 0.16  # inches


def evaluation(
    results: Mapping[str, _Results],
    *,
    chance: Mapping[str, Mapping[str, float]] | None = None,
) -> Figure:
    """Draw metrics of tasks with their 95% intervals, models side by side.

    Each metric has a panel, and each of its tasks a row there. The metric of a group, such as
    `ss (gender)`, is a row in the panel of `ss`. Intervals may overlap although a paired test finds
    a difference: use `gk.evaluation.compare` to decide which model is better.

    Args:
        results: For each name of a model its results: a `SuiteResult`, several `TaskResult`s, or a
            dict from tasks to metrics with their estimates. At most five models.
        chance: Metrics of guessing, as `{task: {metric: value}}`. A dashed line marks each.

    Returns:
        The figure. The points of a model have a marker of their own. An estimate without a standard
        error has no interval.

    Raises:
        ValueError: There is no result, or there are more than five models.
        RuntimeError: A name is Chinese and no installed font has Chinese glyphs.

    Example:
        >>> import gpt_keras as gk
        >>> base = {"piqa": {"acc": gk.evaluation.Estimate(0.632, 0.022, 500)}}
        >>> tuned = {"piqa": {"acc": gk.evaluation.Estimate(0.65, 0.021, 500)}}
        >>> figure = gk.plots.evaluation(
        ...     {"base": base, "tuned": tuned}, chance={"piqa": {"acc": 0.5}}
        ... )
        >>> figure.axes[0].get_xlabel()
        'acc'
    """
    if not 1 <= len(results) <= len(STYLES):
        raise ValueError(f"`results` must hold 1 to {len(STYLES)} models, got {len(results)}.")
    points = {model: dict(_points(found)) for model, found in results.items()}
    panels: dict[str, dict[str, None]] = {}  # the rows of each panel, in order
    for panel, row in (place for found in points.values() for place in found):
        panels.setdefault(panel, {})[row] = None
    if not panels:
        raise ValueError("`results` must hold a metric of a task, got none.")
    names = [*points, *panels, *(row for rows in panels.values() for row in rows)]
    fonts = fonts_for("".join(names))
    levels = dict(_places(chance or {}))

    height = _ROW_HEIGHT + _MODEL_HEIGHT * len(points)
    heights = [len(rows) * height for rows in panels.values()]
    size = (6.4, sum(heights) + 0.7 * len(panels) + (0.5 if len(points) > 1 else 0))
    figure = Figure(figsize=size, layout="constrained")
    all_axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (panel, rows) in zip(all_axes, panels.items(), strict=True):
        places = [(panel, row) for row in rows]
        for number, (model, found) in enumerate(points.items()):
            estimates = [found.get(place) for place in places]
            _draw_points(axes, estimates, number, len(points), drawable(model, fonts))
        _draw_chance(axes, [levels.get(place) for place in places])
        axes.set_yticks(range(len(rows)), [drawable(row, fonts) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)  # the first row is on top
        axes.set_xlabel(drawable(panel, fonts))
        axes.grid(axis="x", alpha=0.3)
        for text in (*axes.get_yticklabels(), axes.xaxis.label):
            text.set(fontfamily=fonts, parse_math=False)
    _draw_legend(figure, all_axes, [drawable(model, fonts) for model in points], fonts)
    return figure


def _points(found: _Results) -> Iterator[tuple[tuple[str, str], Estimate]]:
    """Yield panel and row of each estimate, and the estimate."""
    if isinstance(found, SuiteResult):
        found = found.tasks
    if not isinstance(found, Mapping):
        found = {result.task: result for result in found}
    return _places(
        {
            task: metrics.metrics if isinstance(metrics, TaskResult) else metrics
            for task, metrics in found.items()
        }
    )


def _places(values: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[tuple[str, str], Any]]:
    for task, metrics in values.items():
        for metric, value in metrics.items():
            group = re.fullmatch(r"(.+?) (\(.+\))", metric)
            yield (group[1], f"{task} {group[2]}") if group else (metric, task), value


def _draw_points(axes, estimates, number, num_models, label) -> None:
    """Draw the points of a model, below the points of the models before it."""
    places = [i for i, estimate in enumerate(estimates) if estimate is not None]
    if not places:
        return
    estimates = [estimates[i] for i in places]
    offset = (number - (num_models - 1) / 2) * 0.7 / num_models
    style = STYLES[number]
    axes.errorbar(
        [estimate.value for estimate in estimates],
        np.array(places) + offset,
        # NaN, the standard error of a single item, draws no interval.
        xerr=[1.96 * estimate.standard_error for estimate in estimates],
        color=style["color"],
        marker=style["marker"],
        # Every second marker is hollow, for black and white.
        markerfacecolor="white" if number % 2 else style["color"],
        linestyle="none",
        capsize=3,
        label=label,
    )


def _draw_chance(axes, levels) -> None:
    label = "chance"
    for i, level in enumerate(levels):
        if level is not None:
            axes.plot(
                [level, level],
                [i - 0.45, i + 0.45],
                color="black",
                linestyle="--",
                linewidth=1,
                label=label,
            )
            label = None


def _draw_legend(figure, all_axes, models, fonts) -> None:
    """Put a legend above the figure if there is more than one kind of mark."""
    found = {}
    for axes in all_axes:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            found.setdefault(label, handle)
    names = [name for name in (*models, "chance") if name in found]
    if len(names) > 1:
        handles = [found[name] for name in names]
        legend = figure.legend(handles, names, loc="outside upper center", ncols=min(3, len(names)))
        for text in legend.get_texts():
            text.set(fontfamily=fonts, parse_math=False)
