"""Figure of a classifier's confusion matrix."""

from collections.abc import Sequence

import numpy as np

from gpt_keras.plots.figure import Figure, tick_rotation
from gpt_keras.plots.fonts import drawable, fonts_for

_MAX_CLASSES = 40  # the labels of more classes are unreadable
_MAX_NUMBERS = 16  # numbers in the cells of more classes overlap
_SHORT_NAME = 6  # characters of a name that fits below its column


def confusion_matrix(matrix: np.ndarray, class_names: Sequence[str | int]) -> Figure:
    """Draw a confusion matrix: true classes as rows, predicted classes as columns.

    The shade of a cell is its share of its row: the diagonal shows the recall of each class. The
    number in a cell is the number of examples.

    Args:
        matrix: `(classes, classes)` numbers of examples, the `confusion_matrix` of
            `gk.evaluation.classification_report`.
        class_names: Name of each class, in any script.

    Returns:
        The figure. Cells of more than 16 classes have no numbers.

    Raises:
        ValueError: `matrix` is not square with a row for each class, a number is negative, or
            there are more than 40 classes.
        RuntimeError: A name is Chinese and no installed font has Chinese glyphs.

    Example:
        >>> import gpt_keras as gk
        >>> report = gk.evaluation.classification_report(["ham", "spam"], ["ham", "ham"])
        >>> figure = gk.plots.confusion_matrix(report.confusion_matrix, report.class_names)
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['1', '0', '1', '0']
    """
    matrix = np.asarray(matrix)
    count = len(class_names)
    if matrix.shape != (count, count) or count == 0:
        raise ValueError(
            f"`matrix` must be (classes, classes) with a row for each of the {count} "
            f"`class_names`, got the shape {matrix.shape}."
        )
    if matrix.dtype.kind not in "iu" or matrix.min() < 0:
        raise ValueError("`matrix` must hold numbers of examples, integers of at least 0.")
    if count > _MAX_CLASSES:
        raise ValueError(f"`class_names` must be at most {_MAX_CLASSES}, got {count}.")
    names = [str(name) for name in class_names]
    fonts = fonts_for("".join(names))
    labels = [drawable(name, fonts) for name in names]
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)

    side = 2.2 + max(0.75 * count if count <= _MAX_NUMBERS else 0.28 * count, 1.5)
    figure = Figure(figsize=(side + 1.6, side), layout="compressed")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Greys", vmin=0, vmax=1)
    rotation = tick_rotation(labels, _SHORT_NAME)
    axes.set_xticks(range(count), labels, rotation=rotation, fontfamily=fonts)
    axes.set_yticks(range(count), labels, fontfamily=fonts)
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set_parse_math(False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if count <= _MAX_NUMBERS:
        for row, column in np.ndindex(matrix.shape):
            color = "white" if shares[row, column] > 0.5 else "black"
            number = f"{matrix[row, column]:,}"
            axes.text(column, row, number, ha="center", va="center", color=color)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    return figure
