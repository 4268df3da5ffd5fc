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
    """An embedding matrix with pretrained word vectors, as `word_vectors` returns it.

    Attributes:
        matrix: `(rows, dim)`, in the dtype of the initial matrix.
        found: `(rows,)` bool, True if the row has a pretrained vector.
        token_coverage: Fraction of the vocabulary with a pretrained vector.
        corpus_coverage: Fraction of the tokens of the corpus with a pretrained vector, each
            occurrence counted. None without a corpus.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> matrix, found = np.zeros((2, 3)), np.array([True, False])
        >>> vectors = gk.convert.WordVectors(matrix, found, found.mean(), None)
        >>> float(vectors.token_coverage)
        0.5
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
    r"""Initialize the embeddings of a tokenizer's tokens with pretrained word vectors.

    The file has GloVe's text format: a word and its numbers on each line, separated by spaces.
    word2vec's text format is read, too: its first line gives the number of words and of dimensions.
    The file is read line by line, and vectors that match no token are skipped.

    The word of a token is its decoded text without one leading space, because byte-pair tokens
    begin with the space before the word. So `" the"` and `"the"` both get the vector of `the`. If
    the file lacks the word, its lower-case form is looked up: some of GloVe's files have no capital
    letters. Other rows of `initial` stay unchanged: special tokens, white space, parts of
    characters, and words that the file lacks.

    Args:
        path: The file, UTF-8 text.
        tokenizer: The tokenizer whose tokens get the vectors.
        initial: Initial embeddings, `(rows, dim)`, with at least one row per token. Usually the
            weights of a model's token embedding. The array itself is not changed.
        corpus: Texts for `corpus_coverage`, as `gk.datasets.language_modeling` takes them.

    Returns:
        A `WordVectors`.

    Raises:
        ValueError: `initial` does not fit the tokenizer or the file. Or a line is damaged, has
            another number of dimensions, or repeats a word; the message gives the line.

    Example:
        >>> import pathlib, tempfile
        >>> import gpt_keras as gk, numpy as np
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abA")
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "vectors.txt"
        >>> _ = file.write_text("a 1.0 2.0\nof 3.0 4.0\n")
        >>> vectors = gk.convert.word_vectors(file, tokenizer, np.zeros((3, 2)))
        >>> vectors.matrix.tolist(), vectors.found.tolist()
        ([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0]], [True, False, True])

        To use the vectors in a model with embeddings of the same width:
        `model.backbone.token_embedding.embeddings.assign(vectors.matrix)`.
    """
    initial = np.asarray(initial)
    if initial.ndim != 2 or len(initial) < tokenizer.vocabulary_size:
        raise ValueError(
            f"`initial` must be a matrix of at least {tokenizer.vocabulary_size} rows, one for "
            f"each token, got the shape {initial.shape}."
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
                f"{str(path)!r}, line {number}: the word {_shown(word)} is already on line "
                f"{lines[word]}."
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
    """Return the word of each token; an empty string for tokens without a word."""
    special = {tokenizer.end_of_text_id, *tokenizer.special_tokens.values()}
    words = []
    for token in range(tokenizer.vocabulary_size):
        word = "" if token in special else tokenizer.decode([token]).removeprefix(" ")
        # The bytes of an incomplete character decode to U+FFFD.
        words.append("" if word.isspace() or "\ufffd" in word else word)
    return words


def _read(path: Path, dim: int) -> Iterator[tuple[int, bytes, list[bytes]]]:
    """Yield the number of each line, its word, and its numbers as bytes."""
    if not path.is_file():
        raise ValueError(f"There is no file {str(path)!r}.")
    header, number = None, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            # Strip and split at these characters only: the words of some files contain other line
            # ends and white space.
            fields = line.rstrip(b" \r\n").split(b" ")
            if number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields):
                header = int(fields[0])
                if int(fields[1]) != dim:
                    raise ValueError(
                        f"{str(path)!r}, line 1: the vectors have {int(fields[1])} dimensions, and "
                        f"`initial` has {dim}."
                    )
                continue
            # A word may contain spaces. If its last piece is a number, the line has too many
            # numbers.
            word = b" ".join(fields[:-dim])
            if not word or (_is_number(fields[:-dim][-1]) and len(fields) > dim + 1):
                raise ValueError(
                    f"{str(path)!r}, line {number}: it must have a word and {dim} numbers (the "
                    f"dimensions of `initial`), but has {len(fields)} fields: {_shown(line)}."
                )
            yield number, word, fields[-dim:]
    num_vectors = number - (header is not None)
    if num_vectors < 1:
        raise ValueError(f"{str(path)!r} holds no vector.")
    if header is not None and header != num_vectors:
        raise ValueError(
            f"{str(path)!r}, line 1: it announces {header} vectors, but there are {num_vectors}."
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
