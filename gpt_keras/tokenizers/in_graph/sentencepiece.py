"""SentencePiece in a TensorFlow graph."""

from collections.abc import Callable

import tensorflow as tf

from gpt_keras.tokenizers.in_graph.base import InGraphTokenizer, TokenTable
from gpt_keras.tokenizers.sentencepiece_model import SentencePieceModel
from gpt_keras.tokenizers.tokenizer import Tokenizer


class InGraphSentencePieceTokenizer(InGraphTokenizer):
    """`SentencePieceTokenizer` as a Keras layer; made by its `in_graph`.

    Args:
        tokenizer: The Python tokenizer.
        allowed_special: Special tokens to find in texts, and their ids.
        engine: A function from `(batch,)` strings to ragged int32 ids.
        model: Vocabulary and settings of the `.model` file.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        allowed_special: dict[str, int],
        engine: Callable[[tf.Tensor], tf.RaggedTensor],
        model: SentencePieceModel,
        **kwargs,
    ):
        super().__init__(tokenizer, allowed_special, **kwargs)
        self._engine = engine
        self._tokens = TokenTable(model.token_bytes)
        self._first_tokens = TokenTable(model.first_bytes)
        with tf.init_scope():
            self._ends_beginning = tf.constant([not passes for passes in model.passes_on])

    def _tokenize(self, strings: tf.Tensor) -> tf.RaggedTensor:
        strings = tf.strings.unicode_transcode(strings, "UTF-8", "UTF-8", errors="replace")
        return self._engine(strings)

    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Decode ids to strings, as `InGraphTokenizer.detokenize` describes.

        The prefix space that encoding added is removed.
        """
        if not isinstance(ids, tf.RaggedTensor):
            ids = tf.RaggedTensor.from_tensor(tf.convert_to_tensor(ids))
        # For each token: how many tokens with text come before it, in this row and earlier rows.
        ends = tf.cast(tf.gather(self._ends_beginning, ids.values), tf.int32)
        before = tf.cumsum(tf.concat([[0], ends], axis=0))
        before_row = tf.gather(before, ids.row_starts())
        begins = before[:-1] == tf.gather(before_row, ids.value_rowids())
        # Each row is decoded in two parts: the tokens that begin the text, then all others.
        first = tf.ragged.boolean_mask(ids, ids.with_values(begins))
        others = tf.ragged.boolean_mask(ids, ids.with_values(~begins))
        return tf.strings.join([self._first_tokens.join(first), self._tokens.join(others)])

    def _detokenize_rest(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        return self._tokens.join(ids)
