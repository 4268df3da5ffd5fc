r"""Which characters are letters, numbers and white space, for the split into words.

GPT-2's expression says `\p{L}`, `\p{N}` and `\s`. What these match depends on the Unicode version
of whoever reads it: Python 3.11's `unicodedata` knows Unicode 14, the `tokenizers` engine a later
one (9,000 letters more in version 0.23, which knows Unicode 16: see `unicode_version`). So the
engine itself is asked, and the tokenizer in the graph agrees with it whatever versions are
installed.
"""

import functools

import numpy as np
from tokenizers import Regex, normalizers, pre_tokenizers

OTHER, LETTER, NUMBER, SPACE = range(4)

# Planes 4 to 16 hold no letter, number or white space.
_END = 0x40000

# A letter that came with each version of Unicode.
_NEW_LETTERS = {
    "13.0": 0x30000,  # the first of the ideographs' extension G
    "14.0": 0x1DF00,  # Latin small letter feng digraph with trill
    "15.0": 0x11F04,  # Kawi letter a
    "15.1": 0x2EBF0,  # the first of the ideographs' extension I
    "16.0": 0x1C89,  # Cyrillic capital letter tje
    "17.0": 0x323B0,  # the first of the ideographs' extension J
    "18.0": 0x3D000,  # the first character of the Seal script
}


@functools.cache
def character_classes() -> np.ndarray:
    """Return the class of every code point up to the last one that is not `OTHER`.

    Returns:
        A read-only uint8 array: index it with a code point. The last entry is `OTHER` and stands
        for all code points beyond.

    Example:
        >>> from gpt_keras.tokenizers.in_graph.unicode_classes import LETTER, character_classes
        >>> bool(character_classes()[ord("詩")] == LETTER)
        True
    """
    code_points = np.concatenate([np.arange(0xD800), np.arange(0xE000, _END)])
    text = "".join(map(chr, code_points))
    classes = np.full(_END, OTHER, np.uint8)
    for expression, value in ((r"\p{L}", LETTER), (r"\p{N}", NUMBER), (r"\s", SPACE)):
        # One character becomes another one, so places stay; the new one is in no class.
        marked = normalizers.Replace(Regex(expression), "\U000f0000").normalize_str(text)
        is_marked = np.frombuffer(marked.encode("utf-32-le"), np.uint32) == 0xF0000
        classes[code_points[is_marked]] = value
    classes = classes[: np.flatnonzero(classes)[-1] + 2]
    classes.flags.writeable = False
    return classes


@functools.cache
def single_digits() -> np.ndarray:
    """Return which code points the engine's `Digits` pre-tokenizer takes for digits.

    These are not quite the `NUMBER`s: in version 0.23 of the engine this pre-tokenizer knows
    Unicode 17, so 13 numbers more.

    Returns:
        A read-only bool array: index it with a code point. The last entry is False and stands for
        all code points beyond.

    Example:
        >>> from gpt_keras.tokenizers.in_graph.unicode_classes import single_digits
        >>> single_digits()[[ord("7"), ord("½"), ord("x")]].tolist()
        [True, True, False]
    """
    code_points = np.concatenate([np.arange(0xD800), np.arange(0xE000, _END)])
    # Each is followed by two letters, so only digits are pieces of one character.
    text = "".join(f"{chr(c)}aa" for c in code_points)
    pieces = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str(text)
    digits = np.zeros(_END, bool)
    digits[[ord(piece) for piece, _ in pieces if len(piece) == 1]] = True
    digits = digits[: np.flatnonzero(digits)[-1] + 2]
    digits.flags.writeable = False
    return digits


def unicode_version() -> str:
    """Return the version of Unicode whose letters, numbers and white space these classes are.

    The latest one, of those this function knows (13 to 18), that the engine has the letters of.
    Where the installed versions differ, as between two machines, texts with characters that are
    new in the later one are split differently.

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
