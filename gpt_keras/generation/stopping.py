"""Rules for the next token, and for the end of a text: stop strings, deadline."""

import functools
import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from gpt_keras.generation.processors import Context, choices_complete, keep_any_token, process

# Specs of the settings that do not belong to a logits processor.
STOP_SPECS = {
    "stop": tf.TensorSpec([None], tf.string, "stop"),
    "deadline": tf.TensorSpec([], tf.float64, "deadline"),
}

# Deadline of a call without `time_limit`.
NO_DEADLINE = math.inf


class Rules:
    """Rules for the next token of a text, and for its end.

    Args:
        end_token_ids: Ids that end a text.
        token_bytes: The bytes of each token inside a text, in the order of the ids. None if there
            is no tokenizer; stop strings are then impossible.
        logits_processors: The user's functions `(logits, context) -> logits`. They run after the
            penalties and bans of `PROCESSORS` and before the warpers.
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
        """Apply penalties, bans and the user's processors to the next token's logits."""
        context = self._context(state)
        logits = process(logits, settings, context)
        for processor in self._logits_processors:
            logits = keep_any_token(_checked(processor(logits, context), logits, processor), logits)
        return logits

    def is_end(self, tokens):
        """Return a bool tensor: the token is an end token."""
        ends = [tf.equal(tokens, token_id) for token_id in self.end_token_ids]
        return functools.reduce(tf.logical_or, ends, tf.zeros_like(tokens, tf.bool))

    def stopped(self, state, settings):
        """Return `(rows,)` bool: the row stops with the token at `state.index`.

        It stops at a stop string, a complete choice or the deadline. End tokens do not count here.
        """
        # Without control dependencies a graph may read the clock too early, even before the
        # deadline is known. Without a deadline it must not read the clock, because op determinism
        # forbids it.
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
        """Return `(rows,)` bool: the newest tokens contain one of the stop strings.

        It decodes as many of the last tokens as the longest stop string has bytes, because a token
        has at least one byte. It decodes 8 more, because a special token may have no text.
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
    """Return the logits of a user's processor, after a check of their shape."""
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
