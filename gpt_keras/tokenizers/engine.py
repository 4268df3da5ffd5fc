"""Encoding with the `tokenizers` engine, which works on the pieces of a batch in parallel."""

from collections.abc import Callable

import tokenizers

from gpt_keras.tokenizers.text_files import cut_into_pieces

# How long the pieces are: the engine encodes each one faster than one long string.
PIECE_CHARACTERS = 1 << 14


def encode_in_pieces(
    engine: tokenizers.Tokenizer, texts: list[str], safe_cut: Callable[[str], int]
) -> list[list[int]]:
    """Returns the ids of each text.

    Args:
        engine: What encodes.
        texts: Strings of any length.
        safe_cut: `Tokenizer.safe_cut`, or a function like it.

    Raises:
        ValueError: If a text has a lone surrogate.
    """
    pieces, counts = [], []
    for text in texts:
        if len(text) <= PIECE_CHARACTERS:
            cut = [text]
        else:
            cut = list(cut_into_pieces(iter([text]), safe_cut, PIECE_CHARACTERS))
        pieces += cut
        counts.append(len(cut))
    try:
        encodings = iter(engine.encode_batch_fast(pieces, add_special_tokens=False))
    except TypeError as error:  # how the engine takes text that has no UTF-8 form
        bad = next((text for text in texts if not _is_unicode(text)), None)
        if bad is None:
            raise
        raise ValueError(
            f"`text` must be valid Unicode, but {bad[:60]!r} has a lone surrogate."
        ) from error
    rows = []
    for count in counts:
        row = next(encodings).ids
        for _ in range(count - 1):
            row += next(encodings).ids
        rows.append(row)
    return rows


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
