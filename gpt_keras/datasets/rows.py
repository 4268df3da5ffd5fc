"""Padded rows of tokens, for training on short and separate texts."""

import warnings
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from gpt_keras.checks import check_positive_int, check_seed
from gpt_keras.corpus import check_no_names_of_files
from gpt_keras.datasets.batches import gather, ordered_indices, shuffled_indices
from gpt_keras.texts import as_list_of_texts
from gpt_keras.tokenizers import Tokenizer


def padded(
    texts: Iterable[str],
    tokenizer: Tokenizer,
    *,
    sequence_length: int | None,
    batch_size: int,
    seed: int | None = None,
) -> tf.data.Dataset:
    """Make a dataset for `model.fit` from short texts, each in its own row.

    Each text starts with the start-of-text token if the tokenizer `adds_start_of_text`, and ends
    with the end-of-text token if the tokenizer has one. A text longer than a row continues in the
    next row. A shorter text gets right padding with sample weight 0, so the loss ignores the
    padding.

    Args:
        texts: The texts, in any container: a list, a NumPy array, a pandas Series, a string tensor,
            a generator, a `tf.data.Dataset` of strings.
        tokenizer: The tokenizer.
        sequence_length: Largest number of tokens in a row; None for no limit. Rows are no longer
            than the longest text needs.
        batch_size: Number of rows in a batch. The last batch is filled up with rows of weight 0, so
            all batches have the same shape.
        seed: Seed of the order of the rows, which differs in each epoch. None keeps the given
            order.

    Returns:
        A dataset of `(inputs, targets, sample_weight)`, each `(batch_size, row length)`: int32,
        int32 and float32. `targets` are the inputs shifted by one token.

    Raises:
        ValueError: `texts` is empty or has an entry that is not a string, the texts are names of
            files, no text has at least two tokens, or a size is not a positive integer.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc", end_of_text=True)
        >>> data = gk.datasets.padded(["ab", "b"], tokenizer, sequence_length=None, batch_size=2)
        >>> inputs, targets, sample_weight = next(iter(data))
        >>> inputs.numpy().tolist(), targets.numpy().tolist()
        ([[0, 1], [1, 0]], [[1, 3], [3, 0]])
        >>> sample_weight.numpy().tolist()
        [[1.0, 1.0], [1.0, 0.0]]
    """
    check_positive_int("batch_size", batch_size)
    if sequence_length is not None:
        check_positive_int("sequence_length", sequence_length)
    if seed is not None:
        check_seed(seed)
    texts = as_list_of_texts("texts", texts)
    if not texts:
        raise ValueError("`texts` must hold at least one string, but is empty.")
    check_no_names_of_files("texts", texts)

    encoded = tokenizer.encode(texts, add_start_of_text=True)
    end_of_text = [] if tokenizer.end_of_text_id is None else [tokenizer.end_of_text_id]
    sequences = [np.array(ids + end_of_text, np.int32) for ids in encoded]
    longest = max(len(ids) for ids in sequences)
    if longest < 2:
        raise ValueError(
            "`texts` must hold a text of at least 2 tokens (one input and one target), but the "
            f"longest has {longest}."
        )
    too_short = sum(len(ids) < 2 for ids in sequences)
    if too_short:
        warnings.warn(
            f"{too_short} of {len(texts)} texts have fewer than 2 tokens (one input and one "
            "target): nothing is learned from them.",
            stacklevel=2,
        )
    sequence_length = longest - 1 if sequence_length is None else min(sequence_length, longest - 1)
    # Rows share one token: the last target of a row is the first input of the next.
    rows = [
        ids[start : start + sequence_length + 1]
        for ids in sequences
        for start in range(0, len(ids) - 1, sequence_length)
    ]

    def take(index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        inputs = np.zeros((batch_size, sequence_length), np.int32)
        targets = np.zeros((batch_size, sequence_length), np.int32)
        weight = np.zeros((batch_size, sequence_length), np.float32)
        for i, row in enumerate(rows[j] for j in index if j >= 0):
            length = len(row) - 1
            inputs[i, :length] = row[:-1]
            targets[i, :length] = row[1:]
            weight[i, :length] = 1.0
        return inputs, targets, weight

    if seed is None:
        indices = ordered_indices(len(rows), batch_size)
    else:
        num_batches = -(-len(rows) // batch_size)
        indices = shuffled_indices(len(rows), batch_size, num_batches, seed)
    shape = (batch_size, sequence_length)
    return gather(
        indices,
        take,
        [tf.TensorSpec(shape, dtype) for dtype in (tf.int32, tf.int32, tf.float32)],
    )
