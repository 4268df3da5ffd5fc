"""Speculative decoding: cheap draft tokens, checked by the model in one step.

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

# Each number selects an independent stream of random numbers from the same seed.
_ACCEPT, _GUESS = 1, 2


class _Memory(NamedTuple):
    """Memory of speculative decoding.

    Attributes:
        accept: `(rows, n)`, random numbers that decide whether a draft token is accepted.
        guess: `(rows, n)`, random numbers for sampling the draft tokens.
        cache: The KV cache of the draft model, or `()`.
    """

    accept: tf.Tensor
    guess: tf.Tensor
    cache: Any


@dataclasses.dataclass(frozen=True)
class Speculative(Strategy):
    """Base class of speculative decoding: draft tokens are accepted or resampled.

    A draft token `x` that was sampled with probability `q(x)` is accepted with probability
    `min(1, p(x) / q(x))`, where `p` is the model's distribution. The first token that is not
    accepted is replaced by a sample from `max(0, p - q)`, normalized. The generated text has the
    distribution of plain sampling. At temperature 0 it is the text of greedy decoding.

    It generates for one prompt at a time, because several rows would accept different numbers of
    tokens. Subclasses implement `propose`, which returns the draft tokens.

    Attributes:
        num_tokens: Number of draft tokens in each step.
    """

    @property
    def block(self) -> int:
        """Number of tokens that the model runs in one step."""
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
        # The loop only reads the cache and the memory. As loop variables they would be copied.
        cache, memory = state.cache, state.memory
        # -1 means no draft token: after the last one, and for ids without logits, which a prompt
        # may contain.
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
        """Append the draft token or a replacement; return whether to check the next one."""
        probabilities = distribution(rules.process(logits, state, settings), settings)
        p, q = (
            tf.gather(part, tf.maximum(guess, 0), batch_dims=1) for part in (probabilities, guessed)
        )
        accepted = (guess >= 0) & (next_uniform(state, accept_uniforms) * q < p)
        rest = tf.maximum(probabilities - guessed, 0)
        # If both distributions are equal, rounding may make every difference 0.
        has_rest = tf.reduce_sum(rest, axis=-1, keepdims=True) > 0
        rest = tf.where(has_rest, rest, probabilities)
        others = sample(tf.math.log(rest), next_uniform(state, state.uniforms))
        state = append(state, tf.where(accepted, guess, others), logits, rules, settings)
        return state, accepted[0] & ~state.finished[0]


def distribution(logits, settings):
    """Return the distribution from which the next token is sampled.

    At temperature 0 it is one-hot at the most likely token.

    Args:
        logits: `(rows, vocabulary_size)`, after penalties and bans.
        settings: Dict of tensors.

    Returns:
        `(rows, vocabulary_size)` float32 probabilities.
    """
    return tf.cond(
        settings["temperature"] > 0,
        lambda: tf.nn.softmax(warp(logits, settings)),
        lambda: tf.one_hot(tf.argmax(logits, axis=-1), tf.shape(logits)[-1]),
    )


@dataclasses.dataclass(frozen=True)
class PromptLookup(Speculative):
    """Speculative decoding with n-gram lookup in the text so far: no draft model.

    The last tokens are searched in the earlier text. The tokens after the match are the draft
    tokens (Saxena 2023, "Prompt Lookup Decoding"). It saves time if the answer repeats much of its
    prompt, as in summaries, corrections and code.

    Args:
        num_tokens: Number of draft tokens in each step.
        ngram_size: Largest number of last tokens to match. The longest match is used, and the
            latest one of equal length.

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
        # For each column: how many tokens that end there match the last tokens of the text.
        matching = tf.zeros_like(row)
        still = in_text
        for i in range(self.ngram_size):
            earlier = tf.roll(row, i, axis=0)
            # If the text has at most i tokens, the next line is False for every column, and `last`
            # has no effect.
            last = row[tf.maximum(index - i, 0)]
            still &= (earlier == last) & (columns - i >= state.starts[0])
            matching += tf.cast(still, tf.int32)
        rank = matching * tf.shape(row)[0] + tf.where(in_text, columns, 0)
        found = tf.argmax(rank, output_type=tf.int32)
        # The tokens after the match, up to the newest one, are repeated if they are too few.
        period = tf.maximum(index - found, 1)
        places = found + 1 + tf.range(self.num_tokens) % period
        token_ids = tf.gather(row, places)[None]
        return state, Proposals(token_ids, None)


@dataclasses.dataclass(frozen=True)
class DraftModel(Speculative):
    """Speculative decoding with a smaller model that samples the draft tokens.

    It saves time if the draft model is several times faster and often agrees with the model. Models
    of one family, trained on the same data, agree often.

    Args:
        model: The draft model: a `CausalLM` with the same vocabulary and tokenizer, whose backbone
            has the cache protocol. Beyond its own `max_sequence_length` its draft tokens are bad,
            which costs time but does not change the text.
        num_tokens: Number of draft tokens in each step.

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

        # The draft model also runs its last draft token, so that its keys and values are in the
        # cache if all draft tokens are accepted. The token after it is dropped.
        drafted = state._replace(cache=(), memory=(), log_probs=())
        probabilities = tf.TensorArray(tf.float32, self.block)
        _, drafted, cache, probabilities = tf.while_loop(
            lambda i, *_: i < self.block, guess, (0, drafted, memory.cache, probabilities)
        )
        token_ids = drafted.token_ids[:, first : first + self.num_tokens]
        probabilities = tf.transpose(probabilities.stack(), [1, 0, 2])[:, : self.num_tokens]
        state = state._replace(memory=memory._replace(cache=cache))
        return state, Proposals(token_ids, probabilities)
