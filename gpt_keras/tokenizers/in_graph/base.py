"""Base class of the in-graph tokenizers."""

import abc
import re
from collections.abc import Collection, Sequence
from typing import Literal

import keras
import tensorflow as tf

from gpt_keras.backend import require_tensorflow
from gpt_keras.tokenizers.tokenizer import WHITE_SPACE, PaddedIds, Tokenizer
from gpt_keras.tokenizers.utf8 import split_incomplete

# Separates the parts of a text; valid UTF-8 never holds this byte.
SEPARATOR = b"\xff"

_SPACES = f"[{WHITE_SPACE}]+"


class InGraphTokenizer(keras.layers.Layer):
    """Base class of in-graph tokenizers: strings to ids and back, special tokens.

    Args:
        tokenizer: The Python tokenizer.
        allowed_special: Special tokens to find in texts, and their ids.
    """

    def __init__(self, tokenizer: Tokenizer, allowed_special: dict[str, int], **kwargs):
        require_tensorflow("A tokenizer inside the graph")
        super().__init__(trainable=False, **kwargs)
        # Keras must not cast strings to the layer's dtype.
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        self.built = True
        self._tokenizer = tokenizer
        self._special = None
        if allowed_special:
            self._special = _SpecialTokens(
                allowed_special, tokenizer.strips_before, tokenizer.strips_after
            )

    def call(self, strings: tf.Tensor, add_start_of_text: bool = False) -> tf.RaggedTensor:
        """Encode strings as ids.

        Args:
            strings: `(batch,)` string tensor, UTF-8.
            add_start_of_text: As in `Tokenizer.encode`.

        Returns:
            `(batch, None)` ragged int32 ids.
        """
        strings = tf.ensure_shape(tf.convert_to_tensor(strings, tf.string), [None])
        ids = self._find_special_and_tokenize(strings)
        if not add_start_of_text or not self._tokenizer.prompt_start:
            return ids
        start = tf.constant([self._tokenizer.prompt_start], tf.int32)
        return tf.concat([tf.tile(start, [ids.nrows(), 1]), ids], axis=1)

    def _find_special_and_tokenize(self, strings: tf.Tensor) -> tf.RaggedTensor:
        if self._special is None:
            return self._tokenize(strings)
        parts, special_ids = self._special.split(strings)  # (batch, parts) both
        is_first = tf.scatter_nd(
            parts.row_starts()[:, tf.newaxis],
            tf.ones_like(parts.row_starts(), tf.bool),
            tf.shape(parts.values, tf.int64),
        )
        ids = self._tokenize_parts(tf.where(special_ids.values < 0, parts.values, b""), is_first)
        # A part is either text, which has its own ids, or a special token, which has one id.
        special = tf.RaggedTensor.from_row_lengths(
            tf.boolean_mask(special_ids.values, special_ids.values >= 0),
            tf.cast(special_ids.values >= 0, tf.int64),
            validate=False,
        )
        ids = tf.concat([ids, special], axis=1)
        return parts.with_values(ids).merge_dims(1, 2)

    @abc.abstractmethod
    def _tokenize(self, strings: tf.Tensor) -> tf.RaggedTensor: ...

    def _tokenize_parts(self, strings: tf.Tensor, is_first: tf.Tensor) -> tf.RaggedTensor:
        """Tokenize parts of texts.

        Args:
            strings: `(parts,)` strings.
            is_first: `(parts,)` bool, True for the first part of a text.

        Returns:
            `(parts, None)` ragged int32 ids.
        """
        del is_first
        return self._tokenize(strings)

    def encode_padded(
        self,
        strings: tf.Tensor,
        sequence_length: int,
        *,
        append_end_of_text: bool = False,
        padding_side: Literal["left", "right"] = "right",
        truncation_side: Literal["left", "right"] = "right",
        pad_id: int | None = None,
        add_start_of_text: bool = False,
    ) -> PaddedIds:
        """Encode strings as rows of one length: cut longer rows, pad shorter rows.

        Args:
            strings: `(batch,)` string tensor, UTF-8.
            sequence_length: Number of ids in a row.
            append_end_of_text: Whether to append `end_of_text_id` to each text. This happens before
                truncation, so a text that is cut on the right does not have it.
            padding_side: Side of a row that is padded.
            truncation_side: Side of a row that ids are cut from.
            pad_id: Id of padding; None for `end_of_text_id`, or 0 if there is none.
            add_start_of_text: As in `Tokenizer.encode`; this, too, happens before truncation.

        Returns:
            `(token_ids, mask)`: both `(batch, sequence_length)`, int32 and bool. The mask is False
            at padding.

        Raises:
            ValueError: An argument is out of its range.
        """
        tokenizer = self._tokenizer
        pad_id = tokenizer.check_padding(sequence_length, padding_side, truncation_side, pad_id)
        ids = self(strings, add_start_of_text=add_start_of_text)
        if append_end_of_text:
            end = tf.fill([ids.nrows(), 1], tokenizer.require_end_of_text_id())
            ids = tf.concat([ids, end], axis=1)
        cut = ids[:, :sequence_length] if truncation_side == "right" else ids[:, -sequence_length:]
        token_ids = cut.to_tensor(pad_id, shape=[None, sequence_length])
        lengths = tf.cast(cut.row_lengths(), tf.int32)[:, tf.newaxis]  # (batch, 1)
        place = tf.range(sequence_length)[tf.newaxis]  # (1, sequence_length)
        if padding_side == "right":
            return PaddedIds(token_ids, place < lengths)
        source = (place + lengths) % sequence_length  # padding moves to the left end
        mask = tf.broadcast_to(place >= sequence_length - lengths, tf.shape(token_ids))
        return PaddedIds(tf.gather(token_ids, source, batch_dims=1), mask)

    @abc.abstractmethod
    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Decode ids to strings.

        Args:
            ids: `(batch, length)` integers, dense or ragged, from 0 to `vocabulary_size - 1`.

        Returns:
            `(batch,)` strings: the bytes of the tokens, joined. They may be invalid UTF-8 where a
            sequence ends inside a character.

        Raises:
            tf.errors.InvalidArgumentError: An id is outside the vocabulary.
        """

    def detokenize_stream(
        self, ids: tf.Tensor | tf.RaggedTensor, rest: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Decode ids that arrive a few at a time; never end inside a character.

        The ids continue a text, as generated ids continue a prompt. So a space before the first
        word is kept, while `detokenize` removes it if it is a prefix space.

        Args:
            ids: `(batch, length)` integers, dense or ragged: the next ids.
            rest: `(batch,)` strings: the `rest` of the previous call, or empty strings.

        Returns:
            `(text, rest)`: `(batch,)` strings. `text` is final; `rest` holds bytes of an incomplete
            character.

        Example:
            >>> import tensorflow as tf
            >>> import gpt_keras as gk
            >>> layer = gk.tokenizers.BytePairTokenizer.gpt2().in_graph()
            >>> rest = tf.constant([""])
            >>> for token_id in layer(["詩!"])[0]:
            ...     text, rest = layer.detokenize_stream([[token_id]], rest)
            ...     print(text[0].numpy().decode(), len(rest[0].numpy()))
             1
             2
            詩 0
            ! 0
        """
        return split_incomplete(tf.strings.join([rest, self._detokenize_rest(ids)]))

    def _detokenize_rest(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Return the strings of ids that continue a text."""
        return self.detokenize(ids)


class _SpecialTokens(tf.Module):
    """Finder of special tokens in texts."""

    def __init__(
        self, ids: dict[str, int], strips_before: Collection[int], strips_after: Collection[int]
    ):
        super().__init__()
        self._strips_before = sorted(set(strips_before) & set(ids.values()))
        self._strips_after = sorted(set(strips_after) & set(ids.values()))
        # If one token is a prefix of another, the longer one is tried first.
        longest_first = sorted(ids, key=len, reverse=True)
        self._expression = "|".join(map(re.escape, longest_first))
        with tf.init_scope():
            initializer = tf.lookup.KeyValueTensorInitializer(
                tf.constant(list(ids), tf.string), tf.constant(list(ids.values()), tf.int32)
            )
            self._ids = tf.lookup.StaticHashTable(initializer, default_value=-1)

    def split(self, strings: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Split strings before and after each special token.

        Args:
            strings: `(batch,)` strings.

        Returns:
            `(parts, ids)`: both ragged `(batch, None)`. The id of a part is -1 unless the part is a
            special token.
        """
        strings = tf.strings.unicode_transcode(strings, "UTF-8", "UTF-8", errors="replace")
        marked = tf.strings.regex_replace(
            strings, f"({self._expression})", SEPARATOR + rb"\1" + SEPARATOR
        )
        parts = tf.strings.split(marked, SEPARATOR)
        ids = self._ids.lookup(parts.values)
        # A special token always has a part of the same text before and after it, which may be
        # empty.
        texts = _stripped(parts.values, tf.roll(ids, 1, 0), self._strips_after, f"^{_SPACES}")
        texts = _stripped(texts, tf.roll(ids, -1, 0), self._strips_before, f"{_SPACES}$")
        return parts.with_values(texts), parts.with_values(ids)


def _stripped(
    texts: tf.Tensor, neighbours: tf.Tensor, strips: list[int], expression: str
) -> tf.Tensor:
    """Return texts without the white space that some neighbouring tokens remove."""
    if not strips:
        return texts
    takes = tf.reduce_any(neighbours[:, tf.newaxis] == tf.constant(strips), axis=1)
    return tf.where(takes, tf.strings.regex_replace(texts, expression, ""), texts)


class TokenTable(tf.Module):
    """Lookup table from ids to the bytes of tokens.

    Args:
        token_bytes: The bytes of each token, in the order of the ids.
    """

    def __init__(self, token_bytes: Sequence[bytes]):
        super().__init__()
        with tf.init_scope():
            self._bytes = tf.constant(list(token_bytes), tf.string)

    def join(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Return the bytes of the tokens in each row, joined."""
        if not isinstance(ids, tf.RaggedTensor):
            ids = tf.convert_to_tensor(ids)
        return tf.strings.reduce_join(tf.gather(self._bytes, ids), axis=-1)
