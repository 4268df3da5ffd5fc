"""Precision, recall, F1 and the confusion matrix of predicted classes."""

import reprlib
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gpt_keras.texts import as_list_of_texts


class ClassScores(NamedTuple):
    """Scores of one class, or their averages over the classes.

    Attributes:
        precision: Share of the examples predicted as this class that belong to it.
        recall: Share of the examples of this class that were predicted as it.
        f1: Harmonic mean of precision and recall.
        support: Number of examples of this class.

    Example:
        >>> import gpt_keras as gk
        >>> report = gk.evaluation.classification_report([0, 1, 1], [0, 1, 0])
        >>> report.classes[1]
        ClassScores(precision=1.0, recall=0.5, f1=0.6666666666666666, support=2)
    """

    precision: float
    recall: float
    f1: float
    support: int


class ClassificationReport(NamedTuple):
    """Result of `classification_report`; `print` shows it as a table.

    Attributes:
        class_names: The classes: names, or numbers.
        accuracy: Share of the examples with the right class.
        classes: `ClassScores` by class.
        macro: Mean of the scores of the classes, each with the same weight.
        weighted: Mean of the scores of the classes, weighted by their support.
        confusion_matrix: Number of examples by true class (rows) and predicted class (columns),
            for `gk.plots.confusion_matrix`.

    Example:
        >>> import gpt_keras as gk
        >>> report = gk.evaluation.classification_report(["a", "b", "b"], ["a", "b", "a"])
        >>> report.class_names, report.confusion_matrix.tolist()
        (('a', 'b'), [[1, 0], [1, 1]])
    """

    class_names: tuple[str | int, ...]
    accuracy: float
    classes: dict[str | int, ClassScores]
    macro: ClassScores
    weighted: ClassScores
    confusion_matrix: np.ndarray

    def __str__(self):
        rows = {**self.classes, "macro average": self.macro, "weighted average": self.weighted}
        width = max(_columns(str(name)) for name in rows)
        lines = [f"{'':{width}}  precision  recall      f1  support"]
        for name, row in rows.items():
            padding = " " * (width - _columns(str(name)))
            lines.append(
                f"{name}{padding}  {row.precision:9.3f}  {row.recall:6.3f}  {row.f1:6.3f}  "
                f"{row.support:7,}"
            )
        return "\n".join([*lines, f"accuracy {self.accuracy:.3f}"])


def classification_report(
    y_true: Sequence, y_pred: Sequence, class_names: Sequence[str] | None = None
) -> ClassificationReport:
    """Return precision, recall, F1 and the confusion matrix, computed by scikit-learn.

    A score that would divide by zero is 0: the precision of a class that was never predicted, and
    the recall of a class without examples.

    Args:
        y_true: Right class of each example, by name or number.
        y_pred: Predicted class of each example, such as the labels of `GPTClassifier.classify`.
        class_names: All classes, in the order of the report, such as `model.class_names`. With
            names, `y_true` and `y_pred` may also be class numbers. Default: the sorted classes of
            `y_true` and `y_pred`.

    Returns:
        A `ClassificationReport`.

    Raises:
        ValueError: `y_true` is empty or has another length than `y_pred`, names and numbers are
            mixed, or a class is not in `class_names`.
        ImportError: The package scikit-learn is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> report = gk.evaluation.classification_report(
        ...     ["ham", "ham", "spam", "spam"], ["ham", "spam", "spam", "spam"]
        ... )
        >>> print(report)
                          precision  recall      f1  support
        ham                   1.000   0.500   0.667        2
        spam                  0.667   1.000   0.800        2
        macro average         0.833   0.750   0.733        4
        weighted average      0.833   0.750   0.733        4
        accuracy 0.750
    """
    metrics = _sklearn_metrics()
    names = None if class_names is None else as_list_of_texts("class_names", class_names)
    if names is not None and (not names or len(set(names)) < len(names)):
        raise ValueError(f"`class_names` must be different names, got {reprlib.repr(names)}.")
    true, predicted = _classes("y_true", y_true, names), _classes("y_pred", y_pred, names)
    if len(true) != len(predicted) or not true:
        raise ValueError(
            "`y_true` and `y_pred` must have the same number of classes, at least one; got "
            f"{len(true)} and {len(predicted)}."
        )
    if type(true[0]) is not type(predicted[0]):
        raise ValueError(
            f"`y_true` and `y_pred` must both be names or both be numbers, got {true[0]!r} and "
            f"{predicted[0]!r}."
        )
    labels = names or sorted({*true, *predicted})
    averages = [
        ClassScores(*map(float, values[:3]), len(true))
        for values in (
            metrics.precision_recall_fscore_support(
                true, predicted, labels=labels, average=average, zero_division=0.0
            )
            for average in ("macro", "weighted")
        )
    ]
    columns = metrics.precision_recall_fscore_support(
        true, predicted, labels=labels, zero_division=0.0
    )
    classes = {
        label: ClassScores(*map(float, scores), int(support))
        for label, *scores, support in zip(labels, *columns, strict=True)
    }
    return ClassificationReport(
        class_names=tuple(labels),
        accuracy=float(metrics.accuracy_score(true, predicted)),
        classes=classes,
        macro=averages[0],
        weighted=averages[1],
        confusion_matrix=metrics.confusion_matrix(true, predicted, labels=labels),
    )


def _classes(name: str, values: Any, names: list[str] | None) -> list[str] | list[int]:
    """Return classes as a list of names, or of numbers if no names are known."""
    values = values if hasattr(values, "__array__") else list(values)
    array = np.asarray(values)
    if array.shape == (0,):
        return []
    if array.ndim != 1 or array.dtype.kind not in "iuOSUT":
        raise ValueError(
            f"`{name}` must hold one class for each example, a name or a number; got "
            f"{reprlib.repr(values)}."
        )
    if array.dtype.kind in "iu":
        numbers = array.tolist()
        if names is None:
            return numbers
        unknown = next((number for number in numbers if not 0 <= number < len(names)), None)
        classes = [] if unknown is not None else [names[number] for number in numbers]
    else:
        classes = as_list_of_texts(name, values)
        known = classes if names is None else names
        unknown = next((found for found in classes if found not in known), None)
    if unknown is not None:
        raise ValueError(
            f"`{name}` must hold names of `class_names`, {reprlib.repr(names)}, or their numbers; "
            f"got {unknown!r}."
        )
    return classes


def _columns(text: str) -> int:
    """Return the columns of a text in a terminal, where a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _sklearn_metrics():
    try:
        from sklearn import metrics
    except ImportError as error:
        raise ImportError(
            "Reports need scikit-learn: pip install 'gpt_keras[evaluation]'"
        ) from error
    return metrics
