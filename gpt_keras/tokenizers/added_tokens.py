"""Tokens that stand beside a vocabulary: chat marks, padding, reserved ones."""

from typing import NamedTuple


class AddedToken(NamedTuple):
    """A token that is added to a vocabulary.

    Attributes:
        token_id: Its id.
        text: Its text.
        is_special: Whether it is found only in texts in which special tokens are allowed; else it
            is found in every text.
        lstrip: Whether it takes the white space before it.
        rstrip: Whether it takes the white space after it.
    """

    token_id: int
    text: str
    is_special: bool = True
    lstrip: bool = False
    rstrip: bool = False


def without_gaps(tokens: list[AddedToken], vocabulary_size: int) -> list[AddedToken]:
    """Return tokens in the order of their ids, with others for the ids that have none.

    Args:
        tokens: Tokens whose ids may begin anywhere from `vocabulary_size` on.
        vocabulary_size: The first id that is not in the vocabulary.

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
