"""Byte-level byte-pair encoding inside a TensorFlow graph."""

from collections.abc import Sequence

import tensorflow as tf

from gpt_keras.tokenizers.in_graph import InGraphTokenizer, TokenTable
from gpt_keras.tokenizers.pair_merging import PairMerger
from gpt_keras.tokenizers.tokenizer import Tokenizer
from gpt_keras.tokenizers.word_split import WordSplitter


class InGraphBytePairTokenizer(InGraphTokenizer):
    """`BytePairTokenizer` as a Keras layer; made by its `in_graph`.

    Words are cut by comparing neighbouring characters (`WordSplitter`), and all distinct words of
    a batch are merged side by side (`PairMerger`).

    Args:
        tokenizer: The tokenizer in Python.
        allowed_special: The special tokens to look for in texts, and their ids.
        byte_ids: The ids of the 256 bytes.
        merges: `(first, second, merged)` ids of each merge, the earliest learned first.
        token_bytes: The bytes of each token, in the order of the ids.
        single_digits: Whether each digit is a word of its own.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        allowed_special: dict[str, int],
        byte_ids: Sequence[int],
        merges: Sequence[tuple[int, int, int]],
        token_bytes: Sequence[bytes],
        single_digits: bool,
        **kwargs,
    ):
        super().__init__(tokenizer, allowed_special, **kwargs)
        with tf.init_scope():
            self._byte_ids = tf.constant(list(byte_ids), tf.int64)
        self._tokens = TokenTable(token_bytes)
        self._merge = PairMerger(merges, len(token_bytes))
        self._split = WordSplitter(single_digits)

    def _tokenize(self, strings: tf.Tensor) -> tf.RaggedTensor:
        words = self._split(strings)  # (batch, words)
        distinct, index = tf.unique(words.values)
        ids = tf.gather(self._encode_words(distinct), index)  # (words of all rows, ids)
        row_splits = tf.gather(ids.row_splits, words.row_splits)
        return tf.RaggedTensor.from_row_splits(ids.values, row_splits, validate=False)

    def _encode_words(self, words: tf.Tensor) -> tf.RaggedTensor:
        """`(words,)` strings to `(words, None)` ragged int32 ids."""
        lengths = tf.strings.length(words)  # in bytes
        word = tf.repeat(tf.range(tf.size(words)), lengths)
        data = tf.io.decode_raw(tf.strings.reduce_join(words)[tf.newaxis], tf.uint8)[0]
        ids = tf.gather(self._byte_ids, tf.cast(data, tf.int32))
        return self._merge(ids, word, tf.size(words))

    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Turns ids into strings, as `InGraphTokenizer.detokenize` describes."""
        return self._tokens.join(ids)
