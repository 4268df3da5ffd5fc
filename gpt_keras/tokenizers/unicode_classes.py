r"""Which characters are letters, numbers and white space, for the split into words.

GPT-2's expression says `\p{L}`, `\p{N}` and `\s`. What these match depends on the Unicode version
of whoever reads it: Python 3.11's `unicodedata` knows Unicode 14, the `tokenizers` engine a later
one (9,000 letters more in version 0.23). So the engine itself is asked, and the tokenizer in the
graph agrees with it whatever versions are installed.
"""

import functools

import numpy as np
from tokenizers import Regex, normalizers

OTHER, LETTER, NUMBER, SPACE = range(4)

# Planes 4 to 16 hold no letter, number or white space.
_END = 0x40000


@functools.cache
def character_classes() -> np.ndarray:
    """Returns the class of every code point up to the last one that is not `OTHER`.

    Returns:
        A read-only uint8 array: index it with a code point. The last entry is `OTHER` and stands
        for all code points beyond.

    Example:
        >>> from gpt_keras.tokenizers.unicode_classes import LETTER, character_classes
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
