"""Tokens in a readable form that shows every character."""

import re
import unicodedata

_MARKS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"}

# Categories of characters without a visible form: controls, formats, surrogates, private use, line
# and paragraph separators, and spaces other than U+0020.
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}


def visible(piece: bytes) -> str:
    r"""Return the text of a token with marks for its invisible characters.

    A space is ␣, a line feed ⏎, a tab ⇥, a carriage return ␍. Bytes of an incomplete character are
    written in hexadecimal in ‹›, and so are the code points of other invisible characters. A
    combining mark at the beginning of a token is shown on ◌.

    Args:
        piece: The bytes of a token, from `Tokenizer.pieces`.

    Example:
        >>> import gpt_keras as gk
        >>> from gpt_keras.tokenizers.visible import visible
        >>> tokenizer = gk.tokenizers.BytePairTokenizer.gpt2()
        >>> [visible(piece) for piece in tokenizer.pieces(tokenizer.encode("it is\n詩"))]
        ['it', '␣is', '⏎', '‹E8›', '‹A9›', '‹A9›']
    """
    # Bytes that are not a character become lone surrogates. A run of them gets one pair of ‹›.
    text = piece.decode("utf-8", errors="surrogateescape")
    if text and unicodedata.category(text[0]).startswith("M"):
        text = f"◌{text}"  # a combining mark needs a character before it
    text = "".join([_MARKS.get(character) or _named(character) for character in text])
    return re.sub("[\udc80-\udcff]+", lambda run: _hexadecimal(run.group()), text)


def _named(character: str) -> str:
    if "\udc80" <= character <= "\udcff" or unicodedata.category(character) not in _INVISIBLE:
        return character
    return f"‹U+{ord(character):04X}›"


def _hexadecimal(run: str) -> str:
    return f"‹{run.encode('utf-8', errors='surrogateescape').hex().upper()}›"


def display_width(text: str) -> int:
    r"""Return the number of terminal columns of a text; Chinese characters take two.

    Example:
        >>> from gpt_keras.tokenizers.visible import display_width
        >>> display_width("abc"), display_width("詩"), display_width("e\u0301")
        (3, 2, 1)
    """
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
