"""Tables for BERT's basic tokenizer: cleaning, lower case, accents, word borders.

Which characters are control characters, marks or punctuation depends on the Unicode version of a
program. So these tables are computed with the `tokenizers` engine itself, as in `unicode_classes`.

The replacement of a character depends on that character alone, with one exception: canonical
decomposition sorts neighbouring combining marks (The Unicode Standard, section 3.11). Most marks
are removed after that. Two kinds stay: spacing marks, and marks that are too new for the engine's
table of marks.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from tokenizers import normalizers, pre_tokenizers

from gpt_keras.tokenizers.in_graph.code_point_table import PAGE

NUM_CODE_POINTS = 0x110000

# Kinds of characters: part of a word, a word by itself, white space.
INSIDE, ALONE, SPACE = range(3)

# Placeholder of a removed character that keeps the marks before it and after it apart during
# sorting. Cleaned text never holds this code point itself.
BARRIER = 0

UNCHANGED, _REMOVED, _BARRIER_ALONE = range(3)

_SEPARATOR = "\u2603"  # a snowman: no other character normalizes to it
_OVERLAY, _ABOVE = "\u0334", "\u0301"  # marks of combining classes 1 and 230
# From here on, all characters are ordinary characters of words.
_SPECIAL_END = 0x20000


class CharacterTables(NamedTuple):
    """Replacement, kind and sort order of each code point.

    All arrays are read-only and indexed by code point.

    Attributes:
        row: `(0x110000,)` int32. Index in `sequences` of the replacement; `UNCHANGED` keeps the
            code point.
        sequences: Replacements as lists of code points, which may hold `BARRIER`. The list at
            `UNCHANGED` is never used.
        kind: `(0x110000,)` uint8. `INSIDE`, `ALONE` or `SPACE`, for code points after replacement.
        order: `(0x110000,)` uint8. Sort order of marks, for code points after replacement: the rank
            of the combining class, or 0 for a character that is not a mark.
    """

    row: np.ndarray
    sequences: list[list[int]]
    kind: np.ndarray
    order: np.ndarray


@functools.cache
def character_tables() -> CharacterTables:
    """Return the tables for lower case without accents.

    Example:
        >>> from gpt_keras.tokenizers.in_graph.bert_characters import character_tables
        >>> tables = character_tables()
        >>> [chr(c) for c in tables.sequences[tables.row[ord("É")]]]
        ['e']
    """
    order = _orders()
    kind = _kinds()
    row = np.zeros(NUM_CODE_POINTS, np.int32)
    sequences = {"?": UNCHANGED, "": _REMOVED, chr(BARRIER): _BARRIER_ALONE}
    normalizer = normalizers.BertNormalizer(lowercase=True)
    for page in _pages(NUM_CODE_POINTS):
        text = _text(page)
        result = normalizer.normalize_str(text)
        if not result:
            row[page] = _REMOVED
        elif result != text:
            for code_point, sequence in zip(page, _each(normalizer, text), strict=True):
                if len(sequence) == 3 and sequence[0] == sequence[2] == " ":
                    # Spaces around a Chinese character make it a word by itself.
                    sequence = sequence[1]
                    kind[ord(sequence)] = ALONE
                if sequence != chr(code_point):
                    row[code_point] = sequences.setdefault(sequence, len(sequences))
    row[_barriers(np.flatnonzero(row == _REMOVED), order)] = _BARRIER_ALONE
    for array in (row, kind, order):
        array.flags.writeable = False
    return CharacterTables(row, [[*map(ord, sequence)] for sequence in sequences], kind, order)


def _each(normalizer: normalizers.Normalizer, text: str) -> list[str]:
    """Normalize each character by itself."""
    results = normalizer.normalize_str(_SEPARATOR.join(text)).split(_SEPARATOR)
    if _SEPARATOR in text:  # it gives two empty results instead of one
        place = text.index(_SEPARATOR)
        results[place : place + 2] = [_SEPARATOR]
    return results


def _barriers(removed: Iterable[int], order: np.ndarray) -> list[int]:
    """Return the removed code points that marks are not sorted across."""
    cleaned = _each(
        normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False
        ),
        _text(removed),
    )
    marks = [c for c, result in zip(removed, cleaned, strict=True) if result]
    decomposed = _each(normalizers.NFD(), _text(marks))
    return [
        c
        for c, result in zip(marks, decomposed, strict=True)
        if any(order[ord(character)] == 0 for character in result)
    ]


def _kinds() -> np.ndarray:
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    kind = np.full(NUM_CODE_POINTS, INSIDE, np.uint8)
    for page in _pages(_SPECIAL_END):
        text = _text(page)
        if [word for word, _ in split(text)] == [text]:
            continue
        kind[page] = SPACE
        # Write each character twice. Then a word of one character is always a word by itself.
        for _, (start, end) in split("".join([2 * character for character in text])):
            of = slice(page[start // 2], page[(end - 1) // 2] + 1)
            kind[of] = ALONE if end - start == 1 else INSIDE
    return kind


def _orders() -> np.ndarray:
    nfd = normalizers.NFD()
    text = "".join(map(_text, _pages(_SPECIAL_END)))
    stays = [c for c, result in zip(text, _each(nfd, text), strict=True) if c == result]
    # Sorting changes this text if the character is a mark: either the second mark moves before it,
    # or it moves before the first mark.
    asked = [f"a{_ABOVE}{character}{_OVERLAY}" for character in stays]
    answer = nfd.normalize_str("".join(asked))
    marks = [c for i, c in enumerate(stays) if answer[4 * i : 4 * i + 4] != asked[i]]
    # Sorting is stable: marks of one class keep their order.
    forward = nfd.normalize_str("".join(marks))
    backward = nfd.normalize_str("".join(reversed(marks)))
    order = np.zeros(NUM_CODE_POINTS, np.uint8)
    begin = rank = 0
    while begin < len(marks):
        end = backward.index(forward[begin]) + 1
        rank += 1
        order[[ord(mark) for mark in forward[begin:end]]] = rank
        begin = end
    return order


def _pages(end: int) -> Iterator[range]:
    """Yield all code points below `end` in pages.

    Surrogates are not text and are left out.
    """
    for start in range(0, end, PAGE):
        if not 0xD800 <= start < 0xE000:
            yield range(start, start + PAGE)


def _text(code_points: Iterable[int]) -> str:
    return "".join(map(chr, code_points))
