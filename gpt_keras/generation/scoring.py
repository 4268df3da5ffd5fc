"""Log-probabilities of given tokens."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from gpt_keras.generation.backbone import fixed_length

# Rows that are computed together, which bounds the memory of their logits.
_ROWS = 8


def compiled_log_probabilities(model, vocabulary_size: int | None = None) -> Callable:
    """Return a function `(token_ids, targets) -> log-probabilities` of a `CausalLM`.

    All three are `(batch, length)`; `targets` are the tokens that follow `token_ids`.

    Args:
        model: The model.
        vocabulary_size: Ids from here on are impossible. None: all are possible.
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
    """Return for each row of ids the log-probabilities of all but the first, float32.

    Args:
        score: What `compiled_log_probabilities` returns.
        rows: Token ids, at least one in each row.
    """
    scores = [np.zeros(0, np.float32)] * len(rows)
    # Rows of about the same length together, so that little is computed for padding.
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
