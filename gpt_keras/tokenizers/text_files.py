"""Reading text in pieces, so that a corpus may be larger than memory."""

import codecs
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

PIECE_BYTES = 1 << 20


def list_text_files(path: Path) -> list[Path]:
    """Returns the text files that `path` stands for.

    Args:
        path: A file, or a directory, which stands for all `.txt` files below it.

    Returns:
        The files; those of a directory sorted by name.

    Raises:
        ValueError: If `path` does not exist or is a directory without `.txt` files.
    """
    if path.is_file():
        return [path]
    if not path.exists():
        raise ValueError(f"There is no file or directory {str(path)!r}.")
    files = sorted(file for file in path.rglob("*.txt") if file.is_file())
    if not files:
        raise ValueError(f"The directory {str(path)!r} holds no .txt files.")
    return files


def read_text(path: Path, piece_bytes: int = PIECE_BYTES) -> Iterator[str]:
    """Reads a UTF-8 file piece by piece, without changing line ends.

    Args:
        path: The file.
        piece_bytes: About how long the pieces are.

    Yields:
        Strings that joined give the text of the file.

    Raises:
        ValueError: If the file is not UTF-8; names the file and the offset of the first bad byte.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        offset = 0
        while True:
            chunk = file.read(piece_bytes)
            pending = len(decoder.getstate()[0])  # bytes of a character cut by the last piece
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{str(path)!r} is not UTF-8 text: bad byte at offset "
                    f"{offset - pending + error.start} ({error.reason})."
                ) from error
            if text:
                yield text
            if not chunk:
                return
            offset += len(chunk)


def cut_into_pieces(
    texts: Iterator[str], safe_cut: Callable[[str], int], piece_characters: int
) -> Iterator[str]:
    """Cuts a stream of text anew, at places where cutting changes nothing.

    Args:
        texts: Strings that joined give one text.
        safe_cut: `Tokenizer.safe_cut`, or a function like it.
        piece_characters: The most characters a piece has, unless there is no safe place.

    Yields:
        Strings that joined give the same text.
    """
    rest = ""
    for text in texts:
        text = rest + text
        start = 0
        while len(text) - start > piece_characters:
            cut = safe_cut(text[start : start + piece_characters])
            if cut == 0:  # one very long word: look further, in all there is
                cut = safe_cut(text[start:])
                if cut == 0:
                    break
            yield text[start : start + cut]
            start += cut
        rest = text[start:]
    if rest:
        yield rest


def iterate_documents(texts_or_paths: str | Path | Iterable[str | Path]) -> Iterator[Iterator[str]]:
    """Goes through the documents of a corpus.

    Args:
        texts_or_paths: A `str` is text, a `pathlib.Path` is a file or a directory of `.txt`
            files; or an iterable of these.

    Yields:
        For each text and each file an iterator over its pieces.

    Raises:
        ValueError: If an entry is neither, a path does not exist, or a file is not UTF-8.
    """
    if isinstance(texts_or_paths, (str, Path)):
        texts_or_paths = [texts_or_paths]
    elif isinstance(texts_or_paths, bytes) or not isinstance(texts_or_paths, Iterable):
        raise ValueError(
            "`texts_or_paths` must be a str, a pathlib.Path or an iterable of these, but is of "
            f"type {type(texts_or_paths).__name__}."
        )
    for i, entry in enumerate(texts_or_paths):
        if isinstance(entry, str):
            yield iter([entry])
        elif isinstance(entry, Path):
            for file in list_text_files(entry):
                yield read_text(file)
        else:
            raise ValueError(
                f"`texts_or_paths` must hold str or pathlib.Path, but entry {i} is of type "
                f"{type(entry).__name__}."
            )
