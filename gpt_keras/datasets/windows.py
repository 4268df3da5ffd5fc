"""Windows of a corpus, for training to predict the next token."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from gpt_keras.checks import check_positive_int, check_rate, check_seed
from gpt_keras.datasets.batches import gather, ordered_indices, shuffled_indices
from gpt_keras.datasets.documents import list_documents
from gpt_keras.datasets.token_cache import EncodedCorpus, encode_corpus
from gpt_keras.tokenizers import Tokenizer


def language_modeling(
    corpus: str | Path | Sequence[str | Path],
    tokenizer: Tokenizer,
    *,
    sequence_length: int,
    batch_size: int,
    validation_fraction: float = 0.1,
    seed: int = 0,
    cache_dir: str | os.PathLike | None = None,
    verbose: int = 0,
    keep_line_ends: bool = False,
) -> tuple[tf.data.Dataset, tf.data.Dataset | None]:
    r"""Make training and validation data for `model.fit` from a corpus.

    Documents are encoded. Each begins with the tokenizer's start of text where it
    `adds_start_of_text`, and ends with its end of text where it has one. They are joined to one
    stream of tokens, which is cut into windows: window i has tokens
    `i * sequence_length` to `(i + 1) * sequence_length`, both included. All but the last are its
    inputs, all but the first its targets.

    The split is by document, never by window: whole documents, drawn by `seed`, are for
    validation. A single document is cut into two contiguous parts, of which the last one is for
    validation.

    The ids are kept on disk, so a second call with the same corpus and tokenizer starts at once,
    and a corpus may be larger than memory.

    Args:
        corpus: A `str` is text, a `pathlib.Path` is a file or a directory, which stands for all
            `.txt` and `.md` files below it that are not hidden, each file a document; or several
            of these in any container: a list, a NumPy array, a pandas Series, a generator.
        tokenizer: Turns text into ids.
        sequence_length: Tokens in a window.
        batch_size: Windows in a batch.
        validation_fraction: About how much of the tokens is for validation, from 0 to less
            than 1. Where it is above 0 and there are two or more documents, each side gets at
            least one. With 0 there is no validation data.
        seed: Decides the split and the order of the training windows.
        cache_dir: Where ids are kept; None for the environment variable `GPT_KERAS_CACHE`, or
            `~/.cache/gpt_keras`.
        verbose: 1 shows a progress bar while encoding.
        keep_line_ends: Whether the line ends `"\r\n"` and `"\r"` of files stay as they are.
            Otherwise they become `"\n"`, as in a prompt. A `str` is never changed.

    Returns:
        `(train, validation)`: datasets of `(inputs, targets)`, both int32 `(batch,
        sequence_length)`. Training batches are all of the same size, in an order that differs
        from epoch to epoch and is the same for the same seed; the windows that do not fill a
        batch are left out, others each epoch. Validation batches are in order, the last one may
        be smaller; the tokens after the last whole window, fewer than `sequence_length`, are in
        no batch (`gk.evaluation.perplexity` scores every token of a text). `validation` is None if
        `validation_fraction` is 0.

    Raises:
        ValueError: An argument is out of range, the corpus is empty or either part of it too
            short, a path does not exist, a file is not UTF-8 text, the texts are names of files,
            or nothing can be written to `cache_dir`.

    Example:
        >>> import tempfile
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abcdefgh")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     train, validation = gk.datasets.language_modeling(
        ...         "abcdefgh" * 10, tokenizer, sequence_length=4, batch_size=2, cache_dir=folder
        ...     )
        ...     inputs, targets = next(iter(validation))
        >>> inputs.numpy().tolist(), targets.numpy().tolist()
        ([[0, 1, 2, 3]], [[1, 2, 3, 4]])
        >>> int(train.cardinality())
        8
    """
    check_positive_int("sequence_length", sequence_length)
    check_positive_int("batch_size", batch_size)
    check_seed(seed)
    check_rate("validation_fraction", validation_fraction)
    if not isinstance(tokenizer, Tokenizer):
        raise ValueError(f"`tokenizer` must be a gk.tokenizers.Tokenizer, got {tokenizer!r}.")
    documents = list_documents(corpus)
    encoded = encode_corpus(documents, tokenizer, cache_dir, verbose, keep_line_ends)
    train, validation = split_documents(encoded, validation_fraction, seed)

    num_windows = train.num_windows(sequence_length)
    if num_windows < batch_size:
        raise ValueError(
            f"The training part of `corpus` has {train.size} of its {len(encoded.ids)} tokens, but "
            f"one batch of {batch_size} windows of {sequence_length} tokens needs "
            f"{batch_size * sequence_length + 1}. Give more text, or a smaller `batch_size` or "
            "`sequence_length`."
        )
    if validation is not None and validation.num_windows(sequence_length) < 1:
        raise ValueError(
            f"The validation part of `corpus` has {validation.size} of its {len(encoded.ids)} "
            f"tokens, but a window of {sequence_length} tokens needs {sequence_length + 1}. Give "
            f"more text, a larger `validation_fraction` than {validation_fraction}, 0 for none, "
            f"or a smaller `sequence_length`."
        )
    num_batches = num_windows // batch_size
    train_indices = shuffled_indices(num_windows, batch_size, num_batches, seed)
    return (
        _windows(train, train_indices, sequence_length, batch_size),
        None
        if validation is None
        else _windows(
            validation,
            ordered_indices(validation.num_windows(sequence_length), batch_size),
            sequence_length,
            None,
        ),
    )


class TokenStream:
    """Parts of an array of ids, joined without copying.

    Args:
        ids: `(tokens,)` ids of a corpus.
        starts: Where in `ids` each part begins.
        ends: Where each part ends; parts are not empty.
    """

    def __init__(self, ids: np.ndarray, starts: np.ndarray, ends: np.ndarray):
        self._ids = ids
        joined_ends = np.cumsum(ends - starts)
        self.size = int(joined_ends[-1])
        self._joined_ends = joined_ends
        # What to add to a place in the joined parts to get the place in `ids`.
        self._shifts = ends - joined_ends

    def num_windows(self, sequence_length: int) -> int:
        """Return how many windows fit; each shares one token with the next."""
        return max(0, (self.size - 1) // sequence_length)

    def take(self, places: np.ndarray) -> np.ndarray:
        """Return the ids at `places`, an integer array of any shape, as int32."""
        part = np.searchsorted(self._joined_ends, places, side="right")
        return self._ids[places + self._shifts[part]].astype(np.int32)


def split_documents(
    encoded: EncodedCorpus, validation_fraction: float, seed: int
) -> tuple[TokenStream, TokenStream | None]:
    """Split a corpus into training and validation documents.

    Documents, in an order drawn by `seed`, go to validation as long as this brings its size nearer
    to `validation_fraction` of all tokens. A single document is cut in two; the last part is for
    validation.

    Args:
        encoded: The corpus.
        validation_fraction: From 0 to less than 1.
        seed: Decides the order.

    Returns:
        The training and the validation tokens, both in the order of the corpus; None for the
        latter if `validation_fraction` is 0 or there is only one token.
    """
    ids, ends = encoded
    starts = np.concatenate([[0], ends[:-1]])
    if validation_fraction == 0 or len(ids) < 2:
        return TokenStream(ids, starts, ends), None
    if len(ends) == 1:
        cut = np.clip(round(len(ids) * (1 - validation_fraction)), 1, len(ids) - 1)
        starts, ends = np.array([0, cut]), np.array([cut, len(ids)])
        is_validation = np.array([False, True])
    else:
        is_validation = _draw(ends - starts, validation_fraction * len(ids), seed)
    return (
        TokenStream(ids, starts[~is_validation], ends[~is_validation]),
        TokenStream(ids, starts[is_validation], ends[is_validation]),
    )


def _draw(sizes: np.ndarray, target: float, seed: int) -> np.ndarray:
    """Draw documents of about `target` tokens in all; at least one, and not all."""
    drawn = np.zeros(len(sizes), bool)
    total = 0
    for document in np.random.default_rng(seed).permutation(len(sizes)):
        nearer = abs(total + sizes[document] - target) < abs(total - target)
        if nearer and drawn.sum() < len(sizes) - 1:
            drawn[document] = True
            total += sizes[document]
    if not drawn.any():  # all are more than twice as long as wanted
        drawn[np.argmin(sizes)] = True
    return drawn


def _windows(
    stream: TokenStream, indices: tf.data.Dataset, sequence_length: int, batch_size: int | None
) -> tf.data.Dataset:
    def take(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        places = index[:, np.newaxis] * sequence_length + np.arange(sequence_length + 1)
        windows = stream.take(places)  # (batch, sequence_length + 1)
        return windows[:, :-1], windows[:, 1:]

    return gather(indices, take, [tf.TensorSpec((batch_size, sequence_length), tf.int32)] * 2)
