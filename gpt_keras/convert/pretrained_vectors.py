"""Pretrained word vectors (GloVe, word2vec) as initial embeddings of a model."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gpt_keras.datasets.document_ids import document_ids
from gpt_keras.tokenizers import Tokenizer

_SHOWN_CHARACTERS = 40


class WordVectors(NamedTuple):
    """Embeddings with the vectors of words put in.

    Attributes:
        matrix: `(rows, dim)` of the dtype of the initial one.
        found: `(rows,)` bool, True where a row got a vector.
        token_coverage: Share of the tokenizer's tokens that got one.
        corpus_coverage: Share of a corpus's running tokens that got one; None without a corpus.
    """

    matrix: np.ndarray
    found: np.ndarray
    token_coverage: float
    corpus_coverage: float | None


def word_vectors(
    path: str | os.PathLike,
    tokenizer: Tokenizer,
    initial: np.ndarray,
    corpus: str | Path | Sequence | None = None,
) -> WordVectors:
    r"""Put pretrained word vectors into the embeddings of a tokenizer's tokens.

    The file has a word and its numbers on each line, with a space between them: GloVe's text
    format, or word2vec's, whose first line gives the number of words and of dimensions. It is read
    line by line, and only vectors that a token asks for are kept.

    A token asks for the text that it decodes to, without one space before it, in which byte-pair
    tokens keep the beginning of a word. So `" the"` and `"the"` both get the vector of `the`. Where
    the file does not have the word, its lower-case form is taken (GloVe's smaller files know no
    capitals). Tokens without a word, such as the end of text, blanks and parts of characters, and
    words that the file does not have keep their initial row.

    Args:
        path: The file, UTF-8 text.
        tokenizer: Its tokens get the vectors.
        initial: `(rows, dim)`, at least one row for each token; not changed. Usually the weights
            of a model's token embedding.
        corpus: Texts to report the share of running tokens of, as
            `gk.datasets.language_modeling` takes them.

    Returns:
        A `WordVectors`.

    Raises:
        ValueError: `initial` does not fit the tokenizer or the file; a line is broken, has another
            number of dimensions or a word that was there before; the message gives its number.

    Example:
        >>> import pathlib, tempfile
        >>> import gpt_keras as gk, numpy as np
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abA")
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "vectors.txt"
        >>> _ = file.write_text("a 1.0 2.0\nof 3.0 4.0\n")
        >>> vectors = gk.convert.word_vectors(file, tokenizer, np.zeros((3, 2)))
        >>> vectors.matrix.tolist(), vectors.found.tolist()
        ([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0]], [True, False, True])

        Into a model, whose embeddings are as wide as the vectors:
        `model.backbone.token_embedding.embeddings.assign(vectors.matrix)`.
    """
    initial = np.asarray(initial)
    if initial.ndim != 2 or len(initial) < tokenizer.vocabulary_size:
        raise ValueError(
            f"`initial` must be a matrix of at least {tokenizer.vocabulary_size} rows, one for "
            f"each token; its shape is {initial.shape}."
        )
    words = _words(tokenizer)
    wanted = {form.encode() for word in words for form in (word, word.lower()) if word}
    vectors: dict[bytes, np.ndarray] = {}
    lines: dict[bytes, int] = {}
    for number, word, values in _read(Path(path), initial.shape[1]):
        if word not in wanted:
            continue
        if word in vectors:
            raise ValueError(
                f"{str(path)!r}, line {number}: the word {_shown(word)} was on line "
                f"{lines[word]} already."
            )
        vectors[word], lines[word] = _numbers(values, path, number), number

    matrix, found = initial.copy(), np.zeros(len(initial), bool)
    for token, word in enumerate(words):
        for form in dict.fromkeys((word.encode(), word.lower().encode())):
            if form in vectors:
                matrix[token], found[token] = vectors[form], True
                break
    coverage = None
    if corpus is not None:
        running = [found[document.ids] for document in document_ids(corpus, tokenizer)]
        coverage = float(np.concatenate(running).mean())
    return WordVectors(matrix, found, float(found[: tokenizer.vocabulary_size].mean()), coverage)


def _words(tokenizer: Tokenizer) -> list[str]:
    """The word that each token asks for; empty for those without."""
    special = {tokenizer.end_of_text_id, *tokenizer.special_tokens.values()}
    words = []
    for token in range(tokenizer.vocabulary_size):
        word = "" if token in special else tokenizer.decode([token]).removeprefix(" ")
        # A part of a character decodes to U+FFFD.
        words.append("" if word.isspace() or "\ufffd" in word else word)
    return words


def _read(path: Path, dim: int) -> Iterator[tuple[int, bytes, list[bytes]]]:
    """Yield the number of each line, its word, and its numbers as bytes."""
    if not path.is_file():
        raise ValueError(f"There is no file {str(path)!r}.")
    header, number = None, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            # Neither line ends of other kinds nor other blanks: some files have words with those.
            fields = line.rstrip(b" \r\n").split(b" ")
            if number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields):
                header = int(fields[0])
                if int(fields[1]) != dim:
                    raise ValueError(
                        f"{str(path)!r}, line 1: the vectors have {int(fields[1])} dimensions, and "
                        f"`initial` has {dim}."
                    )
                continue
            # A word may hold spaces, but its last piece is no number.
            word = b" ".join(fields[:-dim])
            if not word or (_is_number(fields[:-dim][-1]) and len(fields) > dim + 1):
                raise ValueError(
                    f"{str(path)!r}, line {number}: a word and {dim} numbers (as many as `initial` "
                    f"has dimensions) must be there, but it has {len(fields)} fields: "
                    f"{_shown(line)}."
                )
            yield number, word, fields[-dim:]
    num_vectors = number - (header is not None)
    if num_vectors < 1:
        raise ValueError(f"{str(path)!r} holds no vector.")
    if header is not None and header != num_vectors:
        raise ValueError(
            f"{str(path)!r}, line 1: there should be {header} vectors, but there are {num_vectors}."
        )


def _numbers(values: list[bytes], path: str | os.PathLike, number: int) -> np.ndarray:
    try:
        vector = np.array([float(value) for value in values])
    except ValueError as error:
        raise ValueError(f"{str(path)!r}, line {number}: {error}.") from error
    if not np.isfinite(vector).all():
        raise ValueError(f"{str(path)!r}, line {number}: a number is not finite.")
    return vector


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _shown(text: bytes) -> str:
    shown = text.decode(errors="replace").rstrip()
    return repr(shown[:_SHOWN_CHARACTERS]) + ("..." if len(shown) > _SHOWN_CHARACTERS else "")
