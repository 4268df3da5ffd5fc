"""Figures of tokenization: the tokens of several tokenizers for one text."""

from collections.abc import Mapping, Sequence

import matplotlib.axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch

from gpt_keras.plots.figure import Figure
from gpt_keras.plots.fonts import drawable, fonts_for
from gpt_keras.tokenizers.tokenizer import Tokenizer
from gpt_keras.tokenizers.visible import visible

# Light tints of the Okabe-Ito palette. Lighter and darker ones alternate, so that neighbours differ
# in black and white.
_FILLS = ("#DCEFFA", "#F0BE6A", "#E3F4EE", "#8CC3E8", "#FBF3C2", "#DDA9C4")

_MAX_TOKENS = 2_000  # limit for each tokenizer; more tokens take minutes to draw

# All lengths are in points, 1/72 of an inch.
_WIDTH = 620
_FONT_SIZE = 11
_BOX_HEIGHT = 19
_LINE_HEIGHT = 24
_PADDING = 3  # between a border and the text in it
_GAP = 2  # between boxes
_TITLE_HEIGHT = 22
_MARGIN = 10


def tokenization(text: str, tokenizers: Mapping[str, Tokenizer]) -> Figure:
    """Draw a text's tokens as boxes, one panel for each tokenizer.

    A space is drawn as ␣, a tab as ⇥, and a line end as ⏎, after which a new row of boxes begins.
    A token that is an incomplete character is drawn as its bytes in hexadecimal, such as ‹E8›, in a
    box with a dashed border. A character without a glyph is drawn as its code point, such as
    ‹U+1F44B›.

    Args:
        text: Text to tokenize.
        tokenizers: Tokenizers by name. The name becomes the title of the panel.

    Returns:
        The figure. Its height depends on the number of tokens.

    Raises:
        ValueError: `text` is empty or has more than 2,000 tokens in one of the tokenizers, or
            there are no tokenizers.
        RuntimeError: The text is Chinese and no installed font has Chinese glyphs.

    Example:
        >>> import gpt_keras as gk
        >>> figure = gk.plots.tokenization("newest", {
        ...     "GPT-2": gk.tokenizers.BytePairTokenizer.gpt2(),
        ...     "characters": gk.tokenizers.CharacterTokenizer("enstw"),
        ... })
        >>> [[box.get_text() for box in axes.texts] for axes in figure.axes]
        [['new', 'est'], ['n', 'e', 'w', 'e', 's', 't']]
    """
    if not isinstance(text, str) or not text:
        raise ValueError(f"`text` must be a string that is not empty, got {text!r}.")
    if not isinstance(tokenizers, Mapping) or not tokenizers:
        raise ValueError(
            f"`tokenizers` must be a dict from names to tokenizers with at least one entry, got "
            f"{tokenizers!r}."
        )
    panels = {name: _pieces(name, tokenizer, text) for name, tokenizer in tokenizers.items()}
    labels = [visible(piece) for pieces in panels.values() for piece in pieces]
    fonts = fonts_for("".join(labels))

    figure = Figure(figsize=(1, 1))
    measure = _Measure(figure, fonts)
    lines_of = {name: _lines(pieces, measure) for name, pieces in panels.items()}
    heights = [_TITLE_HEIGHT + _LINE_HEIGHT * len(lines) for lines in lines_of.values()]
    width, height = _WIDTH + 2 * _MARGIN, sum(heights) + _MARGIN * (len(heights) + 1)
    figure.set_size_inches(width / 72, height / 72)
    top = height - _MARGIN
    for (name, lines), panel_height in zip(lines_of.items(), heights):
        bottom = top - panel_height
        axes = figure.add_axes(
            (_MARGIN / width, bottom / height, _WIDTH / width, panel_height / height),
            xlim=(0, _WIDTH),
            ylim=(panel_height, 0),
        )
        axes.set_axis_off()
        count = len(panels[name])
        axes.set_title(
            f"{name}: {count:,} token{'s' if count > 1 else ''}",
            loc="left",
            y=1 - 14 / panel_height,
            pad=0,
            fontsize=_FONT_SIZE,
            fontfamily=(family := fonts_for(name)),
            fontweight="bold" if len(family) == 1 else "normal",  # Chinese fonts may lack bold
            parse_math=False,
        )
        _draw(axes, lines, fonts)
        top = bottom - _MARGIN
    return figure


def _pieces(name: str, tokenizer: Tokenizer, text: str) -> list[bytes]:
    ids = tokenizer.encode(text)
    if len(ids) > _MAX_TOKENS:
        raise ValueError(
            f"`text` must have at most {_MAX_TOKENS:,} tokens, but has {len(ids):,} with the "
            f"tokenizer {name!r}."
        )
    return tokenizer.pieces(ids)


class _Measure:
    """Measurement of text widths, in points."""

    def __init__(self, figure: Figure, fonts: Sequence[str]):
        self.fonts = list(fonts)
        self._label = figure.text(
            0, 0, "", fontsize=_FONT_SIZE, fontfamily=self.fonts, parse_math=False
        )
        self._renderer = FigureCanvasAgg(figure).get_renderer()
        self._points = 72 / figure.dpi
        self._known: dict[str, float] = {}

    def __call__(self, text: str) -> float:
        if text not in self._known:
            self._label.set_text(text)
            self._known[text] = self._label.get_window_extent(self._renderer).width * self._points
            self._label.set_text("")
        return self._known[text]


class _Box:
    """Box of a token and its position in a row."""

    def __init__(self, piece: bytes, index: int, left: float, measure: _Measure):
        self.label = drawable(visible(piece), measure.fonts)
        text_width = measure(self.label)
        room = _WIDTH - 2 * _PADDING
        self.font_size = _FONT_SIZE * min(1.0, room / max(text_width, 1e-6))
        self.left = left
        self.width = min(text_width, room) + 2 * _PADDING
        self.fill = _FILLS[index % len(_FILLS)]
        self.is_whole = _is_text(piece)
        self.ends_line = piece.endswith(b"\n")


def _lines(pieces: Sequence[bytes], measure: _Measure) -> list[list[_Box]]:
    lines: list[list[_Box]] = [[]]
    for index, piece in enumerate(pieces):
        last = lines[-1][-1] if lines[-1] else None
        left = last.left + last.width + _GAP if last else 0.0
        box = _Box(piece, index, left, measure)
        if last and (last.ends_line or left + box.width > _WIDTH):
            box.left = 0.0
            lines.append([])
        lines[-1].append(box)
    return lines


def _draw(axes: matplotlib.axes.Axes, lines: Sequence[Sequence[_Box]], fonts: list[str]) -> None:
    properties = FontProperties(family=fonts)
    for row, boxes in enumerate(lines):
        y = _TITLE_HEIGHT + row * _LINE_HEIGHT
        for box in boxes:
            axes.add_patch(
                FancyBboxPatch(
                    (box.left, y),
                    box.width,
                    _BOX_HEIGHT,
                    boxstyle="round,pad=0,rounding_size=3",
                    facecolor=box.fill,
                    edgecolor="black",
                    linewidth=0.8,
                    linestyle="-" if box.is_whole else (0, (2, 1.5)),
                    clip_on=False,  # half of the border is outside the axes
                )
            )
            axes.text(
                box.left + box.width / 2,
                y + 0.72 * _BOX_HEIGHT,
                box.label,
                ha="center",
                va="baseline",
                fontproperties=properties,
                fontsize=box.font_size,
                parse_math=False,
            )


def _is_text(piece: bytes) -> bool:
    try:
        piece.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
