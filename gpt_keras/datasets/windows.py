"""Windows of a corpus, for next-token prediction."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf

from gpt_keras.checks import check_positive_int, check_rate, check_seed
from gpt_keras.datasets.batches import gather, ordered_indices, shuffled_indices
from gpt_keras.datasets.token_cache import EncodedCorpus, encode_corpus
from gpt_keras.tokenizers import Tokenizer


def language_modeling(
    corpus: str | Path | Iterable,
    tokenizer: Tokenizer,
    *,
    sequence_length: int,
    batch_size: int,
    validation_fraction: float = 0.1,
    seed: int = 0,
    cache_dir: str | os.PathLike | None = None,
    verbose: int = 0,
    keep_line_ends: bool = False,
    field: str = "text",
) -> tuple[tf.data.Dataset, tf.data.Dataset | None]:
    r"""Make training and validation datasets for `model.fit` from a corpus.

    Each document is encoded. It starts with the start-of-text token if the tokenizer
    `adds_start_of_text`, and ends with the end-of-text token if the tokenizer has one. All
    documents are joined to one stream of tokens, which is cut into windows. Window `i` holds the
    tokens `i * sequence_length` to `(i + 1) * sequence_length`, both included. Its inputs are all
    tokens but the last, its targets all tokens but the first.

    Documents are split, not windows: whole documents, drawn with `seed`, are for validation. A
    single document is cut into two parts; the second one is for validation.

    The ids are cached on disk, and a corpus may be larger than memory. A second call with the same
    corpus and tokenizer does not encode again. A generator, which can be read only once, is encoded
    in each call.

    Args:
        corpus: A text (`str`), a file or a directory (`pathlib.Path`), or several of these in any
            container: a list, a NumPy array, a pandas Series, a generator. Each text is a document.

            - Each row of a table (`.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.parquet`) is a
              document. `gk.records.read_rows` describes the formats. Rows as dicts, a
              `pandas.DataFrame` and a `datasets.Dataset` are tables, too.
            - Any other file is UTF-8 text and one document.
            - Files but parquet may be compressed by gzip (`.txt.gz`, `.jsonl.gz`).
            - A directory means all `.txt` and `.md` files below it that are not hidden, or all
              tables, if there are no such files.

            Documents without text are skipped.
        tokenizer: The tokenizer.
        sequence_length: Number of tokens in a window.
        batch_size: Number of windows in a batch.
        validation_fraction: Approximate fraction of the tokens for validation, in [0, 1). With 0
            there is no validation data. If it is above 0 and there are several documents, both
            parts get at least one document.
        seed: Seed of the split and of the order of the training windows.
        cache_dir: Directory of the cache. Default: the environment variable `GPT_KERAS_CACHE`, or
            `~/.cache/gpt_keras`.
        verbose: 1 shows a progress bar while encoding.
        keep_line_ends: Whether text files keep the line ends `"\r\n"` and `"\r"`. Otherwise these
            become `"\n"`, as in a prompt. A `str` and the rows of a table are never changed.
        field: The column of tables and rows that holds the text.

    Returns:
        `(train, validation)`: two datasets of `(inputs, targets)`, both int32
        `(batch, sequence_length)`.

        - All training batches have `batch_size` windows. Their order differs in each epoch and is
          the same for the same seed. Each epoch skips the windows that do not fill a batch; these
          are different windows in each epoch.
        - Validation batches are in order, and the last one may be smaller. The tokens after the
          last whole window, fewer than `sequence_length`, are in no batch;
          `gk.evaluation.perplexity` scores every token of a text. `validation` is None if
          `validation_fraction` is 0.

    Raises:
        ValueError: An argument is out of range, the corpus is empty, or one of its parts is too
            short. Also: a path does not exist, the texts are names of files, or `cache_dir` is not
            writable. Also, with file and line: a file is a damaged archive, broken or not UTF-8, or
            a row has no text in `field`.

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
    encoded = encode_corpus(corpus, tokenizer, cache_dir, verbose, keep_line_ends, field)
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
            f"more text, a `validation_fraction` above {validation_fraction} or equal to 0 (no "
            f"validation data), or a smaller `sequence_length`."
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
    """Parts of an array of ids, joined without a copy.

    Attributes:
        size: Number of tokens in all parts.

    Args:
        ids: `(tokens,)`, the ids of a corpus.
        starts: `(parts,)`, the index in `ids` of the first token of each part.
        ends: `(parts,)`, the index after the last token of each part; no part is empty.
    """

    def __init__(self, ids: np.ndarray, starts: np.ndarray, ends: np.ndarray):
        self._ids = ids
        joined_ends = np.cumsum(ends - starts)
        self.size = int(joined_ends[-1])
        self._joined_ends = joined_ends
        # An index in the joined parts plus the shift of its part is an index in `ids`.
        self._shifts = ends - joined_ends

    def num_windows(self, sequence_length: int) -> int:
        """Return the number of windows that fit; each shares one token with the next.

        Args:
            sequence_length: Number of inputs in a window, which has one token more.
        """
        return max(0, (self.size - 1) // sequence_length)

    def take(self, places: np.ndarray) -> np.ndarray:
        """Return the ids at indices of the joined parts.

        Args:
            places: Integer array of any shape.

        Returns:
            An int32 array of the shape of `places`.
        """
        part = np.searchsorted(self._joined_ends, places, side="right")
        return self._ids[places + self._shifts[part]].astype(np.int32)


def split_documents(
    encoded: EncodedCorpus, validation_fraction: float, seed: int
) -> tuple[TokenStream, TokenStream | None]:
    """Split a corpus into training and validation documents.

    The documents are taken in an order drawn with `seed`. A document is for validation if it brings
    the size of the validation part closer to `validation_fraction` of all tokens. A single document
    is cut into two parts; the second one is for validation.

    Args:
        encoded: The encoded corpus.
        validation_fraction: Fraction of the tokens for validation, in [0, 1).
        seed: Seed of the order.

    Returns:
        The training tokens and the validation tokens, both in the order of the corpus. The
        validation tokens are None if `validation_fraction` is 0 or the corpus has only one token.
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
    """Draw documents with about `target` tokens in total: at least one, but not all."""
    drawn = np.zeros(len(sizes), bool)
    total = count = 0
    for document in np.random.default_rng(seed).permutation(len(sizes)):
        nearer = abs(total + sizes[document] - target) < abs(total - target)
        if nearer and count < len(sizes) - 1:
            drawn[document] = True
            total += sizes[document]
            count += 1
    if not drawn.any():  # each has at least twice the target
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
