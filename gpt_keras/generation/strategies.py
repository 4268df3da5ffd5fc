"""Decoding strategies: sampling, greedy decoding, best-of-n."""

import dataclasses
from typing import Any, NamedTuple

import tensorflow as tf

from gpt_keras.checks import check_positive_int
from gpt_keras.generation.processors import warp
from gpt_keras.generation.sampling import sample
from gpt_keras.generation.state import Sequences, State, to_the_left, write_column


class Proposals(NamedTuple):
    """Draft tokens of speculative decoding, which the model checks in one step.

    Attributes:
        token_ids: `(rows, proposed)` int32.
        probabilities: `(rows, proposed, vocabulary_size)` float32, the distributions from which the
            tokens were sampled; None if they were not sampled.
    """

    token_ids: tf.Tensor
    probabilities: tf.Tensor | None


@dataclasses.dataclass(frozen=True)
class Strategy:
    """Base class of decoding strategies: one step chooses the next tokens.

    In each step the loop calls `propose`, runs the newest token and the proposed tokens, and passes
    their logits to `take`. A subclass implements `take`, and overrides other methods if needed. It
    must be a frozen dataclass, because equal strategies share one compiled loop.

    Attributes:
        copies: Number of rows for each prompt.
        block: Number of tokens that the model runs in one step.
        needs_log_probs: Whether the log-probabilities of the tokens must be kept.
        streams: Whether a token is final as soon as it is chosen.
        draws: Whether the strategy samples.

    Example:
        >>> import dataclasses
        >>> import gpt_keras as gk
        >>> import tensorflow as tf
        >>> from gpt_keras.generation.strategies import append
        >>> @dataclasses.dataclass(frozen=True)
        ... class Greedy(gk.generation.Strategy):
        ...     draws = False
        ...
        ...     def take(self, logits, proposals, state, rules, settings):
        ...         processed = rules.process(logits[:, 0], state, settings)
        ...         tokens = tf.argmax(processed, axis=-1, output_type=tf.int32)
        ...         return append(state, tokens, logits[:, 0], rules, settings)
        >>> model = gk.GPTCausalLM(gk.presets.get("tiny").replace(vocabulary_size=8))
        >>> row = model.generate([1, 2], max_new_tokens=4, strategy=Greedy())
        >>> row == model.generate([1, 2], max_new_tokens=4, temperature=0)
        True
    """

    copies = 1
    block = 1
    needs_log_probs = False
    streams = True
    draws = True

    def begin(self, state: State, seeds) -> State:
        """Return the first state with the strategy's own `memory`.

        Args:
            state: The state before the first step.
            seeds: `(rows,)` int64, one seed for each row.
        """
        del seeds
        return state

    def propose(self, state: State, rules, settings) -> tuple[State, Proposals | None]:
        """Return the state and `block - 1` draft tokens; None instead of tokens for none.

        Args:
            state: The state.
            rules: The `Rules` for the next token and the end of a text.
            settings: Dict of tensors.
        """
        del rules, settings
        return state, None

    def take(self, logits, proposals, state: State, rules, settings) -> State:
        """Return the state with the next tokens.

        Args:
            logits: `(rows, block, vocabulary_size)` float32, the logits after the newest token and
                after each proposed token.
            proposals: The `Proposals` of `propose`, or None.
            state: The state. Its cache already contains the newest and the proposed tokens.
            rules: The `Rules` for the next token and the end of a text.
            settings: Dict of tensors.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `take`.")

    def finish(self, state: State) -> Sequences:
        """Return the `Sequences`: `copies` continuations of each prompt, best first.

        They are ordered by mean log-probability per token, if the state keeps log-probabilities.
        """
        token_ids = to_the_left(state.token_ids, state.starts)
        log_probs, scores = (
            tf.zeros_like(token_ids, tf.float32),
            tf.zeros_like(state.uniforms[:, 0]),
        )
        columns = tf.range(tf.shape(token_ids)[1])[None, :]
        if keeps_log_probs(state):
            # The end token counts in the mean, because the model chose it like any token.
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
    """Sampling of each token from the model's distribution; greedy at temperature 0.

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
    """Best-of-n sampling: the continuation with the highest mean log-probability.

    Each prompt is run once for all its continuations. `generate_with_scores` returns all of them.

    Args:
        num_samples: Number of continuations that are sampled for each prompt.

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
        """Number of rows for each prompt."""
        return self.num_samples


def next_uniform(state: State, uniforms):
    """Return `(rows,)`: the random numbers for the token after `state.index`."""
    return uniforms[:, state.index + 1 - state.first]


def keeps_log_probs(state: State) -> bool:
    """Return whether the state keeps the log-probabilities of the tokens."""
    return not isinstance(state.log_probs, tuple)


def append(state: State, tokens, logits, rules, settings) -> State:
    """Return the state with one more token in each unfinished row.

    Args:
        state: The state.
        tokens: `(rows,)` int32, the new tokens.
        logits: `(rows, vocabulary_size)`, the model's logits before penalties and bans, for the
            log-probabilities.
        rules: The `Rules` for the end of a text.
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
    """Return `(rows,)`: the log-probability of one token in each row.

    Args:
        logits: `(rows, vocabulary_size)`.
        tokens: `(rows,)` int32.
    """
    chosen = tf.gather(logits, tokens, batch_dims=1)
    return chosen - tf.reduce_logsumexp(logits, axis=-1)
