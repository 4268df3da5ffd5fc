"""Scores of predicted classes, against their definitions."""

import sys

import numpy as np
import pytest

import gpt_keras as gk

report = gk.evaluation.classification_report


def by_definition(true, predicted, label):
    both = sum(t == p == label for t, p in zip(true, predicted, strict=True))
    precision = both / max(predicted.count(label), 1)
    recall = both / max(true.count(label), 1)
    f1 = 2 * precision * recall / (precision + recall) if both else 0.0
    return precision, recall, f1, true.count(label)


@pytest.mark.parametrize("names", [None, ["正面", "a", "负面", "never"]])
def test_scores_are_their_definitions(names):
    generator = np.random.default_rng(0)
    true = generator.choice(["a", "正面", "负面"], 200).tolist()
    predicted = [t if generator.random() < 0.6 else "a" for t in true]
    result = report(true, predicted, names)
    labels = names or sorted(set(true))
    assert result.class_names == tuple(labels)
    for label in labels:
        assert result.classes[label] == pytest.approx(by_definition(true, predicted, label))
    assert result.accuracy == pytest.approx(np.mean(np.array(true) == np.array(predicted)))
    scores = np.array([result.classes[label] for label in labels])
    np.testing.assert_allclose(result.macro[:3], scores[:, :3].mean(0))
    np.testing.assert_allclose(result.weighted[:3], np.average(scores[:, :3], 0, scores[:, 3]))
    assert result.macro.support == result.weighted.support == 200
    for row, one in enumerate(labels):
        for column, other in enumerate(labels):
            count = sum((t, p) == (one, other) for t, p in zip(true, predicted, strict=True))
            assert result.confusion_matrix[row, column] == count
    lines = str(result).splitlines()
    assert len(lines) == len(labels) + 4
    assert lines[1].split()[0] == labels[0]


def test_numbers_stand_for_names():
    expected = report(["b", "a", "b"], ["b", "b", "b"], ["b", "a"])
    for true in ([0, 1, 0], np.array([0, 1, 0]), np.array(["b", "a", "b"])):
        result = report(true, [0, 0, 0], ["b", "a"])
        assert result.classes == expected.classes
    result = report(np.array([3, 1, 3]), [1, 1, 3])
    assert result.class_names == (1, 3)
    assert result.confusion_matrix.tolist() == [[1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("true", "predicted", "names", "message"),
    [
        ([], [], None, "at least one; got 0 and 0"),
        (["a"], ["a", "b"], None, "same number of classes, at least one; got 1 and 2"),
        (["a"], [0], None, "both be names or both be numbers, got 'a' and 0"),
        (["a", "c"], ["a", "b"], ["a", "b"], r"`y_true` .* \['a', 'b'\], .* got 'c'"),
        (["a"], [2], ["a", "b"], r"`y_pred` must hold names of `class_names`.*got 2"),
        (["a"], ["a"], ["a", "a"], "`class_names` must be different names"),
        (["a"], ["a"], "ab", "`class_names` must be several strings"),
        ([0.5], [1], None, "`y_true` must hold one class for each example"),
        (["a", 3], ["a", "a"], None, "`y_true` must hold strings, got 3"),
        ([[1, 0]], [1], None, "`y_true` must hold one class for each example"),
    ],
)
def test_what_is_no_list_of_classes_is_refused(true, predicted, names, message):
    with pytest.raises(ValueError, match=message):
        report(true, predicted, names)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install 'gpt_keras\[evaluation\]'"):
        report(["a"], ["a"])
