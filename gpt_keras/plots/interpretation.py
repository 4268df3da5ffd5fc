"""Figures of the results of `gk.interpretation`."""

from collections.abc import Sequence

import numpy as np

from gpt_keras.plots.figure import Figure, new_axes, tick_rotation
from gpt_keras.plots.fonts import token_labels

_MAX_CELLS = 64  # the labels of more columns are unreadable


def by_head(values: np.ndarray, label: str) -> Figure:
    """Draw a heat map of numbers by layer and head.

    Args:
        values: `(layers, heads)`, for example from `gk.interpretation.head_ablation`.
        label: Meaning of the numbers and their unit, for the colour bar.

    Returns:
        The figure. Darker cells have larger absolute values. Each cell shows its number.

    Raises:
        ValueError: `values` is not two-dimensional or not finite, or there are more than 64 heads.

    Example:
        >>> import gpt_keras as gk
        >>> import numpy as np
        >>> figure = gk.plots.by_head(np.array([[0.1, -0.2]]), "change in loss (nats)")
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['0.100', '−0.200']
    """
    values = _table("values", values)
    names = [f"{head}" for head in range(values.shape[1])]
    return _by_layer(values, names, None, "head", label)


def by_token(values: np.ndarray, tokens: Sequence[str], label: str) -> Figure:
    """Draw a heat map of numbers by layer and token.

    Args:
        values: `(layers, length)`, for example from `gk.interpretation.layer_patching`.
        tokens: The text of each token. A space is drawn as ␣, a line end as ⏎.
        label: Meaning of the numbers and their unit, for the colour bar.

    Returns:
        The figure. Darker cells have larger absolute values. Each cell shows its number.

    Raises:
        ValueError: `values` is not two-dimensional with one column for each token, is not finite,
            or there are more than 64 tokens.
        RuntimeError: A token is Chinese and no installed font has Chinese glyphs.

    Example:
        >>> import gpt_keras as gk
        >>> import numpy as np
        >>> figure = gk.plots.by_token(np.zeros((2, 2)), ["a", " b"], "change in loss (nats)")
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['a', '␣b']
    """
    values = _table("values", values, len(tokens))
    names, fonts = token_labels(tokens)
    return _by_layer(values, names, fonts, "token", label)


def _by_layer(values, names, fonts, xlabel, label) -> Figure:
    num_layers, number = values.shape
    figure = Figure(figsize=(2.2 + 0.55 * number, 1.3 + 0.36 * num_layers), layout="constrained")
    axes = figure.subplots()
    largest = max(np.abs(values).max(), 1e-12)
    # The shade shows the absolute value; the sign is in the number.
    image = axes.imshow(np.abs(values), cmap="Greys", vmin=0, vmax=largest, aspect="auto")
    digits = int(np.clip(2 - np.floor(np.log10(largest)), 0, 4)) if largest < 1 else 1
    for layer in range(num_layers):
        for column in range(number):
            value = round(float(values[layer, column]), digits) + 0.0  # turns -0.0 into 0.0
            colour = "white" if abs(value) > 0.55 * largest else "black"
            text = f"{value:.{digits}f}".replace("-", "−")
            axes.text(column, layer, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(number), names, fontfamily=fonts, rotation=tick_rotation(names, 2))
    axes.set_yticks(range(num_layers))
    for text in axes.get_xticklabels():
        text.set_parse_math(False)
    axes.set_xlabel(xlabel)
    axes.set_ylabel("layer")
    figure.colorbar(image, ax=axes, label=f"size of the\n{label}")
    return figure


def logit_lens(logits: np.ndarray, tokens: Sequence[str], vocabulary: Sequence[str]) -> Figure:
    """Draw the logit lens: the most likely next token after each block.

    Args:
        logits: `(layers + 1, length, vocabulary_size)`, logits of one text from
            `gk.interpretation.logit_lens`.
        tokens: The text of each token.
        vocabulary: The text of each id of the vocabulary.

    Returns:
        The figure. Each cell shows the most likely next token; darker cells have higher
        probabilities.

    Raises:
        ValueError: The shapes do not match, or there are more than 64 tokens.
        RuntimeError: A token is Chinese and no installed font has Chinese glyphs.

    Example:
        >>> import gpt_keras as gk
        >>> import numpy as np
        >>> figure = gk.plots.logit_lens(np.eye(2)[:, None], ["a"], ["a", "b"])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['a', 'b']
    """
    logits = np.asarray(logits, dtype=float)
    if logits.ndim != 3 or logits.shape[1:] != (len(tokens), len(vocabulary)):
        raise ValueError(
            f"`logits` must be (layers + 1, length, vocabulary_size) with the length of `tokens`, "
            f"{len(tokens)}, and the size of `vocabulary`, {len(vocabulary)}, got shape "
            f"{logits.shape}."
        )
    _check_number("tokens", tokens)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = (weights / weights.sum(axis=-1, keepdims=True)).max(axis=-1)
    best = logits.argmax(axis=-1)
    inside = [vocabulary[i] for i in best.ravel()]
    names, fonts = token_labels([*tokens, *inside])
    names, inside = names[: len(tokens)], iter(names[len(tokens) :])
    num_rows, length = best.shape
    figure = Figure(figsize=(2.2 + 0.75 * length, 1.3 + 0.32 * num_rows), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(probabilities, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    for row in range(num_rows):
        for column in range(length):
            colour = "white" if probabilities[row, column] > 0.55 else "black"
            axes.text(
                column,
                row,
                next(inside),
                ha="center",
                va="center",
                color=colour,
                fontsize=8,
                fontfamily=fonts,
                parse_math=False,
                clip_on=True,
            )
    axes.set_xticks(range(length), names, fontfamily=fonts, rotation=tick_rotation(names, 2))
    for text in axes.get_xticklabels():
        text.set_parse_math(False)
    axes.set_yticks(range(num_rows), ["embedding", *(f"layer {i}" for i in range(num_rows - 1))])
    axes.set_xlabel("token")
    axes.set_title("likeliest next token after each layer", fontsize="medium")
    figure.colorbar(image, ax=axes, label="its probability")
    return figure


def attribution(scores: np.ndarray, tokens: Sequence[str], target: str) -> Figure:
    """Draw the attribution of a prediction to each token of a text as bars.

    Args:
        scores: `(length,)`, for example from `gk.interpretation.integrated_gradients`. For several
            methods, `(methods, length)`: each method becomes a panel.
        tokens: The text of each token.
        target: The text of the predicted token.

    Returns:
        The figure. Negative contributions are hatched bars to the left.

    Raises:
        ValueError: The shapes do not match, a score is not finite, or there are more than 64
            tokens.
        RuntimeError: A token is Chinese and no installed font has Chinese glyphs.

    Example:
        >>> import gpt_keras as gk
        >>> import numpy as np
        >>> figure = gk.plots.attribution(np.array([0.5, -0.1]), ["a", "b"], "c")
        >>> [float(bar.get_width()) for bar in figure.axes[0].patches]
        [0.5, -0.1]
    """
    scores = np.atleast_2d(_finite("scores", scores))
    scores = _table("scores", scores, len(tokens))
    names, fonts = token_labels([*tokens, target])
    size = (1.5 + 3.2 * len(scores), 1.2 + 0.24 * len(tokens))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    for axes, values in zip(panels, scores, strict=True):
        bars = axes.barh(range(len(values)), values, edgecolor="black")
        for bar, value in zip(bars, values, strict=True):
            bar.set_facecolor("#0072B2" if value >= 0 else "#FFFFFF")
            bar.set_hatch("" if value >= 0 else "////")
        axes.axvline(0, color="black", linewidth=0.8)
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(tokens)), names[:-1], fontfamily=fonts)
    panels[0].invert_yaxis()
    panels[0].set_ylabel("token")
    for text in panels[0].get_yticklabels():
        text.set_parse_math(False)
    panels[0].set_xlabel(f"part in the logit of “{names[-1]}”", fontfamily=fonts, parse_math=False)
    return figure


def embeddings(coordinates: np.ndarray, labels: Sequence[str], shares: np.ndarray) -> Figure:
    """Draw embeddings as labelled points in the plane of two principal components.

    Args:
        coordinates: `(number, 2)`, from `gk.interpretation.principal_components`.
        labels: The text of each point.
        shares: `(2,)`, the share of the variance along each axis, from
            `gk.interpretation.principal_components`.

    Returns:
        The figure.

    Raises:
        ValueError: The shapes do not match, or a number is not finite.
        RuntimeError: A label is Chinese and no installed font has Chinese glyphs.

    Example:
        >>> import gpt_keras as gk
        >>> import numpy as np
        >>> figure = gk.plots.embeddings(np.eye(2), ["a", "b"], np.array([0.7, 0.3]))
        >>> figure.axes[0].get_xlabel()
        'first component (70% of the variance)'
    """
    coordinates, shares = _finite("coordinates", coordinates), _finite("shares", shares)
    if coordinates.shape != (len(labels), 2) or shares.shape != (2,) or not len(labels):
        raise ValueError(
            f"`coordinates` must be (number, 2) with the {len(labels)} `labels`, and `shares` "
            f"(2,); got shapes {coordinates.shape} and {shares.shape}."
        )
    names, fonts = token_labels(labels)
    figure, axes = new_axes(
        f"first component ({shares[0]:.0%} of the variance)",
        f"second component ({shares[1]:.0%} of the variance)",
    )
    figure.set_size_inches(6.4, 5.4)
    axes.scatter(*coordinates.T, s=8, color="#0072B2")
    for name, point in zip(names, coordinates, strict=True):
        axes.annotate(
            name,
            point,
            xytext=(3, 2),
            textcoords="offset points",
            fontfamily=fonts,
            fontsize=9,
            parse_math=False,
        )
    axes.margins(0.08)
    return figure


def _finite(name: str, values) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if not np.isfinite(values).all():
        raise ValueError(f"`{name}` must be finite numbers, but some are not.")
    return values


def _table(name: str, values, length: int | None = None) -> np.ndarray:
    values = _finite(name, values)
    if values.ndim != 2 or not values.size or length not in (None, values.shape[1]):
        columns = "" if length is None else f" with a column for each of the {length} tokens"
        raise ValueError(f"`{name}` must be a table{columns}, got shape {values.shape}.")
    _check_number(name, values[0])
    return values


def _check_number(name: str, row) -> None:
    if len(row) > _MAX_CELLS:
        raise ValueError(f"`{name}` must be at most {_MAX_CELLS} columns wide, got {len(row)}.")
