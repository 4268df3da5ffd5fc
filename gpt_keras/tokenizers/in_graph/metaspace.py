"""Byte-pair encoding with spaces written as `▁`, in a TensorFlow graph."""

from collections.abc import Mapping, Sequence
from typing import Literal

import tensorflow as tf

from gpt_keras.tokenizers.in_graph.base import SEPARATOR, InGraphTokenizer, TokenTable
from gpt_keras.tokenizers.in_graph.hash_table import hash_table
from gpt_keras.tokenizers.in_graph.pair_merging import PairMerger
from gpt_keras.tokenizers.tokenizer import META_SPACE, Tokenizer

# Where a text is split into words: before each space, before each run of spaces, or nowhere.
Words = Literal["each space", "runs", "none"]


class InGraphMetaspaceTokenizer(InGraphTokenizer):
    """`MetaspaceTokenizer` as a Keras layer; made by `MetaspaceTokenizer.in_graph`.

    Text is split where no token continues. All distinct words of a batch are merged in parallel
    (`PairMerger`).

    Args:
        tokenizer: The Python tokenizer.
        allowed_special: Special tokens to find in texts, and their ids.
        character_ids: Ids of the characters in the vocabulary.
        byte_ids: Ids of the 256 bytes, which encode all other characters.
        merges: `(first, second, merged)` ids of each merge, the earliest learned first.
        token_bytes: The bytes of each token, in the order of the ids.
        prefix: When a text gets a prefix space; see `MetaspaceTokenizer.from_scores`.
        words: Where a text is split into words.
        strips_space: Whether `detokenize` removes a space at the beginning.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        allowed_special: dict[str, int],
        character_ids: Mapping[str, int],
        byte_ids: Sequence[int],
        merges: Sequence[tuple[int, int, int]],
        token_bytes: Sequence[bytes],
        prefix: str,
        words: Words,
        strips_space: bool,
        **kwargs,
    ):
        super().__init__(tokenizer, allowed_special, **kwargs)
        self._prefix = prefix
        self._words = words
        self._strips_space = strips_space
        self._character_ids = hash_table(map(ord, character_ids), character_ids.values(), -1)
        self._merge = PairMerger(merges, len(token_bytes))
        self._tokens = TokenTable(token_bytes)
        with tf.init_scope():
            self._byte_ids = tf.constant(list(byte_ids), tf.int32)

    def _tokenize(self, strings: tf.Tensor) -> tf.RaggedTensor:
        return self._tokenize_parts(strings, tf.ones(tf.shape(strings), tf.bool))

    def _tokenize_parts(self, strings: tf.Tensor, is_first: tf.Tensor) -> tf.RaggedTensor:
        words = self._split(self._with_spaces(strings, is_first))  # (batch, words)
        distinct, index = tf.unique(words.values)
        ids = tf.gather(self._encode_words(distinct), index)  # (words of all rows, ids)
        row_splits = tf.gather(ids.row_splits, words.row_splits)
        return tf.RaggedTensor.from_row_splits(ids.values, row_splits, validate=False)

    def _with_spaces(self, strings: tf.Tensor, is_first: tf.Tensor) -> tf.Tensor:
        strings = tf.strings.unicode_transcode(strings, "UTF-8", "UTF-8", errors="replace")
        strings = tf.strings.regex_replace(strings, " ", META_SPACE)
        if self._prefix == "never":
            return strings
        gets_one = strings != ""
        if self._prefix != "prepend":
            gets_one &= ~tf.strings.regex_full_match(strings, f"(?s){META_SPACE}.*")
        if self._prefix == "first":
            gets_one &= is_first
        return tf.strings.join([tf.where(gets_one, META_SPACE, ""), strings])

    def _split(self, strings: tf.Tensor) -> tf.RaggedTensor:
        if self._words == "none":
            words = tf.RaggedTensor.from_uniform_row_length(strings, 1)
        else:
            before = "" if self._words == "each space" else f"[^{META_SPACE}]"
            marked = tf.strings.regex_replace(
                strings, f"({before})({META_SPACE})", rb"\1" + SEPARATOR + rb"\2"
            )
            words = tf.strings.split(marked, SEPARATOR)
        return tf.ragged.boolean_mask(words, words != "")

    def _encode_words(self, words: tf.Tensor) -> tf.RaggedTensor:
        """Encode `(words,)` strings as `(words, None)` ragged int32 ids."""
        code_points = tf.strings.unicode_decode(words, "UTF-8")  # (words, characters)
        characters = tf.strings.unicode_split(words, "UTF-8").values
        ids = self._character_ids.lookup(tf.cast(code_points.values, tf.int64))
        ids = tf.cast(ids, tf.int32)
        is_known = ids >= 0
        # A character has either one id or the ids of its bytes.
        whole = tf.RaggedTensor.from_row_lengths(
            tf.boolean_mask(ids, is_known), tf.cast(is_known, tf.int64), validate=False
        )
        unknown = tf.where(is_known, b"", characters)
        data = tf.io.decode_raw(tf.strings.reduce_join(unknown)[tf.newaxis], tf.uint8)[0]
        in_bytes = tf.RaggedTensor.from_row_lengths(
            tf.gather(self._byte_ids, tf.cast(data, tf.int32)),
            tf.cast(tf.strings.length(unknown), tf.int64),
            validate=False,
        )
        symbols = tf.concat([whole, in_bytes], axis=1)  # (characters, ids)
        word = tf.repeat(tf.cast(code_points.value_rowids(), tf.int32), symbols.row_lengths())
        return self._merge(symbols.values, word, tf.size(words))

    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Decode ids to strings, as `InGraphTokenizer.detokenize` describes.

        The prefix space that encoding added is removed.
        """
        text = self._tokens.join(ids)
        return tf.strings.regex_replace(text, "^ ", "") if self._strips_space else text

    def _detokenize_rest(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        return self._tokens.join(ids)
