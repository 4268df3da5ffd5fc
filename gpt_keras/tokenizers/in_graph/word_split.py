r"""GPT-2's split of text into words, without a regular expression.

GPT-2 splits text with this regular expression, which tries its alternatives in order (Radford et
al. 2019, `encoder.py` of the published code):

    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+

Whether a character begins a word depends on three things: its own class (letter, number, white
space, other), its neighbours' classes, and contractions nearby. So comparing arrays finds all
borders. TensorFlow's own regular expressions have no look-ahead and are many times slower.
"""

import functools

import tensorflow as tf

from gpt_keras.tokenizers.in_graph.unicode_classes import (
    LETTER,
    NUMBER,
    SPACE,
    character_classes,
)
from gpt_keras.tokenizers.in_graph.unicode_classes import (
    single_digits as digit_characters,
)

_BLANK = ord(" ")
_APOSTROPHE = ord("'")
_NO_CLASS = -1


class WordSplitter(tf.Module):
    """GPT-2's split of strings into words; joined, the words equal the string.

    Bytes that are not valid UTF-8 are read as U+FFFD.

    Args:
        single_digits: Whether to split off each digit first and apply GPT-2's expression to the
            text between digits, as SmolLM's tokenizers do.
    """

    def __init__(self, single_digits: bool = False):
        super().__init__()
        self._single_digits = single_digits
        with tf.init_scope():
            self._classes = tf.constant(character_classes())
            self._digits = tf.constant(digit_characters()) if single_digits else None

    def __call__(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """Split strings into words.

        Args:
            strings: `(batch,)` string tensor, UTF-8.

        Returns:
            `(batch, None)` ragged strings: non-empty words.
        """
        rows = tf.strings.unicode_decode(strings, "UTF-8")  # (batch, characters)
        begins = self._begins(rows)
        begin_places = tf.where(begins)[:, 0]
        characters = tf.RaggedTensor.from_row_starts(rows.values, begin_places, validate=False)
        words = tf.strings.unicode_encode(characters, "UTF-8")
        row_splits = tf.searchsorted(begin_places, rows.row_splits)
        return tf.RaggedTensor.from_row_splits(words, row_splits, validate=False)

    def _begins(self, rows: tf.RaggedTensor) -> tf.Tensor:
        """Return whether a word begins at each character, `(characters,)` bool."""
        characters = rows.values
        starts = tf.boolean_mask(rows.row_starts(), rows.row_lengths() > 0)
        first = (
            tf.scatter_nd(
                starts[:, tf.newaxis], tf.ones_like(starts), tf.shape(characters, tf.int64)
            )
            > 0
        )
        last = _shift(first, -1, True)

        beyond = self._classes.shape[0] - 1
        kind = tf.gather(self._classes, tf.minimum(characters, beyond))
        kind = tf.cast(kind, tf.int32)
        if self._single_digits:
            # They differ slightly from class NUMBER: see `unicode_classes.single_digits`.
            digits = self._digits
            is_digit = tf.gather(digits, tf.minimum(characters, digits.shape[0] - 1))
            first |= is_digit | _shift(is_digit, 1, False)
            last |= is_digit | _shift(is_digit, -1, False)
        previous_kind = tf.where(first, _NO_CLASS, _shift(kind, 1))
        previous_is_space = previous_kind == SPACE
        after_blank = previous_is_space & (_shift(characters, 1) == _BLANK)

        # A run of white space is one word, except its last character if a word follows: a blank
        # begins that word, other white space is a word by itself.
        is_space = kind == SPACE
        before_word = ~last & (_shift(kind, -1) != SPACE)
        space_begins = ~previous_is_space | before_word

        # A contraction counts only where a word can begin. That is not inside a run like `."'s`,
        # and not after a blank, which begins a word together with the apostrophe.
        next_1 = tf.where(last, 0, _shift(characters, -1))
        next_2 = tf.where(last, 0, _shift(next_1, -1))
        free = first | (previous_is_space & ~after_blank)
        free |= (previous_kind == LETTER) | (previous_kind == NUMBER)
        apostrophe = free & (characters == _APOSTROPHE)
        short = apostrophe & _any([next_1 == ord(a) for a in "stmd"])
        long = apostrophe & _any(
            [(next_1 == ord(a)) & (next_2 == ord(b)) for a, b in ("re", "ve", "ll")]
        )
        inside = _shift(short | long, 1) | _shift(long, 2)
        after = _shift(short, 2) | _shift(long, 3)

        word_begins = (~after_blank & (kind != previous_kind) & ~inside) | after
        return first | tf.where(is_space, space_begins, word_begins)


def _shift(values: tf.Tensor, places: int, fill: int | bool = 0) -> tf.Tensor:
    """Move values to the right, or to the left for negative `places`."""
    filler = tf.fill([abs(places)], tf.cast(fill, values.dtype))
    if places > 0:
        return tf.concat([filler, values], axis=0)[:-places]
    return tf.concat([values, filler], axis=0)[-places:]


def _any(conditions: list[tf.Tensor]) -> tf.Tensor:
    return functools.reduce(tf.logical_or, conditions)
