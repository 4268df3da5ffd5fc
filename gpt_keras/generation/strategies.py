"""Decoding strategies: how the next token is chosen."""

import dataclasses
from typing import Any, NamedTuple

import tensorflow as tf

from gpt_keras.checks import check_positive_int
from gpt_keras.generation.processors import warp
from gpt_keras.generation.sampling import sample
from gpt_keras.generation.state import Sequences, State, to_the_left, write_column


class Proposals(NamedTuple):
    """Tokens that a strategy wants to be checked, all at once.

    Attributes:
        token_ids: `(rows, proposed)` int32.
        probabilities: `(rows, proposed, vocabulary_size)`, from which each was drawn; None if none
            was drawn.
    """

    token_ids: tf.Tensor
    probabilities: tf.Tensor | None


@dataclasses.dataclass(frozen=True)
class Strategy:
    """Base class of decoding strategies: how one step of the loop chooses the next tokens.

    The loop asks `propose` for tokens to check, runs them with the newest token, and hands the
    logits to `take`. A subclass writes `take`, and the other methods where it needs them; it is a
    frozen dataclass, since the loop is compiled once for each strategy that compares equal.

    Attributes:
        copies: Rows for each prompt.
        block: Tokens that are run at once.
        needs_log_probs: Whether the log-probabilities of the tokens must be kept.
        streams: Whether a token is final as soon as it is chosen.
        draws: Whether tokens are drawn by their probabilities.
    """

    copies = 1
    block = 1
    needs_log_probs = False
    streams = True
    draws = True

    def begin(self, state: State, seeds) -> State:
        """Return the state with the strategy's own `memory`."""
        del seeds
        return state

    def propose(self, state: State, rules, settings) -> tuple[State, Proposals | None]:
        """Return tokens to be checked, `block - 1` of them, or None for none."""
        del rules, settings
        return state, None

    def take(self, logits, proposals, state: State, rules, settings) -> State:
        """Return the state with the tokens that follow.

        Args:
            logits: `(rows, block, vocabulary_size)`, after the newest token and each proposal.
            proposals: What `propose` gave.
            state: The state, whose cache is that of all these tokens.
            rules: Which tokens may come, and where a text ends.
            settings: Dict of tensors.
        """
        raise NotImplementedError(f"{type(self).__name__} must write `take`.")

    def finish(self, state: State) -> Sequences:
        """Return the sequences, `copies` continuations of each prompt, likeliest first."""
        token_ids = to_the_left(state.token_ids, state.starts)
        log_probs, scores = (
            tf.zeros_like(token_ids, tf.float32),
            tf.zeros_like(state.uniforms[:, 0]),
        )
        columns = tf.range(tf.shape(token_ids)[1])[None, :]
        if keeps_log_probs(state):
            # The end of the text is a token that was chosen, too.
            ends = state.lengths + tf.cast(state.ended, tf.int32)
            log_probs = to_the_left(state.log_probs, state.starts)
            total = tf.reduce_sum(tf.where(columns < ends[:, None], log_probs, 0), axis=-1)
            scores = total / tf.cast(ends - (state.first - state.starts), tf.float32)
            log_probs = tf.where(columns < state.lengths[:, None], log_probs, 0)
        rows = Sequences(token_ids, state.lengths, log_probs, scores)
        by_prompt = [
            tf.reshape(part, tf.concat([[-1, self.copies], tf.shape(part)[1:]], axis=0))
            for part in rows
        ]
        order = tf.argsort(by_prompt[-1], direction="DESCENDING", stable=True)
        return Sequences(*(tf.gather(part, order, batch_dims=1) for part in by_prompt))


@dataclasses.dataclass(frozen=True)
class Sampling(Strategy):
    """Sampling: draw each token by its probability; greedy at temperature 0.

    Example:
        >>> import gpt_keras as gk
        >>> gk.generation.Sampling()
        Sampling()
    """

    def take(self, logits, proposals, state: State, rules, settings) -> State:
        del proposals
        logits = logits[:, 0]
        processed = rules.process(logits, state, settings)
        tokens = tf.cond(
            settings["temperature"] > 0,
            lambda: sample(warp(processed, settings), next_uniform(state, state.uniforms)),
            lambda: tf.argmax(processed, axis=-1, output_type=tf.int32),
        )
        return append(state, tokens, logits, rules, settings)


@dataclasses.dataclass(frozen=True)
class BestOf(Sampling):
    """Best of several drawn continuations, by log-probability per token.

    Each prompt is run once for all of them.

    Args:
        num_samples: How many are drawn.

    Raises:
        ValueError: `num_samples` is below 1.

    Example:
        >>> import gpt_keras as gk
        >>> gk.generation.BestOf(4)
        BestOf(num_samples=4)
    """

    num_samples: int

    needs_log_probs = True
    streams = False

    def __post_init__(self):
        check_positive_int("num_samples", self.num_samples)

    @property
    def copies(self) -> int:
        """Rows for each prompt."""
        return self.num_samples


def next_uniform(state: State, uniforms):
    """Return the random numbers of the rows for the token after `state.index`."""
    return uniforms[:, state.index + 1 - state.first]


def keeps_log_probs(state: State) -> bool:
    """Return whether the log-probabilities of the tokens are kept."""
    return not isinstance(state.log_probs, tuple)


def append(state: State, tokens, logits, rules, settings) -> State:
    """Return the state with one more token in each row that is not finished.

    Args:
        state: The state.
        tokens: `(rows,)`.
        logits: `(rows, vocabulary_size)`, the model's own, from which log-probabilities follow.
        rules: Where a text ends.
        settings: Dict of tensors.
    """
    index = state.index + 1
    ended = ~state.finished & rules.is_end(tokens)
    is_text = ~(state.finished | ended)
    log_probs = state.log_probs
    if keeps_log_probs(state):
        log_prob = tf.where(state.finished, 0.0, log_probabilities(logits, tokens))
        log_probs = write_column(log_probs, log_prob, index)
    lengths = state.lengths + tf.cast(is_text, tf.int32)
    state = state._replace(
        token_ids=write_column(state.token_ids, tf.where(is_text, tokens, 0), index),
        log_probs=log_probs,
        index=index,
        lengths=lengths,
        ended=state.ended | ended,
    )
    finished = ~is_text | (lengths >= state.max_lengths) | rules.stopped(state, settings)
    return state._replace(finished=finished)


def log_probabilities(logits, tokens) -> Any:
    """Return the log-probabilities of one token for each row, `(rows,)`."""
    chosen = tf.gather(logits, tokens, batch_dims=1)
    return chosen - tf.reduce_logsumexp(logits, axis=-1)
