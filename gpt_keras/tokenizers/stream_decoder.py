"""Streaming decoder: text from ids that arrive a few at a time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpt_keras.tokenizers.tokenizer import Tokenizer


class StreamDecoder:
    """Streaming decoder of generated ids; made by `Tokenizer.stream_decoder`.

    The returned strings, joined, equal the result of `decode` for all ids at once. Bytes of an
    incomplete character are held back until the next ids complete it.

    Args:
        tokenizer: The tokenizer that the ids belong to.
    """

    def __init__(self, tokenizer: "Tokenizer"):
        self._tokenizer = tokenizer
        # A token's text may depend on the token before it (a space between words). So decoding
        # begins at ids whose text was already returned: the first `_num_before` of `_ids`.
        self._ids: list[int] = []
        self._num_before = 0
        # Number of characters of the text of `_ids` that were already returned.
        self._shown = 0

    def decode(self, ids: Sequence[int]) -> str:
        """Return the new text that is final after the next ids.

        Args:
            ids: The next ids.

        Returns:
            The text that follows the text of earlier calls; it may be empty.
        """
        self._ids.extend(ids)
        if not self._tokenizer.ends_inside_character(self._ids):
            return self._take()
        # An incomplete character decodes to one or more U+FFFD, depending on the tokenizer.
        text = self._tokenizer.decode(self._ids).rstrip("\ufffd")
        start, self._shown = self._shown, max(self._shown, len(text))
        return text[start:]

    def finish(self) -> str:
        """Return the rest of the text, with bytes that were never completed as U+FFFD."""
        return self._take()

    def _take(self) -> str:
        text = self._tokenizer.decode(self._ids)[self._shown :]
        # If the new ids have no text, keep the older ids. Without them, the next id would be
        # decoded as the beginning of a text.
        if self._tokenizer.decode(self._ids[self._num_before :]):
            self._ids = self._ids[self._num_before :]
        self._num_before = len(self._ids)
        self._shown = len(self._tokenizer.decode(self._ids))
        return text
