"""Incremental decoding for `stream`, and the cut at a stop string."""

from collections.abc import Sequence

from gpt_keras.tokenizers import Tokenizer


def cut_at_stop(text: str, start: int, stop: Sequence[str]) -> str:
    """Cut a text before the first stop string of its continuation.

    Args:
        text: Prompt and continuation.
        start: Index in `text` of the continuation; stop strings before it do not count.
        stop: The stop strings.

    Example:
        >>> from gpt_keras.generation.text_pieces import cut_at_stop
        >>> cut_at_stop("a.b.c", 2, ["."])
        'a.b'
    """
    ends = [text.find(string, start) for string in stop]
    return text[: min((end for end in ends if end >= 0), default=len(text))]


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """Return the bytes of each token inside a text, in the order of the ids.

    At the beginning or the end of a text, some tokenizers drop a space of a token. This function
    returns the bytes with the space.

    Example:
        >>> import gpt_keras as gk
        >>> from gpt_keras.generation.text_pieces import token_bytes
        >>> token_bytes(gk.tokenizers.CharacterTokenizer("ab"))
        [b'a', b'b']
    """
    size = tokenizer.vocabulary_size
    return tokenizer.pieces([*range(size), *range(size), 0])[size:-1]


class TextPieces:
    """Incremental decoder of one continuation, which returns only final text.

    A piece never ends inside a character, or inside a possible beginning of a stop string.

    Args:
        tokenizer: The tokenizer of the ids.
        prompt: Token ids of the prompt.
        stop: Stop strings, which end the text and are not part of it.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stop: Sequence[str]):
        self._decoder = tokenizer.stream_decoder()
        self._decoder.decode(prompt)  # the continuation's text may depend on it
        self._stop = stop
        self._waiting = ""
        self._has_ended = False

    def take(self, token_ids: Sequence[int], is_last: bool) -> str:
        """Decode further ids and return the text that is now final.

        Args:
            token_ids: The next token ids of the continuation.
            is_last: Whether the continuation ends with them.

        Returns:
            A piece of text, which may be empty. After the end or a stop string it is always empty.
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
