"""Text from ids that come a few at a time, as a model generates them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpt_keras.tokenizers.tokenizer import Tokenizer


class StreamDecoder:
    """Decoder of ids that come a few at a time; made by `Tokenizer.stream_decoder`.

    The pieces, joined, are what `decode` gives for all ids at once. Bytes of a character that is
    not complete wait for the ids that complete it.

    Args:
        tokenizer: Whose ids they are.
    """

    def __init__(self, tokenizer: "Tokenizer"):
        self._tokenizer = tokenizer
        # A token's text may depend on the one before it (a space between words), so decoding
        # begins at ids whose text is out already: how many of `_ids` are.
        self._ids: list[int] = []
        self._num_before = 0
        # How many characters of the text of `_ids` are out.
        self._shown = 0

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text that is certain after the next ids.

        Args:
            ids: The ids that follow those of earlier calls.

        Returns:
            The text that follows that of earlier calls; may be empty.
        """
        self._ids.extend(ids)
        if not self._tokenizer.ends_inside_character(self._ids):
            return self._take()
        # Half a character decodes to U+FFFD; one or more, as the tokenizer has it.
        text = self._tokenizer.decode(self._ids).rstrip("\ufffd")
        start, self._shown = self._shown, max(self._shown, len(text))
        return text[start:]

    def finish(self) -> str:
        """Return the rest at the end: bytes that were never completed, as U+FFFD."""
        return self._take()

    def _take(self) -> str:
        text = self._tokenizer.decode(self._ids)[self._shown :]
        # Ids without any text do not tell that a text began before them.
        if self._tokenizer.decode(self._ids[self._num_before :]):
            self._ids = self._ids[self._num_before :]
        self._num_before = len(self._ids)
        self._shown = len(self._tokenizer.decode(self._ids))
        return text
