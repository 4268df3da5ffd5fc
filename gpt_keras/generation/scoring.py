"""Scoring: the log-probabilities of given tokens."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from gpt_keras.generation.backbone import fixed_length

# Number of rows in a batch. It limits the memory for the logits.
_ROWS = 8


def compiled_log_probabilities(model, vocabulary_size: int | None = None) -> Callable:
    """Return a compiled function `(token_ids, targets) -> log_probabilities`.

    All three have the shape `(batch, length)`; `targets` are `token_ids` shifted by one.

    Args:
        model: A `CausalLM`.
        vocabulary_size: Ids from `vocabulary_size` on get probability 0. None: all logits count.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def log_probabilities(token_ids, targets):
        length = fixed_length(model.backbone)
        if length is not None:
            token_ids = tf.pad(token_ids, [[0, 0], [0, length - tf.shape(token_ids)[1]]])
            token_ids = tf.ensure_shape(token_ids, [None, length])
        logits = tf.cast(model(token_ids, training=False), tf.float32)
        logits = logits[:, : tf.shape(targets)[1]]
        if vocabulary_size is not None:
            is_possible = tf.range(tf.shape(logits)[-1]) < vocabulary_size
            logits = tf.where(is_possible, logits, -float("inf"))
        targets = tf.cast(targets, tf.int32)
        return -tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)

    return log_probabilities


def log_probabilities(score: Callable, rows: list[list[int]]) -> list[np.ndarray]:
    """Return the log-probability of each token of rows, except for the first token.

    Args:
        score: A function from `compiled_log_probabilities`.
        rows: Token ids, at least one in each row.

    Returns:
        For each row a float32 array with one number less than the row has tokens, in nats.
    """
    scores = [np.zeros(0, np.float32)] * len(rows)
    # Rows are sorted by length, so that the rows of a batch need little padding.
    order = sorted((i for i, row in enumerate(rows) if len(row) > 1), key=lambda i: len(rows[i]))
    for begin in range(0, len(order), _ROWS):
        batch = order[begin : begin + _ROWS]
        padded = np.zeros((len(batch), max(len(rows[i]) for i in batch)), np.int32)
        for line, i in zip(padded, batch, strict=True):
            line[: len(rows[i])] = rows[i]
        found = score(padded[:, :-1], padded[:, 1:]).numpy()
        for line, i in zip(found, batch, strict=True):
            scores[i] = line[: len(rows[i]) - 1].copy()
    return scores
