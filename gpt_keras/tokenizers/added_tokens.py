"""Tokens added to a vocabulary: chat markers, padding and reserved tokens."""

from typing import NamedTuple


class AddedToken(NamedTuple):
    """A token added to a vocabulary, as in the `added_tokens` of a `tokenizer.json`.

    Attributes:
        token_id: The id of the token.
        text: The text of the token.
        is_special: True if texts are searched for the token only where `allowed_special` names
            it. If False, every text is searched for it.
        lstrip: True if the token removes the white space before it.
        rstrip: True if the token removes the white space after it.
    """

    token_id: int
    text: str
    is_special: bool = True
    lstrip: bool = False
    rstrip: bool = False


def without_gaps(tokens: list[AddedToken], vocabulary_size: int) -> list[AddedToken]:
    """Return the tokens sorted by id, with a filler token for each missing id.

    Args:
        tokens: Tokens whose ids are `vocabulary_size` or larger.
        vocabulary_size: The number of ids in the vocabulary, and so the first id of the result.

    Returns:
        One token for each id from `vocabulary_size` to the largest id in `tokens`. The filler
        token of id 6 is `[PAD6]`.

    Example:
        >>> from gpt_keras.tokenizers.added_tokens import AddedToken, without_gaps
        >>> [token.text for token in without_gaps([AddedToken(7, "<end>")], 6)]
        ['[PAD6]', '<end>']
    """
    by_id = {token.token_id: token for token in tokens}
    return [
        by_id.get(i) or AddedToken(i, f"[PAD{i}]")
        for i in range(vocabulary_size, 1 + max(by_id, default=-1))
    ]
