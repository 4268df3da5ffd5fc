"""GPT-1's tokenizer in a TensorFlow graph."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from gpt_keras.tokenizers.in_graph.base import InGraphTokenizer, TokenTable
from gpt_keras.tokenizers.in_graph.bert_characters import NUM_CODE_POINTS
from gpt_keras.tokenizers.in_graph.bert_word_split import BertWordSplitter
from gpt_keras.tokenizers.in_graph.code_point_table import CodePointTable
from gpt_keras.tokenizers.in_graph.pair_merging import PairMerger
from gpt_keras.tokenizers.tokenizer import Tokenizer


class InGraphGPT1Tokenizer(InGraphTokenizer):
    """`GPT1Tokenizer` as a Keras layer; made by `GPT1Tokenizer.in_graph`.

    Tables of characters normalize text and split it into words (`BertWordSplitter`). All distinct
    words of a batch are merged in parallel (`PairMerger`).

    Args:
        tokenizer: The Python tokenizer.
        allowed_special: Special tokens to find in texts, and their ids.
        inside_ids: Ids of characters that are not the last one of a word.
        last_ids: Ids of characters that are the last one of a word.
        unknown_id: Id of all other characters.
        merges: `(first, second, merged)` ids of each merge, the earliest learned first.
        tokens: The text of each token, in the order of the ids, without the end-of-word mark.
        ends_word: Whether each token ends a word.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        allowed_special: dict[str, int],
        inside_ids: Mapping[str, int],
        last_ids: Mapping[str, int],
        unknown_id: int,
        merges: Sequence[tuple[int, int, int]],
        tokens: Sequence[str],
        ends_word: Sequence[bool],
        **kwargs,
    ):
        super().__init__(tokenizer, allowed_special, **kwargs)
        self._split = BertWordSplitter()
        self._inside_ids = _character_ids(inside_ids, unknown_id)
        self._last_ids = _character_ids(last_ids, unknown_id)
        self._merge = PairMerger(merges, len(tokens))
        self._tokens = TokenTable(
            [(text + " " * ends).encode() for text, ends in zip(tokens, ends_word, strict=True)]
        )
        with tf.init_scope():
            self._ends_word = tf.constant(list(ends_word), tf.bool)

    def _tokenize(self, strings: tf.Tensor) -> tf.RaggedTensor:
        words = self._split(strings)  # (batch, words)
        distinct, index = tf.unique(words.values)
        ids = tf.gather(self._encode_words(distinct), index)  # (words of all rows, ids)
        row_splits = tf.gather(ids.row_splits, words.row_splits)
        return tf.RaggedTensor.from_row_splits(ids.values, row_splits, validate=False)

    def _encode_words(self, words: tf.Tensor) -> tf.RaggedTensor:
        """Encode `(words,)` strings as `(words, None)` ragged int32 ids."""
        characters = tf.strings.unicode_decode(words, "UTF-8")  # (words, characters)
        word = tf.cast(characters.value_rowids(), tf.int32)
        is_last = word != tf.concat([word[1:], [-1]], axis=0)[: tf.size(word)]
        ids = tf.where(
            is_last, self._last_ids(characters.values), self._inside_ids(characters.values)
        )
        return self._merge(ids, word, tf.size(words))

    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Decode ids to strings, as `InGraphTokenizer.detokenize` describes.

        A space follows each word except the last.
        """
        ids = _ragged(ids)
        return _split_last(self._tokens.join(ids), self._ends_in_word_end(ids))[0]

    def detokenize_stream(
        self, ids: tf.Tensor | tf.RaggedTensor, rest: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Decode ids that arrive a few at a time, as `InGraphTokenizer` describes.

        `rest` holds the space after a word until another word follows.
        """
        ids = _ragged(ids)
        text = tf.strings.join([rest, self._tokens.join(ids)])
        waits = tf.where(ids.row_lengths() > 0, self._ends_in_word_end(ids), rest != "")
        return _split_last(text, waits)

    def _ends_in_word_end(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """Return whether the last id of each row ends a word; False for an empty row."""
        ends = tf.concat([[False], tf.gather(self._ends_word, ids.values)], axis=0)
        return tf.gather(ends, ids.row_splits[1:]) & (ids.row_lengths() > 0)


def _character_ids(ids: Mapping[str, int], unknown_id: int) -> CodePointTable:
    values = np.full(NUM_CODE_POINTS, unknown_id, np.int32)
    for character, i in ids.items():
        values[ord(character)] = i
    return CodePointTable(values)


def _ragged(ids: tf.Tensor | tf.RaggedTensor) -> tf.RaggedTensor:
    if isinstance(ids, tf.RaggedTensor):
        return ids
    return tf.RaggedTensor.from_tensor(tf.convert_to_tensor(ids))


def _split_last(text: tf.Tensor, where: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Split off the last byte of the strings where `where` is True."""
    num_bytes = tf.cast(where, tf.int32)
    cut = tf.strings.length(text) - num_bytes
    return (
        tf.strings.substr(text, tf.zeros_like(cut), cut),
        tf.strings.substr(text, cut, num_bytes),
    )
