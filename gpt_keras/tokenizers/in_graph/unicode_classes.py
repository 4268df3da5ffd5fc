r"""Unicode classes of characters: letters, numbers and white space.

GPT-2's regular expression for words uses `\p{L}`, `\p{N}` and `\s`. The characters that these match
depend on the Unicode version of a library. Python 3.11's `unicodedata` has Unicode 14; version 0.23
of the `tokenizers` engine has Unicode 16, with 9,000 more letters (see `unicode_version`). So the
classes are computed with the engine itself. The in-graph tokenizer then agrees with the engine,
whichever versions are installed.
"""

import functools

import numpy as np
from tokenizers import Regex, normalizers, pre_tokenizers

OTHER, LETTER, NUMBER, SPACE = range(4)

# Planes 4 to 16 hold no letter, number or white space.
_END = 0x40000

# One of the new letters of each version of Unicode.
_NEW_LETTERS = {
    "13.0": 0x30000,  # First ideograph of extension G.
    "14.0": 0x1DF00,  # Latin small letter feng digraph with trill.
    "15.0": 0x11F04,  # Kawi letter a.
    "15.1": 0x2EBF0,  # First ideograph of extension I.
    "16.0": 0x1C89,  # Cyrillic capital letter tje.
    "17.0": 0x323B0,  # First ideograph of extension J.
    "18.0": 0x3D000,  # First character of the Seal script.
}


@functools.cache
def character_classes() -> np.ndarray:
    """Return the class of every code point up to the last one that is not `OTHER`.

    Returns:
        A read-only uint8 array, indexed by code point. The last entry is `OTHER` and represents all
        code points beyond.

    Example:
        >>> from gpt_keras.tokenizers.in_graph.unicode_classes import LETTER, character_classes
        >>> bool(character_classes()[ord("詩")] == LETTER)
        True
    """
    code_points = np.concatenate([np.arange(0xD800), np.arange(0xE000, _END)])
    text = "".join(map(chr, code_points))
    classes = np.full(_END, OTHER, np.uint8)
    for expression, value in ((r"\p{L}", LETTER), (r"\p{N}", NUMBER), (r"\s", SPACE)):
        # One character replaces one character, so positions stay; the new one is in no class.
        marked = normalizers.Replace(Regex(expression), "\U000f0000").normalize_str(text)
        is_marked = np.frombuffer(marked.encode("utf-32-le"), np.uint32) == 0xF0000
        classes[code_points[is_marked]] = value
    classes = classes[: np.flatnonzero(classes)[-1] + 2]
    classes.flags.writeable = False
    return classes


@functools.cache
def single_digits() -> np.ndarray:
    """Return which code points are digits for the engine's `Digits` pre-tokenizer.

    They differ slightly from class `NUMBER`. In version 0.23 of the engine, this pre-tokenizer has
    Unicode 17 and so 13 more numbers.

    Returns:
        A read-only bool array, indexed by code point. The last entry is False and represents all
        code points beyond.

    Example:
        >>> from gpt_keras.tokenizers.in_graph.unicode_classes import single_digits
        >>> single_digits()[[ord("7"), ord("½"), ord("x")]].tolist()
        [True, True, False]
    """
    code_points = np.concatenate([np.arange(0xD800), np.arange(0xE000, _END)])
    # Two letters follow each character, so only digits become pieces of one character.
    text = "".join(f"{chr(c)}aa" for c in code_points)
    pieces = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str(text)
    digits = np.zeros(_END, bool)
    digits[[ord(piece) for piece, _ in pieces if len(piece) == 1]] = True
    digits = digits[: np.flatnonzero(digits)[-1] + 2]
    digits.flags.writeable = False
    return digits


def unicode_version() -> str:
    """Return the Unicode version of the letters, numbers and white space here.

    It is the latest version from 13 to 18 whose new letters the engine classifies as letters. If
    two machines have different versions, they may split texts with newer characters differently.

    Example:
        >>> from gpt_keras.tokenizers.in_graph.unicode_classes import unicode_version
        >>> float(unicode_version()) >= 14
        True
    """
    classes = character_classes()
    return max(
        (
            version
            for version, letter in _NEW_LETTERS.items()
            if letter < len(classes) and classes[letter] == LETTER
        ),
        key=float,
    )
