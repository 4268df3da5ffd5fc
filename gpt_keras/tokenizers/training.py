"""Common parts of training a tokenizer with the `tokenizers` engine."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import tokenizers

from gpt_keras.checks import check_positive_int
from gpt_keras.corpus import iterate_documents
from gpt_keras.tokenizers.byte_level import special_token
from gpt_keras.tokenizers.cutting import cut_into_pieces
from gpt_keras.tokenizers.engine import PIECE_CHARACTERS


def check_training(
    vocabulary_size: int, min_frequency: int, special_tokens: Sequence[str]
) -> list[str]:
    """Check the arguments of `train` and return the special tokens as a list."""
    if isinstance(special_tokens, str):
        raise ValueError(
            f"`special_tokens` must be a list of strings, got the string {special_tokens!r}."
        )
    special_tokens = list(special_tokens)
    if len(set(special_tokens)) != len(special_tokens) or not all(
        isinstance(token, str) and token for token in special_tokens
    ):
        raise ValueError(
            f"`special_tokens` must be distinct non-empty strings, got {special_tokens!r}."
        )
    check_positive_int("vocabulary_size", vocabulary_size)
    check_positive_int("min_frequency", min_frequency)
    if vocabulary_size >= 2**31:
        raise ValueError(f"`vocabulary_size` must be below 2**31, got {vocabulary_size}.")
    return special_tokens


def check_room(vocabulary_size: int, symbols: int, kind: str, special_tokens: list[str]) -> None:
    """Check that every token that is not the result of a merge gets an id.

    Args:
        vocabulary_size: Number of ids.
        symbols: Number of tokens before the first merge.
        kind: Plural noun for these tokens, for the error message.
        special_tokens: Tokens after the last merge.

    Raises:
        ValueError: There are more of these tokens than ids.
    """
    smallest = symbols + len(special_tokens)
    if vocabulary_size < smallest:
        raise ValueError(
            f"`vocabulary_size` must be at least {smallest} ({symbols} {kind} and "
            f"{len(special_tokens)} special tokens), got {vocabulary_size}."
        )


def iterate_pieces(
    corpus: str | Path | Iterable,
    safe_cut: Callable[[str], int],
    keep_line_ends: bool = False,
    field: str = "text",
) -> Iterator[str]:
    """Iterate over a corpus in pieces of a size that the engine reads fast.

    Args:
        corpus: As in `train`.
        safe_cut: `Tokenizer.safe_cut`, or a function like it.
        keep_line_ends: As in `train`.
        field: As in `train`.

    Yields:
        Non-empty strings.

    Raises:
        ValueError: There is no text, or the corpus cannot be read.
    """
    seen_text = False
    for document in iterate_documents(corpus, field):
        pieces = document.pieces(keep_line_ends)
        for piece in cut_into_pieces(pieces, safe_cut, PIECE_CHARACTERS):
            seen_text = True
            yield piece
    if not seen_text:  # only a byte order mark
        raise ValueError("`corpus` holds no text.")


def add_special_tokens(engine: tokenizers.Tokenizer, special_tokens: list[str]) -> None:
    """Add special tokens to a trained engine, with the ids after its last id.

    Raises:
        ValueError: The engine already has one of the tokens.
    """
    taken = [token for token in special_tokens if engine.token_to_id(token) is not None]
    if taken:
        raise ValueError(f"`special_tokens` must not be in the vocabulary already, got {taken}.")
    engine.add_special_tokens([special_token(token) for token in special_tokens])
