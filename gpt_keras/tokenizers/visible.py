"""Tokens written so that people see all that is in them."""

import re
import unicodedata

_MARKS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"}

# Characters that have no form of their own: controls, formats, surrogates, private use, line and
# paragraph separators, and spaces other than the common one.
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}


def visible(piece: bytes) -> str:
    r"""Return the text of a token with marks for what would not be seen.

    A space is ␣, a line end ⏎, a tabulator ⇥; bytes that are a part of a character are given in
    hexadecimal, in ‹›, and so are code points of other characters that show nothing. A mark that
    belongs on the character before it has ◌ under it.

    Args:
        piece: The bytes of a token, of `Tokenizer.pieces`.

    Example:
        >>> import gpt_keras as gk
        >>> from gpt_keras.tokenizers.visible import visible
        >>> tokenizer = gk.tokenizers.BytePairTokenizer.gpt2()
        >>> [visible(piece) for piece in tokenizer.pieces(tokenizer.encode("it is\n詩"))]
        ['it', '␣is', '⏎', '‹E8›', '‹A9›', '‹A9›']
    """
    # Bytes that are no character become lone surrogates, a run of which is one pair of ‹›.
    text = piece.decode("utf-8", errors="surrogateescape")
    if text and unicodedata.category(text[0]).startswith("M"):
        text = f"◌{text}"  # a mark on the character before it
    text = "".join([_MARKS.get(character) or _named(character) for character in text])
    return re.sub("[\udc80-\udcff]+", lambda run: _hexadecimal(run.group()), text)


def _named(character: str) -> str:
    if "\udc80" <= character <= "\udcff" or unicodedata.category(character) not in _INVISIBLE:
        return character
    return f"‹U+{ord(character):04X}›"


def _hexadecimal(run: str) -> str:
    return f"‹{run.encode('utf-8', errors='surrogateescape').hex().upper()}›"


def display_width(text: str) -> int:
    r"""Return how many columns of a terminal a text takes: Chinese characters take two.

    Example:
        >>> from gpt_keras.tokenizers.visible import display_width
        >>> display_width("abc"), display_width("詩"), display_width("e\u0301")
        (3, 2, 1)
    """
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
