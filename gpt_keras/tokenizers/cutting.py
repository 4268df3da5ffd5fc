"""Cuts of a long text into pieces with the same ids as the whole text."""

from collections.abc import Callable, Iterator


def cut_into_pieces(
    texts: Iterator[str], safe_cut: Callable[[str], int], piece_characters: int
) -> Iterator[str]:
    """Cut a stream of text into pieces, at safe positions.

    Args:
        texts: Strings; joined, they are one text.
        safe_cut: `Tokenizer.safe_cut`, or a function like it.
        piece_characters: Maximum number of characters of a piece. A piece is longer if there is no
            safe position before.

    Yields:
        Strings; joined, they are the same text.
    """
    rest = ""
    for text in texts:
        text = rest + text
        start = 0
        while len(text) - start > piece_characters:
            cut = safe_cut(text[start : start + piece_characters])
            if cut == 0:  # one very long word: search all of the text
                cut = safe_cut(text[start:])
                if cut == 0:
                    break
            yield text[start : start + cut]
            start += cut
        rest = text[start:]
    if rest:
        yield rest
