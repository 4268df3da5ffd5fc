"""Beam search: at each step the `num_beams` likeliest prefixes are kept."""

import dataclasses
from typing import Literal, NamedTuple

import tensorflow as tf

from gpt_keras.checks import check_number, check_positive_int
from gpt_keras.generation.state import Sequences, State, to_the_left, write_column
from gpt_keras.generation.strategies import Strategy, keeps_log_probs

# The score of an empty slot.
_NONE = -float("inf")


class Beams(NamedTuple):
    """Memory of beam search: the running beams' scores and the best finished beams.

    A running beam is a row of `State.token_ids` that can still grow. A finished beam has ended.

    Attributes:
        scores: `(prompts, beams)` float32, log-probabilities of the running beams.
        token_ids: `(prompts, beams, columns)` int32, tokens of the finished beams.
        log_probs: `(prompts, beams, columns)` float32, log-probability of each token of the
            finished beams; `()` if log-probabilities are not kept.
        lengths: `(prompts, beams)` int32, number of tokens of each finished beam.
        ended_scores: `(prompts, beams)` float32, scores of the finished beams:
            `log P / tokens**length_penalty`; minus infinity in an empty slot.
        is_open: `(prompts,)` bool, whether the search continues for a prompt.
    """

    scores: tf.Tensor
    token_ids: tf.Tensor
    log_probs: tf.Tensor
    lengths: tf.Tensor
    ended_scores: tf.Tensor
    is_open: tf.Tensor


@dataclasses.dataclass(frozen=True)
class BeamSearch(Strategy):
    """Beam search for the likeliest continuation, with `num_beams` beams.

    Beam search does not sample, so `temperature`, `top_k` and the other warpers must be off.
    Penalties and bans change the log-probabilities that rank the beams. A finished continuation has
    the score `log P / tokens**length_penalty`, where the end token counts (Wu et al. 2016,
    section 7; the power of the length replaces their formula, as in transformers).

    Args:
        num_beams: Number of beams, and number of continuations that are returned.
        length_penalty: Exponent of the length in the score. Above 0 favors longer continuations,
            below 0 shorter ones.
        early_stopping: When the search for a prompt stops. True: once `num_beams` continuations
            have finished. False: once the best running beam, scored at its present length, is not
            better than the worst finished one. `"never"`: once the best running beam cannot become
            better at any length.

    Raises:
        ValueError: `num_beams` is below 1, `length_penalty` is not a finite number, or
            `early_stopping` is not one of the three values.

    Example:
        >>> import gpt_keras as gk
        >>> gk.generation.BeamSearch(4)
        BeamSearch(num_beams=4, length_penalty=1.0, early_stopping=False)
    """

    num_beams: int
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False

    streams = False
    draws = False

    def __post_init__(self):
        check_positive_int("num_beams", self.num_beams)
        check_number("length_penalty", self.length_penalty)
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            raise ValueError(
                f"`early_stopping` must be True, False or 'never', got {self.early_stopping!r}."
            )

    @property
    def copies(self) -> int:
        """Number of rows for each prompt."""
        return self.num_beams

    def begin(self, state: State, seeds) -> State:
        del seeds
        by_prompt = [-1, self.num_beams]
        columns = [-1, self.num_beams, tf.shape(state.token_ids)[1]]
        zeros = tf.reshape(tf.zeros_like(state.lengths, tf.float32), by_prompt)
        first = tf.range(self.num_beams)[None, :] == 0
        beams = Beams(
            # At first all rows of a prompt are equal. Only the first may continue, or all beams
            # would find the same continuations.
            scores=zeros + tf.where(first, 0.0, _NONE),
            token_ids=tf.reshape(state.token_ids, columns),
            log_probs=tf.reshape(state.log_probs, columns) if keeps_log_probs(state) else (),
            lengths=tf.reshape(state.lengths, by_prompt),
            ended_scores=zeros + _NONE,
            is_open=~tf.reshape(state.finished, by_prompt)[:, 0],
        )
        return state._replace(memory=beams)

    def take(self, logits, proposals, state: State, rules, settings) -> State:
        del proposals
        candidates = self._candidates(logits[:, 0], state, rules, settings)
        beams = self._with_ended(state, candidates)

        # The best candidates that do not end become the running beams.
        scores, chosen = tf.math.top_k(
            tf.where(candidates.ends, _NONE, candidates.scores), self.num_beams
        )
        rows = tf.reshape(tf.gather(candidates.rows, chosen, batch_dims=1), [-1])
        tokens = tf.reshape(tf.gather(candidates.tokens, chosen, batch_dims=1), [-1])
        index = state.index + 1
        log_probs = ()
        if keeps_log_probs(state):
            log_probs = tf.gather(candidates.log_probs, chosen, batch_dims=1)
            log_probs = tf.reshape(log_probs, tf.shape(state.token_ids))
        state = state.take_rows(rows)
        state = state._replace(
            token_ids=write_column(state.token_ids, tokens, index),
            log_probs=log_probs,
            index=index,
            lengths=state.lengths + tf.cast(~state.finished, tf.int32),
        )
        is_open = self._may_improve(beams, scores, state)
        beams = beams._replace(scores=scores, is_open=is_open)
        finished = tf.repeat(~is_open, self.num_beams)
        return state._replace(memory=beams, finished=finished)

    def _candidates(self, logits, state, rules, settings):
        """Return the likeliest one-token continuations of each prompt's beams.

        Their number is `num_beams` times one more than the number of end tokens (at least twice
        `num_beams`). Even if every end token of every beam is among them, `num_beams` candidates
        remain that end at no end token.
        """
        count = max(2, 1 + len(rules.end_token_ids)) * self.num_beams
        log_probs = tf.nn.log_softmax(logits)
        vocabulary_size = tf.shape(logits)[1]
        totals = rules.process(log_probs, state, settings) + tf.reshape(
            state.memory.scores, [-1, 1]
        )
        totals = tf.reshape(totals, [-1, self.num_beams * vocabulary_size])
        scores, places = tf.math.top_k(totals, tf.minimum(count, tf.shape(totals)[1]))
        first_rows = tf.range(tf.shape(totals)[0])[:, None] * self.num_beams
        rows, tokens = first_rows + places // vocabulary_size, places % vocabulary_size

        # The rules for stopping take whole rows, so each candidate becomes a row.
        flat_rows, flat_tokens = tf.reshape(rows, [-1]), tf.reshape(tokens, [-1])
        index = state.index + 1
        extended = state._replace(
            cache=(),
            token_ids=write_column(tf.gather(state.token_ids, flat_rows), flat_tokens, index),
            starts=tf.gather(state.starts, flat_rows),
            index=index,
        )
        is_end = rules.is_end(flat_tokens)
        lengths = tf.gather(state.lengths, flat_rows) + 1
        ends = is_end | (lengths >= tf.gather(state.max_lengths, flat_rows))
        ends |= rules.stopped(extended, settings)

        def by_prompt(part):
            return tf.reshape(part, tf.concat([tf.shape(places), tf.shape(part)[1:]], axis=0))

        kept = ()
        if keeps_log_probs(state):
            chosen = tf.gather_nd(log_probs, tf.stack([flat_rows, flat_tokens], axis=1))
            kept = write_column(tf.gather(state.log_probs, flat_rows), chosen, index)
            kept = by_prompt(kept)
        return _Candidates(
            scores=scores,
            rows=rows,
            tokens=tokens,
            ends=by_prompt(ends),
            token_ids=by_prompt(extended.token_ids),
            log_probs=kept,
            lengths=by_prompt(lengths - tf.cast(is_end, tf.int32)),  # without the end token
        )

    def _with_ended(self, state, candidates):
        """Return the beams with the best of the finished beams and the ending candidates."""
        beams = state.memory
        num_tokens = tf.cast(state.index + 2 - state.first, tf.float32)
        # A candidate may end only among the `num_beams` best, as in transformers. The others serve
        # to fill the running beams.
        is_beam = tf.range(tf.shape(candidates.scores)[1])[None, :] < self.num_beams
        may_end = candidates.ends & is_beam & beams.is_open[:, None]
        may_end &= candidates.scores > _NONE
        scores = candidates.scores / num_tokens**self.length_penalty
        scores = tf.where(may_end, tf.maximum(scores, scores.dtype.min), _NONE)

        ended_scores = tf.concat([beams.ended_scores, scores], axis=1)
        ended_scores, best = tf.math.top_k(ended_scores, self.num_beams)

        def merge(before, new):
            return tf.gather(tf.concat([before, new], axis=1), best, batch_dims=1)

        return beams._replace(
            ended_scores=ended_scores,
            token_ids=merge(beams.token_ids, candidates.token_ids),
            log_probs=merge(beams.log_probs, candidates.log_probs)
            if keeps_log_probs(state)
            else (),
            lengths=merge(beams.lengths, candidates.lengths),
        )

    def _may_improve(self, beams, scores, state):
        """Return `(prompts,)` bool: a running beam may still replace a finished one."""
        num_tokens = state.index + 1 - state.first
        if self.early_stopping == "never" and self.length_penalty > 0:
            limits = state.max_lengths - (state.first - state.starts)
            num_tokens = limits[:: self.num_beams]
        best = scores[:, 0] / tf.cast(num_tokens, tf.float32) ** self.length_penalty
        worst = tf.reduce_min(beams.ended_scores, axis=1)  # minus infinity with an empty slot
        may_improve = beams.is_open & (scores[:, 0] > _NONE)
        may_improve &= (worst == _NONE) if self.early_stopping is True else (best > worst)
        return may_improve

    def finish(self, state: State) -> Sequences:
        beams = state.memory
        starts = state.starts

        def rows(part):
            return tf.reshape(part, tf.shape(state.token_ids))

        token_ids = to_the_left(rows(beams.token_ids), starts)
        log_probs = tf.zeros_like(token_ids, tf.float32)
        if keeps_log_probs(state):
            log_probs = to_the_left(rows(beams.log_probs), starts)
        is_shown = tf.range(tf.shape(token_ids)[1]) < tf.reshape(beams.lengths, [-1, 1])
        log_probs = tf.where(is_shown, log_probs, 0)
        return Sequences(
            token_ids=tf.reshape(token_ids, tf.shape(beams.token_ids)),
            lengths=beams.lengths,
            log_probs=tf.reshape(log_probs, tf.shape(beams.token_ids)),
            scores=beams.ended_scores,
        )


class _Candidates(NamedTuple):
    """One-token continuations of the beams, each field `(prompts, candidates)`.

    `token_ids` and `log_probs` have a third axis, the columns.
    """

    scores: tf.Tensor
    rows: tf.Tensor
    tokens: tf.Tensor
    ends: tf.Tensor
    token_ids: tf.Tensor
    log_probs: tf.Tensor
    lengths: tf.Tensor
