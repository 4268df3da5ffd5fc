"""The figure of evaluation results holds the values, intervals, models and chance levels."""

import math

import numpy as np
import pytest

import gpt_keras as gk
from gpt_keras import plots
from gpt_keras.evaluation import Estimate, SuiteResult, TaskResult

BASE = {
    "piqa": {"acc": Estimate(0.6, 0.02, 500), "acc_norm": Estimate(0.65, 0.01, 500)},
    "boolq": {"acc": Estimate(0.5, 0.03, 300)},
}


def points(axes):
    """The points and intervals of each model in a panel, in the order of the models."""
    found = {}
    for container in axes.containers:
        line, _, (bars,) = container.lines
        ends = [np.array(segment)[:, 0] for segment in bars.get_segments()]
        found[container.get_label()] = list(zip(line.get_xdata(), line.get_ydata(), ends))
    return found


def rows(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_points_and_intervals():
    figure = plots.evaluation({"base": BASE})
    accuracy, normalized = figure.axes
    assert (accuracy.get_xlabel(), normalized.get_xlabel()) == ("acc", "acc_norm")
    assert (rows(accuracy), rows(normalized)) == (["piqa", "boolq"], ["piqa"])
    (piqa, boolq) = points(accuracy)["base"]
    assert (piqa[0], piqa[1], boolq[0], boolq[1]) == (0.6, 0, 0.5, 1)
    np.testing.assert_allclose(piqa[2], [0.6 - 1.96 * 0.02, 0.6 + 1.96 * 0.02])
    np.testing.assert_allclose(boolq[2], [0.5 - 1.96 * 0.03, 0.5 + 1.96 * 0.03])
    low, high = sorted(accuracy.get_ylim())
    assert (low, high) == (-0.5, 1.5)
    assert figure.legends == []  # one model needs none


def test_models_stand_side_by_side():
    tuned = {"piqa": {"acc": Estimate(0.7, 0.02, 500)}, "arc": {"acc": Estimate(0.3, 0.1, 20)}}
    figure = plots.evaluation({"base": BASE, "tuned": tuned, "other": tuned})
    accuracy = figure.axes[0]
    assert rows(accuracy) == ["piqa", "boolq", "arc"]
    found = points(accuracy)
    assert list(found) == ["base", "tuned", "other"]
    heights = [found[model][0][1] for model in found]
    assert heights == sorted(heights)
    assert max(heights) < 0.5
    assert [round(y) for _, y, _ in found["tuned"]] == [0, 2]
    lines = [container.lines[0] for container in accuracy.containers]
    assert len({line.get_marker() for line in lines}) == 3
    assert lines[1].get_markerfacecolor() == "white" != lines[0].get_markerfacecolor()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["base", "tuned", "other"]


def test_chance_levels():
    figure = plots.evaluation({"base": BASE}, chance={"boolq": {"acc": 0.5}, "no": {"acc": 0.1}})
    dashed = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert [(line.get_xdata()[0], round(np.mean(line.get_ydata()))) for line in dashed] == [
        (0.5, 1)
    ]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["base", "chance"]


def test_the_kinds_of_results():
    tasks = [TaskResult(task, metrics, [], 0) for task, metrics in BASE.items()]
    suite = SuiteResult({}, {result.task: result for result in tasks})
    figure = plots.evaluation({"dict": BASE, "list": tasks, "suite": suite, "dict2": suite.tasks})
    found = points(figure.axes[0])
    values = [[x for x, _, _ in found[model]] for model in found]
    assert values == [[0.6, 0.5]] * 4


def test_groups_are_rows():
    metrics = {
        "ss": Estimate(55, 2, 90),
        "ss (gender)": Estimate(60, 5, 30),
        "icat": Estimate(60, 3, 9),
    }
    figure = plots.evaluation({"base": {"stereoset": metrics}})
    assert [axes.get_xlabel() for axes in figure.axes] == ["ss", "icat"]
    assert rows(figure.axes[0]) == ["stereoset", "stereoset (gender)"]


def test_an_estimate_without_a_standard_error(tmp_path):
    figure = plots.evaluation({"a": {"piqa": {"acc": Estimate(0.6, math.nan, 1)}}})
    (container,) = figure.axes[0].containers
    assert container.lines[0].get_xdata() == [0.6]
    figure.savefig(tmp_path / "figure.png")


def test_names_are_drawn_as_they_are(tmp_path):
    try:
        font = plots.chinese_font()
    except RuntimeError:
        pytest.skip("no Chinese font")
    results = {"通义": {"法律_常识": {"acc": Estimate(0.3, 0.1, 20)}}, "$a$": BASE}
    figure = plots.evaluation(results)
    label = figure.axes[0].get_yticklabels()[0]
    assert label.get_text() == "法律_常识"
    assert font in label.get_fontfamily()
    texts = figure.legends[0].get_texts()
    assert [text.get_text() for text in texts] == ["通义", "$a$"]
    assert font in texts[0].get_fontfamily()
    assert not texts[1].get_parse_math()
    figure.savefig(tmp_path / "figure.png")


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({}, "`results` must hold 1 to 5 models, got 0"),
        (dict.fromkeys("abcdef", BASE), "`results` must hold 1 to 5 models, got 6"),
        ({"a": {}}, "`results` must hold a metric of a task"),
    ],
)
def test_wrong_results(results, message):
    with pytest.raises(ValueError, match=message):
        gk.plots.evaluation(results)
