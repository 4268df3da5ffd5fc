"""The figure of a confusion matrix holds its numbers, shares and names."""

import numpy as np
import pytest

import gpt_keras as gk
from gpt_keras import plots


def cells(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_confusion_matrix_holds_numbers_and_shares():
    matrix = np.array([[1200, 300], [0, 50]])
    figure = plots.confusion_matrix(matrix, ["ham", "$spam"])
    axes = figure.axes[0]
    assert cells(figure) == ["1,200", "300", "0", "50"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.8, 0.2], [0, 1]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ham", "$spam"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    # Numbers on dark cells are white.
    assert [text.get_color() for text in axes.texts] == ["white", "black", "black", "white"]
    figure.savefig("/dev/null", format="png")


def test_a_class_without_examples_has_no_shares():
    figure = plots.confusion_matrix([[0, 0], [1, 1]], [0, 1])
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[0, 0], [0.5, 0.5]])


def test_many_classes_have_no_numbers():
    figure = plots.confusion_matrix(np.eye(17, dtype=int), range(17))
    assert cells(figure) == []


def test_chinese_names():
    try:
        font = plots.chinese_font()
    except RuntimeError:
        pytest.skip("no Chinese font")
    report = gk.evaluation.classification_report(["正面", "负面"], ["正面", "正面"])
    figure = plots.confusion_matrix(report.confusion_matrix, report.class_names)
    labels = figure.axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == ["正面", "负面"]
    assert font in labels[0].get_fontfamily()


@pytest.mark.parametrize(
    ("matrix", "names", "message"),
    [
        (np.zeros((2, 3), int), ["a", "b"], r"each of the 2 `class_names`, got the shape \(2, 3\)"),
        (np.zeros((0, 0), int), [], "got the shape"),
        ([[0.5, 0.5], [0, 1]], ["a", "b"], "integers of at least 0"),
        ([[-1, 0], [0, 1]], ["a", "b"], "integers of at least 0"),
        (np.eye(41, dtype=int), range(41), "at most 40, got 41"),
    ],
)
def test_what_is_no_confusion_matrix_is_refused(matrix, names, message):
    with pytest.raises(ValueError, match=message):
        plots.confusion_matrix(matrix, names)
