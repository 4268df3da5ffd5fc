"""Token ids of a text whose answers are encoded as generation writes them."""

import itertools
from collections.abc import Callable, Sequence

from gpt_keras.tokenizers import Tokenizer

# Texts before a continuation. A tokenizer that begins each text with a space, as SentencePiece
# does, needs one of them. The ids of most tokenizers do not join a line end with other text.
_CONTEXTS = ("", "\n", ".")


def encode_segments(
    segments: Sequence[tuple[str | int, bool]], tokenizer: Tokenizer
) -> tuple[list[int], list[bool]]:
    """Encode segments of a text, and return a mask of the ids of the marked segments.

    No token spans two segments. The ids of a segment continue the ids of the segments before it,
    as generated tokens continue a prompt.

    Args:
        segments: `(part, is_marked)`: strings and ids of special tokens, in the order of the text.
        tokenizer: The tokenizer.

    Returns:
        `(token_ids, mask)`.

    Raises:
        ValueError: The tokenizer cannot encode a segment apart from the text before it.

    Example:
        >>> import gpt_keras as gk
        >>> from gpt_keras.chat.masked_encoding import encode_segments
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc", end_of_text=True)
        >>> encode_segments([("ab", False), ("c", True), (3, True)], tokenizer)
        ([0, 1, 2, 3], [False, False, True, True])
    """
    token_ids, mask = [], []
    runs = [
        list(run)
        for _, run in itertools.groupby(segments, lambda segment: isinstance(segment[0], str))
    ]
    for i, run in enumerate(runs):
        parts, marks = zip(*run)
        if isinstance(parts[0], str):
            # A special token may remove the white space beside it.
            before = [runs[i - 1][-1][0]] if i else []
            after = [runs[i + 1][0][0]] if i + 1 < len(runs) else []
            encoded = _encode_run(parts, before, after, tokenizer)
        else:
            encoded = [[part] for part in parts]
        for ids, is_marked in zip(encoded, marks):
            token_ids += ids
            mask += [is_marked] * len(ids)
    return token_ids, mask


def _encode_run(
    texts: Sequence[str], before: list[int], after: list[int], tokenizer: Tokenizer
) -> list[list[int]]:
    """Return the ids of texts without special tokens between them."""

    def encode(text: str) -> list[int]:
        is_whole = len(text) == sum(map(len, texts))
        return tokenizer.encode_each_part([*before, text, *(after if is_whole else [])])[
            len(before)
        ]

    encoded, start = [], 0
    done = encode("")
    for i, text in enumerate(texts):
        joined = encode("".join(texts[start : i + 1]))
        if joined[: len(done)] == done:
            encoded.append(joined[len(done) :])
            done = joined
        else:
            encode = _continuing(tokenizer)
            done = encode(text)
            encoded.append(done)
            start = i
    return encoded


def _continuing(tokenizer: Tokenizer) -> Callable[[str], list[int]]:
    """Return a function that encodes a text as the continuation of another."""

    def encode(text: str) -> list[int]:
        for context in _CONTEXTS:
            before, ids = (
                tokenizer.encode_each_part(["", said])[1] for said in (context, context + text)
            )
            rest = ids[len(before) :]
            is_apart = ids[: len(before)] == before
            if is_apart and b"".join(tokenizer.pieces(rest)) == text.encode():
                return rest
        raise ValueError(
            f"The tokenizer joins the text before an answer with its beginning, {text[:20]!r}, to "
            "one token. Use a chat template that writes a special token or a line end before an "
            "answer."
        )

    return encode
