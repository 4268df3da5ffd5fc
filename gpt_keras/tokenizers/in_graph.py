"""Tokenizers as Keras layers made of plain TensorFlow ops.

They do what the tokenizers in Python do, inside a graph: in a `tf.data` pipeline, in a model, in
a SavedModel that is served without Python. No op of tensorflow-text is needed.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from gpt_keras.tokenizers.word_split import WordSplitter

# What a pair of tokens that is never merged has in place of a rank.
_NEVER = 2**62


class InGraphTokenizer(keras.layers.Layer):
    """What the in-graph tokenizers share: the way in, and the way from ids back to text.

    Args:
        token_bytes: The bytes of each token, in the order of the ids.
    """

    def __init__(self, token_bytes: Sequence[bytes], **kwargs):
        super().__init__(trainable=False, **kwargs)
        # Strings are not to be cast to the layer's dtype.
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        self.built = True
        with tf.init_scope():
            self._token_bytes = tf.constant(list(token_bytes), tf.string)

    def call(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """Turns strings into ids.

        Args:
            strings: `(batch,)` string tensor, UTF-8.

        Returns:
            `(batch, None)` ragged int32 ids.
        """
        return self._tokenize(tf.ensure_shape(tf.convert_to_tensor(strings, tf.string), [None]))

    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Turns ids into strings.

        Args:
            ids: `(batch, length)` integers, dense or ragged, from 0 to `vocabulary_size - 1`.

        Returns:
            `(batch,)` strings: the bytes of the tokens, joined. They need not be valid UTF-8 where
            a sequence ends in the middle of a character.

        Raises:
            tf.errors.InvalidArgumentError: If an id is outside the vocabulary.
        """
        if not isinstance(ids, tf.RaggedTensor):
            ids = tf.convert_to_tensor(ids)
        return tf.strings.reduce_join(tf.gather(self._token_bytes, ids), axis=-1)


class InGraphCharacterTokenizer(InGraphTokenizer):
    """`CharacterTokenizer` as a Keras layer; made by its `in_graph`.

    Args:
        characters: The known characters, in the order of their ids.
        tokens: The text of each token.
    """

    def __init__(self, characters: str, tokens: Sequence[str], **kwargs):
        super().__init__([token.encode() for token in tokens], **kwargs)
        code_points = [ord(character) for character in characters]
        self._ids = _hash_table(code_points, range(len(code_points)), default=-1)

    def _tokenize(self, strings: tf.Tensor) -> tf.RaggedTensor:
        code_points = tf.strings.unicode_decode(strings, "UTF-8")
        ids = self._ids.lookup(tf.cast(code_points.values, tf.int64))
        unknown = tf.boolean_mask(code_points.values, ids < 0)
        check = tf.debugging.Assert(
            tf.equal(tf.size(unknown), 0),
            ["The tokenizer does not know these characters (code points):", unknown],
        )
        with tf.control_dependencies([check] if check is not None else []):
            return code_points.with_values(tf.cast(ids, tf.int32))


class InGraphBytePairTokenizer(InGraphTokenizer):
    """`BytePairTokenizer` as a Keras layer; made by its `in_graph`.

    Words are cut by comparing neighbouring characters (`WordSplitter`), and all distinct words of
    a batch are merged side by side, in as many rounds as the longest chain of merges takes.

    Args:
        byte_ids: The ids of the 256 bytes.
        merges: `(first, second, merged)` ids of each merge, the earliest learned first.
        token_bytes: The bytes of each token, in the order of the ids.
    """

    def __init__(
        self,
        byte_ids: Sequence[int],
        merges: Sequence[tuple[int, int, int]],
        token_bytes: Sequence[bytes],
        **kwargs,
    ):
        super().__init__(token_bytes, **kwargs)
        with tf.init_scope():
            self._byte_ids = tf.constant(list(byte_ids), tf.int64)
        # A pair's key and value are one int64 each: the two ids; rank and merged id.
        self._base = len(token_bytes)
        self._merges = _hash_table(
            [first * self._base + second for first, second, _ in merges],
            [rank * self._base + merged for rank, (_, _, merged) in enumerate(merges)],
            default=_NEVER,
        )
        self._all_at_once = _ranks_grow(merges)
        self._splitter = WordSplitter()

    def _tokenize(self, strings: tf.Tensor) -> tf.RaggedTensor:
        words = self._splitter(strings)  # (batch, words)
        distinct, index = tf.unique(words.values)
        ids = tf.gather(self._encode_words(distinct), index)  # (words of all rows, ids)
        row_splits = tf.gather(ids.row_splits, words.row_splits)
        return tf.RaggedTensor.from_row_splits(ids.values, row_splits, validate=False)

    def _encode_words(self, words: tf.Tensor) -> tf.RaggedTensor:
        """`(words,)` strings to `(words, None)` ragged int32 ids."""
        lengths = tf.strings.length(words)  # in bytes
        num_words = tf.size(words)
        # All tokens of all words in one row, and for each the word it belongs to.
        word = tf.repeat(tf.range(num_words), lengths)
        data = tf.io.decode_raw(tf.strings.reduce_join(words)[tf.newaxis], tf.uint8)[0]
        ids = tf.gather(self._byte_ids, tf.cast(data, tf.int32))
        pairs = self._look_up(ids, _next(ids, 0), word == _next(word, -1))

        _, ids, word = tf.while_loop(
            lambda pairs, ids, word: tf.reduce_any(pairs < _NEVER),
            self._merge_round,
            [pairs, ids, word],
            shape_invariants=[tf.TensorShape([None])] * 3,
        )
        counts = tf.math.bincount(word, minlength=num_words, maxlength=num_words, dtype=tf.int64)
        return tf.RaggedTensor.from_row_lengths(tf.cast(ids, tf.int32), counts, validate=False)

    def _merge_round(self, pairs: tf.Tensor, ids: tf.Tensor, word: tf.Tensor) -> list[tf.Tensor]:
        """Merges in each word the pair that was learned earliest.

        Args:
            pairs: For each token what the table says of it and the next one.
            ids: The tokens.
            word: The word of each token.

        Returns:
            The three after the merge.
        """
        best = tf.math.segment_min(pairs, word)
        merge = (pairs < _NEVER) & (pairs == tf.gather(best, word))
        place = tf.range(tf.size(ids))
        if self._all_at_once:
            # Of overlapping pairs, as in "aaaa", every second one is merged.
            begins = merge & ~_previous(merge, False)
            number = tf.maximum(tf.cumsum(tf.cast(begins, tf.int32)) - 1, 0)
            begin = tf.gather(tf.boolean_mask(place, begins), number)
            merge &= (place - begin) % 2 == 0
        else:
            leftmost = tf.math.segment_min(tf.where(merge, place, place.dtype.max), word)
            merge &= place == tf.gather(leftmost, word)

        keep = ~_previous(merge, False)
        ids = tf.boolean_mask(tf.where(merge, pairs % self._base, ids), keep)
        word = tf.boolean_mask(word, keep)
        pairs = tf.boolean_mask(pairs, keep)
        # Only pairs that a merge touched can have changed.
        merge = tf.boolean_mask(merge, keep)
        changed = tf.where(merge | _next(merge, False))
        at = changed[:, 0]
        new = self._look_up(
            tf.gather(ids, at),
            tf.gather(_next(ids, 0), at),
            tf.gather(word == _next(word, -1), at),
        )
        return [tf.tensor_scatter_nd_update(pairs, changed, new), ids, word]

    def _look_up(self, first: tf.Tensor, second: tf.Tensor, same_word: tf.Tensor) -> tf.Tensor:
        return self._merges.lookup(tf.where(same_word, first * self._base + second, -1))


def _ranks_grow(merges: Sequence[tuple[int, int, int]]) -> bool:
    """Whether no merge can make way for an earlier one, as in every trained vocabulary.

    Then all places in a word where the best pair occurs can be merged in one round: merging the
    first of them makes no pair that would come before the second.
    """
    latest: dict[int, int] = {}
    for rank, (_, _, merged) in enumerate(merges):
        latest[merged] = rank
    return all(
        latest.get(first, -1) < rank and latest.get(second, -1) < rank
        for rank, (first, second, _) in enumerate(merges)
    )


def _next(values: tf.Tensor, last: int | bool) -> tf.Tensor:
    return tf.concat([values, [tf.cast(last, values.dtype)]], axis=0)[1:]


def _previous(values: tf.Tensor, first: int | bool) -> tf.Tensor:
    return tf.concat([[tf.cast(first, values.dtype)], values], axis=0)[:-1]


def _hash_table(keys, values, default: int) -> tf.lookup.StaticHashTable:
    initializer = tf.lookup.KeyValueTensorInitializer(
        tf.constant(list(keys), tf.int64, shape=[len(keys)]),
        tf.constant(list(values), tf.int64, shape=[len(keys)]),
    )
    return tf.lookup.StaticHashTable(initializer, default_value=default)
