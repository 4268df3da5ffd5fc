"""Log-probabilities of continuations, given their contexts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf


class ContinuationScore(NamedTuple):
    """Score of one continuation.

    Attributes:
        log_probability: Sum of the log-probabilities of its tokens, in nats.
        num_tokens: Number of its tokens.
        is_greedy: Whether each token is the most likely one, so that greedy decoding gives it.
        was_cut: Whether context and continuation were longer than the model's context, and lost
            tokens on the left.
    """

    log_probability: float
    num_tokens: int
    is_greedy: bool
    was_cut: bool


def score_continuations(
    model, requests: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]], *, batch_size: int = 8
) -> list[list[ContinuationScore]]:
    """Return the score of each continuation of each context.

    Args:
        model: A `CausalLM`.
        requests: Contexts with their continuations, all as token ids, none empty.
        batch_size: Number of contexts in a batch.
    """
    # STAND-IN: one whole pass for each continuation; the engine replaces it.
    found = []
    for context, continuations in requests:
        found.append([])
        for continuation in continuations:
            row = [*context, *continuation]
            limit = model.max_sequence_length
            kept = row if limit is None else row[-(limit + 1) :]
            logits = tf.cast(model(np.array([kept[:-1]], np.int32), training=False), tf.float32)
            targets = np.array(kept[1:])[-len(continuation) :]
            logits = tf.nn.log_softmax(logits[0, -len(targets) :]).numpy()
            found[-1].append(
                ContinuationScore(
                    float(logits[np.arange(len(targets)), targets].sum()),
                    len(targets),
                    bool((logits.argmax(-1) == targets).all()),
                    len(kept) < len(row),
                )
            )
    return found
