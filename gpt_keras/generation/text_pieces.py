"""Text as it becomes certain while a model generates, and its end at a stop string."""

from collections.abc import Sequence

from gpt_keras.tokenizers import Tokenizer


def cut_at_stop(text: str, start: int, stop: Sequence[str]) -> str:
    """Return the text without what comes from the first stop string on.

    Args:
        text: Prompt and continuation.
        start: Where the continuation begins; stop strings before it do not count.
        stop: Strings.

    Example:
        >>> from gpt_keras.generation.text_pieces import cut_at_stop
        >>> cut_at_stop("a.b.c", 2, ["."])
        'a.b'
    """
    ends = [text.find(string, start) for string in stop]
    return text[: min((end for end in ends if end >= 0), default=len(text))]


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """Return the bytes of each token, in the order of the ids, as they are inside a text.

    At its beginning or end a token may lose a space.

    Example:
        >>> import gpt_keras as gk
        >>> from gpt_keras.generation.text_pieces import token_bytes
        >>> token_bytes(gk.tokenizers.CharacterTokenizer("ab"))
        [b'a', b'b']
    """
    size = tokenizer.vocabulary_size
    return tokenizer.pieces([*range(size), *range(size), 0])[size:-1]


class TextPieces:
    """Pieces of text from the ids of one continuation, each of which is final.

    A piece never ends inside a character, nor in what may be the beginning of a stop string.

    Args:
        tokenizer: Whose ids they are.
        prompt: The ids before the continuation.
        stop: Strings that end the text and are not part of it.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stop: Sequence[str]):
        self._decoder = tokenizer.stream_decoder()
        self._decoder.decode(prompt)  # its text is known
        self._stop = stop
        self._waiting = ""
        self._has_ended = False

    def take(self, token_ids: Sequence[int], is_last: bool) -> str:
        """Take further ids and return the text that is certain with them.

        Args:
            token_ids: The next ids of the continuation.
            is_last: Whether no more will come.

        Returns:
            A piece of text, which may be empty; after the end, or a stop string, it always is.
        """
        if self._has_ended:
            return ""
        text = self._waiting + self._decoder.decode(token_ids)
        if is_last:
            text += self._decoder.finish()
        before = cut_at_stop(text, 0, self._stop)
        self._has_ended = is_last or before != text
        if self._has_ended:
            return before
        sizes = (
            size
            for string in self._stop
            for size in range(min(len(string), len(text)), 0, -1)
            if text.endswith(string[:size])
        )
        certain = len(text) - max(sizes, default=0)
        self._waiting = text[certain:]
        return text[:certain]
