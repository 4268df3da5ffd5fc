"""Speculative decoding: guess several tokens cheaply, check them all in one step.

Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding", algorithm 1.
"""

import dataclasses
from typing import Any, NamedTuple

import tensorflow as tf

from gpt_keras.checks import check_positive_int
from gpt_keras.generation.lengths import bucket_length
from gpt_keras.generation.processors import warp
from gpt_keras.generation.runner import Runner
from gpt_keras.generation.sampling import sample, uniforms
from gpt_keras.generation.state import State, write_column
from gpt_keras.generation.strategies import Proposals, Strategy, append, next_uniform

# Each selects an independent stream of random numbers of a seed.
_ACCEPT, _GUESS = 1, 2


class _Memory(NamedTuple):
    """Random numbers beside those of the draws, and what the guesser keeps."""

    accept: tf.Tensor
    guess: tf.Tensor
    cache: Any


@dataclasses.dataclass(frozen=True)
class Speculative(Strategy):
    """Speculative decoding: guesses run in one step and kept while they agree.

    A guess `x` that was drawn with probability `q(x)` is kept with probability
    `min(1, p(x) / q(x))`; in place of the first one that is not, a token is drawn from
    `max(0, p - q)`. What is generated has the distribution of plain sampling, and at temperature 0
    it is the same text. One prompt at a time: its rows would move on by different numbers of
    tokens.

    Subclasses say how tokens are guessed.

    Attributes:
        num_tokens: How many are guessed at once.
    """

    @property
    def block(self) -> int:
        """Tokens that are run at once."""
        return self.num_tokens + 1

    def begin(self, state: State, seeds) -> State:
        count = tf.shape(state.uniforms)[1]
        accept, guess = (
            uniforms(tf.bitwise.bitwise_xor(seeds, tf.constant(number << 32, tf.int64)), count)
            for number in (_ACCEPT, _GUESS)
        )
        return state._replace(memory=_Memory(accept, guess, self._guesser_cache(state)))

    def _guesser_cache(self, state: State) -> Any:
        del state
        return ()

    def take(self, logits, proposals, state: State, rules, settings) -> State:
        # What the loop only reads stays out of it, and is not copied.
        cache, memory = state.cache, state.memory
        # -1 is no guess: what comes after the last one, and ids of a prompt that have no logits.
        guesses = tf.pad(proposals.token_ids, [[0, 0], [0, 1]], constant_values=-1)
        guesses = tf.where(guesses < tf.shape(logits)[-1], guesses, -1)

        def take_one(i, goes_on, state):
            del goes_on
            guess = guesses[:, i]
            guessed = tf.one_hot(guess, tf.shape(logits)[-1])
            if proposals.probabilities is not None:
                drawn_from = proposals.probabilities[:, tf.minimum(i, self.num_tokens - 1)]
                guessed = tf.where(guess[:, None] >= 0, drawn_from, 0.0)
            state, goes_on = self._take_one(
                logits[:, i], guess, guessed, state, memory.accept, rules, settings
            )
            return i + 1, goes_on, state

        *_, state = tf.while_loop(
            lambda i, goes_on, _: goes_on & (i < self.block),
            take_one,
            (0, tf.constant(True), state._replace(cache=(), memory=())),
        )
        return state._replace(cache=cache, memory=memory)

    def _take_one(self, logits, guess, guessed, state, accept_uniforms, rules, settings):
        """Add a guess or another token; tell whether the next guess counts."""
        probabilities = distribution(rules.process(logits, state, settings), settings)
        p, q = (
            tf.gather(part, tf.maximum(guess, 0), batch_dims=1) for part in (probabilities, guessed)
        )
        accepted = (guess >= 0) & (next_uniform(state, accept_uniforms) * q < p)
        rest = tf.maximum(probabilities - guessed, 0)
        # Rounding may leave nothing where both are the same.
        has_rest = tf.reduce_sum(rest, axis=-1, keepdims=True) > 0
        rest = tf.where(has_rest, rest, probabilities)
        others = sample(tf.math.log(rest), next_uniform(state, state.uniforms))
        state = append(state, tf.where(accepted, guess, others), logits, rules, settings)
        return state, accepted[0] & ~state.finished[0]


def distribution(logits, settings):
    """Return the probabilities by which tokens are drawn, `(rows, vocabulary_size)`."""
    return tf.cond(
        settings["temperature"] > 0,
        lambda: tf.nn.softmax(warp(logits, settings)),
        lambda: tf.one_hot(tf.argmax(logits, axis=-1), tf.shape(logits)[-1]),
    )


@dataclasses.dataclass(frozen=True)
class PromptLookup(Speculative):
    """Speculative decoding that guesses what followed the last tokens before.

    It needs no second model, and pays where an answer repeats much of its prompt: summaries,
    corrections, code (Saxena 2023, "Prompt Lookup Decoding").

    Args:
        num_tokens: How many tokens are guessed at once.
        ngram_size: How many last tokens are looked for at most; of shorter matches the longest
            counts, of several the latest.

    Raises:
        ValueError: An argument is below 1.

    Example:
        >>> import gpt_keras as gk
        >>> gk.generation.PromptLookup(num_tokens=4)
        PromptLookup(num_tokens=4, ngram_size=3)
    """

    num_tokens: int = 5
    ngram_size: int = 3

    def __post_init__(self):
        check_positive_int("num_tokens", self.num_tokens)
        check_positive_int("ngram_size", self.ngram_size)

    def propose(self, state: State, rules, settings) -> tuple[State, Proposals]:
        del rules, settings
        row, index = state.token_ids[0], state.index
        columns = tf.range(tf.shape(row)[0])
        in_text = (columns >= state.starts[0]) & (columns < index)
        # How many tokens up to each column are the last ones of the text.
        matching = tf.zeros_like(row)
        still = in_text
        for i in range(self.ngram_size):
            earlier = tf.roll(row, i, axis=0)
            # In a text that is shorter no column has so many before it either.
            last = row[tf.maximum(index - i, 0)]
            still &= (earlier == last) & (columns - i >= state.starts[0])
            matching += tf.cast(still, tf.int32)
        rank = matching * tf.shape(row)[0] + tf.where(in_text, columns, 0)
        found = tf.argmax(rank, output_type=tf.int32)
        # What repeats itself will do so again.
        period = tf.maximum(index - found, 1)
        places = found + 1 + tf.range(self.num_tokens) % period
        token_ids = tf.gather(row, places)[None]
        return state, Proposals(token_ids, None)


@dataclasses.dataclass(frozen=True)
class DraftModel(Speculative):
    """Speculative decoding in which a smaller model guesses.

    It pays where the small model is several times faster and agrees often: of one family, trained
    on the same data.

    Args:
        model: A `CausalLM` with the same vocabulary, whose backbone has the cache protocol. Past
            its own `max_sequence_length` it guesses badly, which costs time and changes no text.
        num_tokens: How many tokens are guessed at once.

    Raises:
        ValueError: `num_tokens` is below 1.

    Example:
        >>> import gpt_keras as gk
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=8)
        >>> draft, model = gk.GPTCausalLM(config), gk.GPTCausalLM(config)
        >>> strategy = gk.generation.DraftModel(draft, num_tokens=2)
        >>> text = model.generate([1, 2], max_new_tokens=4, temperature=0, strategy=strategy)
        >>> text == model.generate([1, 2], max_new_tokens=4, temperature=0)
        True
    """

    model: Any
    num_tokens: int = 4

    def __post_init__(self):
        check_positive_int("num_tokens", self.num_tokens)
        tokenizer = self.model.tokenizer
        vocabulary_size = None if tokenizer is None else tokenizer.vocabulary_size
        object.__setattr__(self, "_runner", Runner(self.model.backbone, vocabulary_size))

    def _guesser_cache(self, state: State) -> Any:
        backbone = self.model.backbone
        length = bucket_length(tf.shape(state.token_ids)[1])
        cache = backbone.initial_cache(tf.shape(state.starts)[0], length)
        prompts = state.token_ids[:, : state.first]
        return self._runner.fill(prompts, cache, 0, state.starts, {})

    def propose(self, state: State, rules, settings) -> tuple[State, Proposals]:
        memory, first = state.memory, state.index + 1

        def guess(i, drafted, cache, probabilities):
            index = drafted.index
            newest = drafted.token_ids[:, index, None]
            logits, update = self._runner.extend(newest, cache, index, drafted.starts, {})
            cache = self.model.backbone.write(cache, update, index)
            drawn_from = distribution(rules.process(logits[:, 0], drafted, settings), settings)
            tokens = sample(tf.math.log(drawn_from), next_uniform(drafted, memory.guess))
            drafted = drafted._replace(
                token_ids=write_column(drafted.token_ids, tokens, index + 1), index=index + 1
            )
            return i + 1, drafted, cache, probabilities.write(i, drawn_from)

        # The last guess is run, too, so that its keys are there if all are right; what follows it
        # is of no use.
        drafted = state._replace(cache=(), memory=(), log_probs=())
        probabilities = tf.TensorArray(tf.float32, self.block)
        _, drafted, cache, probabilities = tf.while_loop(
            lambda i, *_: i < self.block, guess, (0, drafted, memory.cache, probabilities)
        )
        token_ids = drafted.token_ids[:, first : first + self.num_tokens]
        probabilities = tf.transpose(probabilities.stack(), [1, 0, 2])[:, : self.num_tokens]
        state = state._replace(memory=memory._replace(cache=cache))
        return state, Proposals(token_ids, probabilities)
