"""Fonts with the glyphs of a text."""

import functools
import warnings
from collections.abc import Sequence

import matplotlib
from matplotlib import font_manager, ft2font

from gpt_keras.tokenizers.visible import visible

# Fonts designed for Chinese, preferred to other fonts that happen to contain Chinese glyphs.
_CHINESE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK TC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Microsoft YaHei",
    "SimHei",
)
_LATIN_FONT = "DejaVu Sans"  # comes with matplotlib
# Comes with matplotlib from 3.11 on. Its character map claims all characters, but its glyphs are
# only boxes with the name of the character's Unicode block.
_LAST_RESORT = "Last Resort"
_CHINESE_SAMPLE = "詩诗山水，。"  # in traditional and simplified characters


def chinese_font() -> str:
    """Return the name of an installed font with Chinese glyphs.

    Returns:
        A font family, for the argument `fontfamily` of matplotlib texts. `use_chinese_font` sets
        it for all figures.

    Raises:
        RuntimeError: No installed font has Chinese glyphs. The message explains how to install one.

    Example:
        >>> import gpt_keras as gk
        >>> name = gk.plots.chinese_font()  # doctest: +SKIP
    """
    # matplotlib caches its list of fonts on disk, so it misses newly installed fonts.
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known:
            try:
                font_manager.fontManager.addfont(path)
            except (RuntimeError, OSError):  # a file that FreeType cannot read
                continue
    entries = sorted(font_manager.fontManager.ttflist, key=_preference)
    for entry in entries:
        is_placeholder = entry.name.startswith(_LAST_RESORT)
        if not is_placeholder and _has_glyphs(entry.fname, _CHINESE_SAMPLE):
            return entry.name
    raise RuntimeError(
        "No installed font has Chinese glyphs. Install one, for example with "
        "`apt install fonts-noto-cjk` or `apt install fonts-wqy-microhei`."
    )


def use_chinese_font() -> bool:
    """Add a Chinese font to matplotlib's default fonts, for all later figures.

    This includes pyplot figures. Matplotlib uses the Chinese font only for characters that its own
    font lacks. The functions of `gk.plots` that draw tokens choose fonts themselves; they do not
    need this function.

    Returns:
        True if an installed font has Chinese glyphs. Otherwise False: a warning explains how to
        install a font, and nothing is changed.

    Example:
        >>> import gpt_keras as gk
        >>> chinese = gk.plots.use_chinese_font()
        >>> title = "靜夜思" if chinese else "Thoughts in the silent night"
    """
    try:
        name = chinese_font()
    except RuntimeError as error:
        warnings.warn(str(error), stacklevel=2)
        return False
    matplotlib.rcParams["font.family"] = [_LATIN_FONT, name]
    return True


def _preference(entry) -> tuple[int, str]:
    known = entry.name in _CHINESE_FONTS
    return (_CHINESE_FONTS.index(entry.name) if known else len(_CHINESE_FONTS), entry.name)


def _has_glyphs(path: str, text: str) -> bool:
    try:
        glyphs = ft2font.FT2Font(path).get_charmap()
    except (RuntimeError, OSError):
        return False
    return all(ord(character) in glyphs for character in text)


def fonts_for(text: str) -> list[str]:
    """Return font families that together have the glyphs of a label.

    Matplotlib uses the second font only for characters that the first font lacks.

    Args:
        text: The label.

    Raises:
        RuntimeError: The label has Chinese characters, and no installed font has them.
    """
    fonts = [_LATIN_FONT]
    if any(_is_chinese(character) for character in text):
        fonts.append(chinese_font())
    return fonts


def drawable(text: str, fonts: list[str]) -> str:
    """Return the text with code points, such as ‹U+1F44B›, for missing glyphs."""
    return "".join(
        [
            character if _has_any(fonts, character) else f"‹U+{ord(character):04X}›"
            for character in text
        ]
    )


def token_labels(tokens: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return labels for tokens, with visible white space, and their fonts.

    Args:
        tokens: The text of each token.

    Raises:
        RuntimeError: A token has Chinese characters, and no installed font has them.
    """
    labels = [visible(token.encode("utf-8", errors="replace")) for token in tokens]
    fonts = fonts_for("".join(labels))
    return [drawable(label, fonts) for label in labels], fonts


def _has_any(fonts: list[str], character: str) -> bool:
    return any(ord(character) in _glyphs(font) for font in fonts)


@functools.cache
def _glyphs(font: str) -> frozenset[int]:
    return frozenset(ft2font.FT2Font(font_manager.findfont(font)).get_charmap())


def _is_chinese(character: str) -> bool:
    """Return whether a character needs a Chinese font.

    These are ideographs, kana, hangul, full-width forms and Chinese punctuation.
    """
    return (
        "\u2e80" <= character <= "\ud7ff"
        or "\uf900" <= character <= "\ufaff"
        or "\ufe30" <= character <= "\uffef"
        or "\U00020000" <= character <= "\U0003ffff"
    )
