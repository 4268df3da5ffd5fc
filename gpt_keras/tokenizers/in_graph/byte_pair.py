"""Byte-level byte-pair encoding in a TensorFlow graph."""

from collections.abc import Sequence

import tensorflow as tf

from gpt_keras.tokenizers.in_graph.base import InGraphTokenizer, TokenTable
from gpt_keras.tokenizers.in_graph.pair_merging import PairMerger
from gpt_keras.tokenizers.in_graph.word_split import WordSplitter
from gpt_keras.tokenizers.tokenizer import Tokenizer


class InGraphBytePairTokenizer(InGraphTokenizer):
    """`BytePairTokenizer` as a Keras layer; made by `BytePairTokenizer.in_graph`.

    Comparing neighbouring characters splits text into words (`WordSplitter`). A word that is a
    token is looked up. All other distinct words are merged in parallel (`PairMerger`).

    Args:
        tokenizer: The Python tokenizer.
        allowed_special: Special tokens to find in texts, and their ids.
        byte_ids: Ids of the 256 bytes; -1 for a byte that is left out.
        merges: `(first, second, merged)` ids of each merge, the earliest learned first.
        token_bytes: The bytes of each token, in the order of the ids.
        single_digits: Whether each digit is a word by itself.
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
        self._tokens = TokenTable(token_bytes)
        self._split = WordSplitter(single_digits)
        self._merge = PairMerger(merges, len(token_bytes))
        self._lacks_bytes = min(byte_ids) < 0
        with tf.init_scope():
            self._byte_ids = tf.constant(list(byte_ids), tf.int32)
            self._single_ids, self._whole_words = self._find_whole_words(token_bytes)

    def _find_whole_words(
        self, token_bytes: Sequence[bytes]
    ) -> tuple[tf.RaggedTensor, tf.lookup.StaticHashTable]:
        """Find the tokens that their own bytes are merged to.

        As words, they need no merging. In English text, nine of ten words are tokens of this kind.

        Returns:
            Each token's id in its own row, and a table from the bytes of these tokens to their ids.
        """
        num_tokens = len(token_bytes)
        words = tf.constant(list(token_bytes), tf.string)
        ids = self._encode_words(words)
        # A special token may have the same bytes as another token. Text is merged to the other one.
        first = ids.to_tensor(-1, shape=[None, 1])[:, 0]
        is_whole = (ids.row_lengths() == 1) & (first == tf.range(num_tokens))
        initializer = tf.lookup.KeyValueTensorInitializer(
            tf.boolean_mask(words, is_whole), tf.boolean_mask(tf.range(num_tokens), is_whole)
        )
        single_ids = tf.RaggedTensor.from_uniform_row_length(tf.range(num_tokens), 1)
        return single_ids, tf.lookup.StaticHashTable(initializer, default_value=-1)

    def _tokenize(self, strings: tf.Tensor) -> tf.RaggedTensor:
        words = self._split(strings)  # (batch, words)
        whole = self._whole_words.lookup(words.values)
        others, index = tf.unique(tf.boolean_mask(words.values, whole < 0))
        ids = tf.concat([self._single_ids, self._encode_words(others)], axis=0)
        # `ids` has a row for each token, then a row for each word that needed merging.
        place = tf.tensor_scatter_nd_update(
            whole, tf.where(whole < 0), index + self._single_ids.nrows(tf.int32)
        )
        ids = tf.gather(ids, place)  # (words of all rows, ids)
        row_splits = tf.gather(ids.row_splits, words.row_splits)
        return tf.RaggedTensor.from_row_splits(ids.values, row_splits, validate=False)

    def _encode_words(self, words: tf.Tensor) -> tf.RaggedTensor:
        """Encode `(words,)` strings as `(words, None)` ragged int32 ids."""
        lengths = tf.strings.length(words)  # in bytes
        word = tf.repeat(tf.range(tf.size(words)), lengths)
        data = tf.io.decode_raw(tf.strings.reduce_join(words)[tf.newaxis], tf.uint8)[0]
        ids = tf.gather(self._byte_ids, tf.cast(data, tf.int32))
        if self._lacks_bytes:
            word, ids = tf.boolean_mask(word, ids >= 0), tf.boolean_mask(ids, ids >= 0)
        return self._merge(ids, word, tf.size(words))

    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Decode ids to strings, as `InGraphTokenizer.detokenize` describes."""
        return self._tokens.join(ids)
