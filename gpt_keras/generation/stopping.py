"""Rules for the next token, and for the end of a text before its limit of tokens."""

import functools
import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from gpt_keras.generation.processors import Context, choices_complete, keep_any_token, process

# Settings that are no logits processors, as the input of a compiled function.
STOP_SPECS = {
    "stop": tf.TensorSpec([None], tf.string, "stop"),
    "deadline": tf.TensorSpec([], tf.float64, "deadline"),
}

# The deadline of a call without `time_limit`.
NO_DEADLINE = math.inf


class Rules:
    """Rules for the next token of a text, and for its end.

    Args:
        end_token_ids: Ids that end a text, each.
        token_bytes: The bytes of each token, in the order of the ids, as they are inside a text;
            None where there is no tokenizer, and so no stop string.
        logits_processors: Functions `(logits, context) -> logits`, applied after the processors of
            `PROCESSORS` that are not warpers.
    """

    def __init__(
        self,
        end_token_ids: Sequence[int],
        token_bytes: Sequence[bytes] | None,
        logits_processors: Sequence[Callable] = (),
    ):
        self.end_token_ids = tuple(end_token_ids)
        self._logits_processors = tuple(logits_processors)
        self._token_bytes = None if token_bytes is None else tf.constant(token_bytes, tf.string)

    def process(self, logits, state, settings):
        """Apply penalties, bans and the user's processors to the logits of the next token."""
        context = self._context(state)
        logits = process(logits, settings, context)
        for processor in self._logits_processors:
            logits = keep_any_token(_checked(processor(logits, context), logits, processor), logits)
        return logits

    def is_end(self, tokens):
        """Return whether each of these tokens ends its text."""
        ends = [tf.equal(tokens, token_id) for token_id in self.end_token_ids]
        return functools.reduce(tf.logical_or, ends, tf.zeros_like(tokens, tf.bool))

    def stopped(self, state, settings):
        """Return `(rows,)` bool: the row ends with the token at `state.index`.

        The end is a stop string, a complete choice or the deadline, not an end token.
        """
        # A graph may read the clock at any time, even before the deadline is known: control
        # dependencies say what comes first. Without a deadline the clock is not read at all, since
        # op determinism forbids it.
        deadline = settings["deadline"]
        with tf.control_dependencies([deadline, state.token_ids]):
            late = tf.cond(
                deadline < NO_DEADLINE,
                lambda: tf.timestamp() >= deadline,
                lambda: tf.constant(False),
            )
        complete = choices_complete(settings, self._context(state))
        if self._token_bytes is None:
            return complete | late
        has_stop = tf.cond(
            tf.size(settings["stop"]) > 0,
            lambda: self._has_stop_string(state, settings["stop"]),
            lambda: tf.zeros_like(complete),
        )
        return complete | late | has_stop

    def _has_stop_string(self, state, stop):
        """Whether one of the strings stands in the newest tokens of a row.

        Each token has at least one byte, so the last tokens suffice, as many as the longest string
        has bytes; a few more stand for tokens without text.
        """
        num_tokens = tf.reduce_max(tf.strings.length(stop)) + 8
        begin = tf.maximum(state.first, state.index + 1 - num_tokens)
        token_ids = state.token_ids[:, begin : state.index + 1]
        texts = tf.strings.reduce_join(tf.gather(self._token_bytes, token_ids), axis=-1)

        def contains(string):
            return tf.strings.split(texts, string).row_lengths() > 1

        found = tf.map_fn(contains, stop, fn_output_signature=tf.bool)
        return tf.reduce_any(found, axis=0)

    def _context(self, state):
        return Context(
            token_ids=state.token_ids,
            starts=state.starts,
            first=state.first,
            index=state.index + 1,
            end_token_ids=tf.constant(self.end_token_ids, tf.int32),
        )


def _checked(changed, logits, processor):
    """The logits that a user's processor returned, if they are logits of the same rows."""
    if changed is None:
        raise ValueError(f"`logits_processors` must return logits; {processor!r} returned None.")
    changed = tf.cast(changed, logits.dtype)
    if not changed.shape.is_compatible_with(logits.shape):
        raise ValueError(
            "`logits_processors` must return logits of the shape that they get, "
            f"{tuple(logits.shape)}; {processor!r} returned {tuple(changed.shape)}."
        )
    same_shape = tf.debugging.assert_equal(
        tf.shape(changed), tf.shape(logits), "`logits_processors` must keep the shape of the logits"
    )
    with tf.control_dependencies([same_shape]):
        changed = tf.identity(changed)
    changed.set_shape(logits.shape)
    return changed
