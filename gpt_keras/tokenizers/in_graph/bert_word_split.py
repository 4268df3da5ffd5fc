"""BERT's basic tokenizer in a graph: words in lower case, without accents."""

import itertools

import tensorflow as tf

from gpt_keras.tokenizers.in_graph.bert_characters import (
    ALONE,
    BARRIER,
    INSIDE,
    SPACE,
    UNCHANGED,
    character_tables,
)
from gpt_keras.tokenizers.in_graph.code_point_table import CodePointTable


class BertWordSplitter(tf.Module):
    """BERT's normalization, and its split at white space and around punctuation.

    It matches the engine's `BertNormalizer(lowercase=True)` and `BertPreTokenizer`. Control
    characters and accents are removed, letters become lower case, and each punctuation mark and
    Chinese character is a word. Bytes that are not valid UTF-8 are read as U+FFFD and removed.
    """

    def __init__(self):
        super().__init__()
        tables = character_tables()
        self._row = CodePointTable(tables.row)
        self._kind = CodePointTable(tables.kind)
        self._order = CodePointTable(tables.order)
        with tf.init_scope():
            self._sequences = tf.constant([*itertools.chain(*tables.sequences)], tf.int32)
            ends = itertools.accumulate(map(len, tables.sequences))
            self._sequence_splits = tf.constant([0, *ends], tf.int64)

    def __call__(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """Split strings into words.

        Args:
            strings: `(batch,)` string tensor, UTF-8.

        Returns:
            `(batch, None)` ragged strings: normalized, non-empty words.
        """
        decoded = tf.strings.unicode_decode(strings, "UTF-8")  # (batch, characters)
        characters, row = self._normalize(decoded.values, decoded.value_rowids())
        kind = tf.cast(self._kind(characters), tf.int32)

        starts_row = row != _previous(row, -1)
        begins = starts_row | (kind == ALONE) | (_previous(kind, SPACE) != INSIDE)
        places = tf.where(kind != SPACE)[:, 0]
        begins = tf.gather(begins, places)
        words = tf.strings.unicode_encode(
            tf.RaggedTensor.from_row_starts(
                tf.gather(characters, places), tf.where(begins)[:, 0], validate=False
            ),
            "UTF-8",
        )
        row_of_word = tf.boolean_mask(tf.gather(row, places), begins)
        return tf.RaggedTensor.from_value_rowids(
            words, row_of_word, nrows=decoded.nrows(), validate=False
        )

    def _normalize(self, characters: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Replace each character by zero, one or more characters.

        Args:
            characters: `(characters,)` int32 code points of all rows.
            row: `(characters,)` index of the row of each character.

        Returns:
            `(characters, row)` after replacement.
        """
        number = self._row(characters)
        sequences = tf.RaggedTensor.from_row_splits(
            self._sequences, self._sequence_splits, validate=False
        )
        results = tf.gather(sequences, number)  # (characters, None)
        origin = results.value_rowids()
        results = tf.where(
            tf.gather(number, origin) == UNCHANGED, tf.gather(characters, origin), results.values
        )
        row = tf.gather(row, origin)
        results = self._sort_marks(results, row)
        places = tf.where(results != BARRIER)[:, 0]
        return tf.gather(results, places), tf.gather(row, places)

    def _sort_marks(self, characters: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
        """Sort neighbouring combining marks by class; this is rarely needed."""
        order = tf.cast(self._order(characters), tf.int64)
        starts_run = (order == 0) | (row != _previous(row, -1))

        def sort() -> tf.Tensor:
            run = tf.cumsum(tf.cast(starts_run, tf.int64))
            return tf.gather(characters, tf.argsort(run * 256 + order, stable=True))

        falls = ~starts_run & (order < _previous(order, 0))
        return tf.cond(tf.reduce_any(falls), sort, lambda: characters)


def _previous(values: tf.Tensor, first: int) -> tf.Tensor:
    return tf.concat([[tf.cast(first, values.dtype)], values], axis=0)[:-1]
