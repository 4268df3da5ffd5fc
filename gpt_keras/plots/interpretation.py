"""Figures of the results of `gk.interpretation`."""

from collections.abc import Sequence

import numpy as np

from gpt_keras.plots.figure import Figure, new_axes, tick_rotation
from gpt_keras.plots.fonts import token_labels

_MAX_CELLS = 64  # more labels than that in a row cannot be read


def by_head(values: np.ndarray, label: str) -> Figure:
    """Draw a number for each layer and head, or for each layer and token, as a table.

    Args:
        values: `(layers, heads)`, such as `gk.interpretation.head_ablation` returns.
        label: What the numbers are, with their unit.

    Returns:
        The figure: darker is further from 0, and each cell has its number, with its sign.

    Raises:
        ValueError: `values` is not a table of numbers.

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
    """Draw a number for each layer and token as a table.

    Args:
        values: `(layers, length)`, such as `gk.interpretation.layer_patching` returns.
        tokens: The text of each token; a space is drawn as ␣, a line end as ⏎.
        label: What the numbers are, with their unit.

    Returns:
        The figure, as `by_head`'s.

    Raises:
        ValueError: `values` is not a table of numbers with a column for each token, or there are
            more than 64.
        RuntimeError: A token is Chinese and no font here has the glyphs.

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
    # Light enough that black and dark enough that white can be read; the sign is in the number.
    image = axes.imshow(np.abs(values), cmap="Greys", vmin=0, vmax=largest, aspect="auto")
    digits = int(np.clip(2 - np.floor(np.log10(largest)), 0, 4)) if largest < 1 else 1
    for layer in range(num_layers):
        for column in range(number):
            value = round(float(values[layer, column]), digits) + 0.0  # no -0
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
    """Draw what a model would predict after each of its blocks, for each token of a text.

    Args:
        logits: `(layers + 1, length, vocabulary_size)`, as `gk.interpretation.logit_lens` gives
            them for one text.
        tokens: The text of each token.
        vocabulary: The text of each id.

    Returns:
        The figure: a cell has the likeliest next token and is the darker, the more likely that is.

    Raises:
        ValueError: The shapes do not fit, or there are more than 64 tokens.
        RuntimeError: A token is Chinese and no font here has the glyphs.

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
            f"`logits` must be (layers, length, vocabulary_size) with the {len(tokens)} `tokens` "
            f"and the {len(vocabulary)} of `vocabulary`, got shape {logits.shape}."
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
    """Draw how much each token of a text adds to what is predicted.

    Args:
        scores: `(length,)`, such as `gk.interpretation.integrated_gradients` returns; or
            `(methods, length)` for several, a panel each.
        tokens: The text of each token.
        target: The text of the token that is predicted.

    Returns:
        The figure. Bars to the left, which are hatched, speak against the target.

    Raises:
        ValueError: The shapes do not fit, or there are more than 64 tokens.
        RuntimeError: A token is Chinese and no font here has the glyphs.

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
    """Draw vectors as labelled points in a plane.

    Args:
        coordinates: `(number, 2)`, as `gk.interpretation.principal_components` gives them.
        labels: The text of each point.
        shares: `(2,)`, the share of the variance along each axis.

    Returns:
        The figure.

    Raises:
        ValueError: The shapes do not fit.
        RuntimeError: A label is Chinese and no font here has the glyphs.

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
