"""Perplexity, bits per character and bits per byte of a model on text."""

import itertools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gpt_keras.checks import check_positive_int, check_token_ids, renamed
from gpt_keras.datasets.document_ids import document_ids
from gpt_keras.generation.scoring import compiled_log_probabilities
from gpt_keras.models import CausalLM, NGramLM
from gpt_keras.models.text_containers import plain_batch

# Window length for a model without `max_sequence_length`.
_DEFAULT_LENGTH = 1024


class PerplexityResult(NamedTuple):
    """Result of `perplexity`.

    Perplexities can be compared only between models with the same tokenizer. Bits per character
    and bits per byte do not depend on the tokenizer.

    Attributes:
        perplexity: Exponential of `loss`.
        loss: Mean negative log-probability of a token, in nats.
        num_tokens: Number of scored tokens. For a dataset with sample weights, the sum of the
            weights.
        bits_per_character: Total loss in bits, divided by the number of characters (code points)
            of the texts. None for a dataset and for a model without a tokenizer.
        bits_per_byte: Total loss in bits, divided by the number of UTF-8 bytes of the texts. None
            for a dataset and for a model without a tokenizer.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("ab", end_of_text=True)
        >>> model = gk.NGramLM(1, tokenizer).fit(["abababab"])
        >>> gk.evaluation.perplexity(model, ["abba"]).num_tokens
        5
    """

    perplexity: float
    loss: float
    num_tokens: float
    bits_per_character: float | None
    bits_per_byte: float | None


@renamed(documents="corpus")
def perplexity(
    model: CausalLM | NGramLM,
    corpus: str | Path | Iterable | tf.data.Dataset,
    *,
    stride: int | None = None,
    sequence_length: int | None = None,
    batch_size: int = 8,
    keep_line_ends: bool = False,
    field: str = "text",
) -> PerplexityResult:
    r"""Return a model's perplexity on a corpus; every token is scored exactly once.

    The tokenizer's `id_before_text` is prepended to each document as context: the start-of-text
    token if the tokenizer adds it, otherwise the end-of-text token. All tokens of the document are
    scored, and then the end-of-text token. If the tokenizer has neither token, the first token of
    a document has no context. It is then not scored, and its characters are not counted.

    A document that is longer than the model's context is cut into windows. Each window begins
    `stride` tokens after the previous one and scores only the tokens that the previous one did
    not. A small stride gives almost every token a long context, but the computation takes
    `sequence_length / stride` times as long.

    Args:
        model: A `CausalLM` or an `NGramLM`.
        corpus: One of these:

            - a corpus, as in `gk.datasets.language_modeling`;
            - the token ids of one document, without the end-of-text token;
            - rows of token ids, one row per document;
            - for a `CausalLM`, a dataset of `(inputs, targets)` or `(inputs, targets,
              sample_weight)`, each `(batch, length)`; all its targets are scored.
        stride: Number of tokens between the starts of two windows, from 1 to `sequence_length`.
            Default: `sequence_length`, so that windows do not overlap. Not for an `NGramLM` or a
            dataset.
        sequence_length: Number of tokens in a window. Default: the model's `max_sequence_length`,
            or 1,024 if the model has no such limit. Not for an `NGramLM` or a dataset.
        batch_size: Number of windows per batch.
        keep_line_ends: Whether to keep the line ends `"\r\n"` and `"\r"` of text files. Use the
            same value as for the training data.
        field: The column of tables and rows that holds the text.

    Returns:
        A `PerplexityResult`.

    Raises:
        ValueError: An argument is out of range, there is no token to score, an id is outside the
            vocabulary, a dataset is infinite or its sequences are too long, or texts are given for
            a model without a tokenizer.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("ab", end_of_text=True)
        >>> model = gk.NGramLM(1, tokenizer).fit(["abababab"])
        >>> result = gk.evaluation.perplexity(model, ["abba"])
        >>> result.num_tokens    # four letters and the end-of-text token
        5
        >>> result.perplexity == model.perplexity(["abba"])
        True
    """
    check_positive_int("batch_size", batch_size)
    windows = {"stride": stride, "sequence_length": sequence_length}
    if isinstance(model, CausalLM):
        score = compiled_log_probabilities(model)
        if not _is_windows(corpus):
            encoded = document_ids(corpus, model.tokenizer, keep_line_ends, field)
            return _of_documents(model, score, encoded, batch_size, **windows)
        if stride is not None or sequence_length is not None:
            raise ValueError(
                "A dataset is already cut into windows: leave out `stride` and `sequence_length`."
            )
        return _of_dataset(model, score, corpus)
    if not isinstance(model, NGramLM):
        raise ValueError(f"`model` must be a CausalLM or an NGramLM, got {model!r}.")
    if _is_windows(corpus):
        raise ValueError("`corpus` for an NGramLM must be documents, not a dataset of windows.")
    if stride is not None or sequence_length is not None:
        raise ValueError("An NGramLM needs no windows: leave out `stride` and `sequence_length`.")
    total = _Total(model.tokenizer, model.end_of_text_id)
    for document in document_ids(corpus, model.tokenizer, keep_line_ends, field):
        log_probabilities = model.scored_log_probabilities(document.ids)
        total.add(-log_probabilities.sum(), len(log_probabilities))
        total.add_text(document)
    return total.result()


class _Total:
    """Running sums of losses, tokens, characters and bytes over documents."""

    def __init__(self, tokenizer, id_before_text):
        self._tokenizer = tokenizer
        self._id_before_text = id_before_text
        self._loss, self._num_tokens = 0.0, 0
        self._num_characters, self._num_bytes = 0, 0

    def add(self, loss, num_tokens):
        self._loss += float(loss)
        self._num_tokens += num_tokens

    def add_text(self, document):
        if self._tokenizer is None:
            return
        text = document.text
        if text is None:
            text = self._tokenizer.decode(document.ids)
        # Without context the first token is not scored, so its characters are not counted either.
        missing = ""
        if self._id_before_text is None:
            missing = self._tokenizer.decode(document.ids[:1])
        self._num_characters += len(text) - len(missing)
        self._num_bytes += len(text.encode()) - len(missing.encode())

    def result(self):
        if self._num_tokens == 0:
            raise ValueError(
                "`corpus` must hold a token to score, got none. Without a start-of-text or "
                "end-of-text token, the first token of a document is not scored."
            )
        loss = self._loss / self._num_tokens
        bits = self._loss / math.log(2)
        return PerplexityResult(
            perplexity=math.exp(loss) if loss < 700 else math.inf,
            loss=loss,
            num_tokens=self._num_tokens,
            bits_per_character=bits / self._num_characters if self._num_characters else None,
            bits_per_byte=bits / self._num_bytes if self._num_bytes else None,
        )


def _is_windows(corpus) -> bool:
    """Return whether this is a dataset of batches of ids, not a dataset of texts."""
    if not isinstance(corpus, tf.data.Dataset):
        return False
    return getattr(corpus.element_spec, "dtype", None) != tf.string


def _of_dataset(model, score, dataset):
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("`corpus` must end, got an endless dataset: use its `take(batches)`.")
    total = _Total(None, None)
    for batch in dataset:
        inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(batch)
        if targets is None:
            raise ValueError("A dataset must hold (inputs, targets), got no targets.")
        inputs, targets, weights = plain_batch(inputs, targets, weights)
        limit, length = model.max_sequence_length, inputs.shape[-1]
        if limit is not None and length > limit:
            raise ValueError(
                f"Sequences of {length} tokens are longer than the model's "
                f"max_sequence_length={limit}."
            )
        for ids in (inputs, targets):
            check_token_ids(ids, model.vocabulary_size)
        losses = -score(inputs, targets).numpy().astype(np.float64)
        if weights is None:
            total.add(losses.sum(), losses.size)
            continue
        weights = np.asarray(weights, np.float64)
        # A weight per row, (batch,) or (batch, 1), applies to each token of the row.
        weights = weights[:, np.newaxis] if weights.ndim == 1 else weights
        if weights.shape not in (losses.shape, (len(losses), 1)):
            raise ValueError(
                f"Weights must have the shape {losses.shape} or {losses.shape[:1]}, got "
                f"{weights.shape}."
            )
        weights = np.broadcast_to(weights, losses.shape)
        # Tokens of weight 0 are left out: 0 times an infinite loss would be NaN.
        counts = weights != 0
        total.add((losses[counts] * weights[counts]).sum(), float(weights.sum()))
    return total.result()


def _of_documents(model, score, documents, batch_size, stride, sequence_length):
    limit = model.max_sequence_length
    if sequence_length is None:
        sequence_length = limit or _DEFAULT_LENGTH
    check_positive_int("sequence_length", sequence_length)
    if limit is not None and sequence_length > limit:
        raise ValueError(
            f"`sequence_length` must be at most the model's max_sequence_length={limit}, "
            f"got {sequence_length}."
        )
    stride = sequence_length if stride is None else stride
    check_positive_int("stride", stride)
    if stride > sequence_length:
        raise ValueError(
            f"`stride` must be at most `sequence_length`={sequence_length}, got {stride}: "
            "tokens between the windows would not be scored."
        )
    before = end = None
    if model.tokenizer is not None:
        before, end = model.tokenizer.id_before_text, model.tokenizer.end_of_text_id
    total = _Total(model.tokenizer, before)

    def all_windows():
        for document in documents:
            check_token_ids(document.ids, model.vocabulary_size)
            first, last = ([] if i is None else [i] for i in (before, end))
            ids = np.concatenate([first, document.ids, last]).astype(np.int64)
            if len(ids) > 1:
                total.add_text(document)
            yield from _windows(ids, sequence_length, stride)

    for batch in _batches(all_windows(), batch_size):
        width = _round_up(max(len(window.ids) - 1 for window in batch), sequence_length)
        # Fixed batch size and few different widths: TensorFlow traces a function for each shape.
        rows = np.zeros((batch_size, width + 1), np.int32)
        scored = np.zeros((batch_size, width), bool)
        for i, window in enumerate(batch):
            rows[i, : len(window.ids)] = window.ids
            scored[i, window.first_scored - 1 : len(window.ids) - 1] = True
        losses = -score(rows[:, :-1], rows[:, 1:]).numpy().astype(np.float64)
        total.add(losses[scored].sum(), int(scored.sum()))
    return total.result()


class _Window(NamedTuple):
    """Token ids of one window; only the ids from index `first_scored` on are scored."""

    ids: np.ndarray
    first_scored: int


def _windows(ids: np.ndarray, sequence_length: int, stride: int) -> Iterator[_Window]:
    scored = 1  # the first id has no context, so it is never scored
    for begin in itertools.count(0, stride):
        if scored >= len(ids):
            return
        window = ids[begin : begin + sequence_length + 1]
        yield _Window(window, scored - begin)
        scored = begin + len(window)


def _batches(items, size):
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch


def _round_up(width, limit):
    power = 16
    while power < width:
        power *= 2
    return min(power, limit)
