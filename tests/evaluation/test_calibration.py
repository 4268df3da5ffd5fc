"""Calibration against scikit-learn and by hand; the figure holds its numbers."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

import gpt_keras as gk

evaluation = gk.evaluation


def drawn(num_items=400):
    generator = np.random.default_rng(0)
    confidences = generator.uniform(0.2, 1, num_items)
    return confidences, generator.uniform(size=num_items) < confidences**1.5


@pytest.mark.parametrize("num_bins", [1, 5, 15])
def test_bins_are_those_of_scikit_learn(num_bins):
    confidences, is_correct = drawn()
    found = evaluation.calibration(confidences, is_correct, num_bins=num_bins)
    accuracies, means = calibration_curve(is_correct, confidences, n_bins=num_bins)
    np.testing.assert_allclose([bin.accuracy.value for bin in found.bins], accuracies)
    np.testing.assert_allclose([bin.confidence for bin in found.bins], means)
    counts = np.array([bin.accuracy.num_items for bin in found.bins])
    assert counts.sum() == 400
    expected = (counts * np.abs(accuracies - means)).sum() / 400
    assert found.expected_calibration_error.value == pytest.approx(expected)
    assert found.accuracy == is_correct.mean()


def test_a_calibrated_model_has_an_error_that_shrinks():
    generator = np.random.default_rng(0)
    errors = []
    for num_items in (100, 10_000):
        confidences = generator.uniform(size=num_items)
        is_correct = generator.uniform(size=num_items) < confidences
        found = evaluation.calibration(confidences, is_correct).expected_calibration_error
        errors.append(found.value)
    assert errors[1] < 0.02 < errors[0]


def test_the_borders_of_bins():
    # A bin has its upper end: 0.7 lies in (0.6, 0.7], and 0 in the first bin.
    found = evaluation.calibration([0.0, 0.1, 0.7, 1.0], [0, 0, 1, 1])
    assert [round(bin.high, 1) for bin in found.bins] == [0.1, 0.7, 1.0]
    assert [bin.accuracy.num_items for bin in found.bins] == [2, 1, 1]


def test_confidences_of_choices():
    records = [
        {"log_probabilities": np.log([0.02, 0.06]).tolist(), "answer": 1},
        {"log_probabilities": [-1000.0, -1000.0, -1001.0], "answer": 2},
    ]
    confidences, is_correct = evaluation.choice_confidences(records)
    np.testing.assert_allclose(confidences, [0.75, 1 / (2 + np.exp(-1))])
    assert is_correct == [True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "`confidences` must be one number from 0 to 1 for each item, got"),
        (([1.2], [1]), "`confidences` must be one number from 0 to 1"),
        (([np.nan], [1]), "`confidences` must be one number from 0 to 1"),
        ((["a"], [1]), "`confidences` must be numbers"),
        (([0.5, 0.5], [1]), r"one truth value for each of 2 items, got an array of shape \(1,\)"),
        (([0.5], [0.5]), "one truth value for each of 1 items"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluation.calibration(*arguments)


def test_other_bad_arguments():
    with pytest.raises(ValueError, match="`num_bins` must be an integer of at least 1, got 0"):
        evaluation.calibration([0.5], [1], num_bins=0)
    with pytest.raises(ValueError, match="`records` must hold at least one record"):
        evaluation.choice_confidences([])
    with pytest.raises(ValueError, match="got 'answer' in record 0"):
        evaluation.choice_confidences([{"answer": 0}])
    with pytest.raises(ValueError, match="`result` must be a Calibration"):
        gk.plots.reliability([0.5])


def test_the_figure_holds_the_bins():
    found = evaluation.calibration(*drawn(), num_bins=5)
    figure = gk.plots.reliability(found)
    axes, counts = figure.axes
    [container] = axes.containers
    points = container[0]
    np.testing.assert_allclose(list(points.get_xdata()), [bin.confidence for bin in found.bins])
    np.testing.assert_allclose(list(points.get_ydata()), [bin.accuracy.value for bin in found.bins])
    heights = [patch.get_height() for patch in counts.patches]
    assert heights == [bin.accuracy.num_items for bin in found.bins]
    figure.savefig("/dev/null", format="png")
