"""Characters as tokens in a TensorFlow graph."""

from collections.abc import Sequence

import tensorflow as tf

from gpt_keras.tokenizers.in_graph.base import InGraphTokenizer, TokenTable
from gpt_keras.tokenizers.in_graph.hash_table import hash_table


class InGraphCharacterTokenizer(InGraphTokenizer):
    """`CharacterTokenizer` as a Keras layer; made by `CharacterTokenizer.in_graph`.

    Args:
        tokenizer: The Python tokenizer.
        allowed_special: Special tokens to find in texts, and their ids.
        characters: The known characters, in the order of their ids.
        tokens: The text of each token.
    """

    def __init__(
        self, tokenizer, allowed_special, characters: str, tokens: Sequence[str], **kwargs
    ):
        super().__init__(tokenizer, allowed_special, **kwargs)
        self._tokens = TokenTable([token.encode() for token in tokens])
        code_points = [ord(character) for character in characters]
        self._ids = hash_table(code_points, range(len(code_points)), default=-1)

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

    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Decode ids to strings, as `InGraphTokenizer.detokenize` describes."""
        return self._tokens.join(ids)
