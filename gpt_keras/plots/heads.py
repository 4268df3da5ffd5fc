"""Figures of attention weights."""

from collections.abc import Sequence

import numpy as np

from gpt_keras.plots.figure import Figure, tick_rotation
from gpt_keras.plots.fonts import token_labels

_MAX_TOKENS = 64  # the labels of more tokens are unreadable
# The side of a panel in inches is `_SIDE + _PER_TOKEN * length`.
_SIDE = 2.4
_PER_TOKEN = 0.13


def attention(weights: np.ndarray, tokens: Sequence[str], title: str = "layer") -> Figure:
    """Draw attention weights as a matrix for each head.

    Args:
        weights: `(heads, length, length)`, the weights of one layer and one text from
            `gk.interpretation.attention_weights`; rows for queries, columns for keys. For several
            layers, `(layers, heads, length, length)`: each layer becomes a row of panels.
        tokens: The text of each token. A space is drawn as ␣, a line end as ⏎.
        title: Name of a row of panels, followed by its number.

    Returns:
        The figure. All panels have the same scale, from 0 (white) to 1 (black).

    Raises:
        ValueError: `weights` has another shape, or there are more than 64 tokens.
        RuntimeError: A token is Chinese and no installed font has Chinese glyphs.

    Example:
        >>> import gpt_keras as gk
        >>> import numpy as np
        >>> figure = gk.plots.attention(np.tri(2)[None] / [[1], [2]], ["a", "b"])
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['a', 'b']
    """
    weights = np.asarray(weights, dtype=float)
    if weights.ndim == 3:
        weights = weights[None]
    length = len(tokens)
    if weights.ndim != 4 or weights.shape[2:] != (length, length) or 0 in weights.shape:
        raise ValueError(
            f"`weights` must be (heads, length, length) with the length of `tokens`, {length}, got "
            f"shape {weights.shape}."
        )
    if length > _MAX_TOKENS:
        raise ValueError(f"`tokens` must be at most {_MAX_TOKENS}, got {length}.")
    num_layers, num_heads = weights.shape[:2]
    labels, fonts = token_labels(tokens)
    side = _SIDE + _PER_TOKEN * length
    figure = Figure(figsize=(side * num_heads, side * num_layers), layout="constrained")
    panels = figure.subplots(num_layers, num_heads, squeeze=False)
    for layer, row in enumerate(panels):
        for head, axes in enumerate(row):
            image = axes.imshow(weights[layer, head], cmap="Greys", vmin=0, vmax=1)
            axes.set_title(f"{title} {layer}, head {head}" if num_layers > 1 else f"head {head}")
            axes.set_xticks(
                range(length),
                labels,
                rotation=tick_rotation(labels, 1),
                fontfamily=fonts,
                fontsize=8,
            )
            axes.set_yticks(range(length), labels, fontfamily=fonts, fontsize=8)
            for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
                text.set_parse_math(False)
    panels[0, 0].set_ylabel("token that attends")
    panels[-1, 0].set_xlabel("token attended to")
    figure.colorbar(image, ax=panels, shrink=0.6, label="share of the attention")
    return figure
