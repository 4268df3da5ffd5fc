"""Speculative decoding: guess several tokens cheaply, check them all in one step.

Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding", algorithm 1.
"""

import dataclasses
from typing import Any, NamedTuple

import tensorflow as tf

from gpt_keras.config import check_positive_int
from gpt_keras.generation.kv_cache import bucket_length
from gpt_keras.generation.processors import warp
from gpt_keras.generation.runner import Runner
from gpt_keras.generation.sampling import sample, uniforms
from gpt_keras.generation.state import State, write_column
from gpt_keras.generation.strategies import Proposals, Sampling, append, next_uniform

# Numbers that say which of the independent random numbers of a seed are meant.
_ACCEPT, _GUESS = 1, 2


class _Memory(NamedTuple):
    """Random numbers beside those of the draws, and what the guesser keeps."""

    accept: tf.Tensor
    guess: tf.Tensor
    cache: Any


@dataclasses.dataclass(frozen=True)
class Speculative(Sampling):
    """Guess `num_tokens` tokens, run them in one step, and keep those that the model agrees with.

    A guess `x` that was drawn with probability `q(x)` is kept with probability
    `min(1, p(x) / q(x))`; in place of the first one that is not, a token is drawn from
    `max(0, p - q)`. What is generated has the distribution of plain sampling, and at temperature 0
    it is the same text. One prompt at a time: its rows would move on by different numbers of
    tokens.

    Subclasses say how tokens are guessed.

    Attributes:
        num_tokens: how many are guessed at once.
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
        # The big parts stay out of the conditions, in which they might be copied.
        cache, memory = state.cache, state.memory
        state = state._replace(cache=(), memory=())
        goes_on = tf.constant(True)
        for i in range(self.block):
            guess = None
            if i < self.num_tokens:
                guess = proposals.token_ids[:, i], _probabilities(proposals, i, logits)

            def take_one(state=state, i=i, guess=guess):
                return self._take_one(logits[:, i], guess, state, memory.accept, rules, settings)

            def stay(state=state):
                return state, tf.constant(False)

            state, goes_on = tf.cond(goes_on, take_one, stay)
        return state._replace(cache=cache, memory=memory)

    def _take_one(self, logits, guess, state, accept_uniforms, rules, settings):
        """Add a guess or another token; tell whether the next guess counts."""
        probabilities = distribution(rules.process(logits, state, settings), settings)
        accepted = tf.constant([False])
        if guess is not None:
            token_ids, guessed = guess
            p = tf.gather(probabilities, token_ids, batch_dims=1)
            q = tf.gather(guessed, token_ids, batch_dims=1)
            accepted = next_uniform(state, accept_uniforms) * q < p
            rest = tf.maximum(probabilities - guessed, 0)
            # Rounding may leave nothing where both are the same.
            has_rest = tf.reduce_sum(rest, axis=-1, keepdims=True) > 0
            probabilities = tf.where(has_rest, rest, probabilities)
        tokens = sample(tf.math.log(probabilities), next_uniform(state, state.uniforms))
        if guess is not None:
            tokens = tf.where(accepted, token_ids, tokens)
        state = append(state, tokens, logits, rules, settings)
        return state, accepted[0] & ~state.finished[0]


def _probabilities(proposals, i, logits):
    """The probabilities from which guess number `i` was drawn, `(rows, vocabulary_size)`."""
    if proposals.probabilities is None:
        return tf.one_hot(proposals.token_ids[:, i], tf.shape(logits)[-1])
    return proposals.probabilities[:, i]


def distribution(logits, settings):
    """Return the probabilities by which tokens are drawn, `(rows, vocabulary_size)`."""
    return tf.cond(
        settings["temperature"] > 0,
        lambda: tf.nn.softmax(warp(logits, settings)),
        lambda: tf.one_hot(tf.argmax(logits, axis=-1), tf.shape(logits)[-1]),
    )


@dataclasses.dataclass(frozen=True)
class PromptLookup(Speculative):
    """Guess that the text goes on as it did where its last tokens stood before.

    It needs no second model, and pays where an answer repeats much of its prompt: summaries,
    corrections, code (Saxena 2023, "Prompt Lookup Decoding").

    Args:
        num_tokens: how many tokens are guessed at once.
        ngram_size: how many last tokens are looked for at most; of shorter matches the longest
            counts, of several the latest.

    Raises:
        ValueError: an argument is below 1.

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
            still &= (earlier == row[index - i]) & (columns - i >= state.starts[0])
            matching += tf.cast(still, tf.int32)
        rank = matching * tf.shape(row)[0] + tf.where(in_text, columns, 0)
        found = tf.argmax(rank, output_type=tf.int32)
        places = tf.minimum(found + 1 + tf.range(self.num_tokens), index)
        token_ids = tf.gather(row, places)[None]
        return state, Proposals(token_ids, None)


@dataclasses.dataclass(frozen=True)
class DraftModel(Speculative):
    """Let a smaller model guess.

    It pays where the small model is several times faster and agrees often: of one family, trained
    on the same data.

    Args:
        model: a `CausalLM` with the same vocabulary, whose backbone has the cache protocol.
        num_tokens: how many tokens are guessed at once.

    Raises:
        ValueError: `num_tokens` is below 1.

    Example:
        >>> import gpt_keras as gk
        >>> config = gk.GPTConfig(vocabulary_size=8, max_sequence_length=16, num_layers=1,
        ...                       num_heads=2, hidden_dim=8)
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
        memory = state.memory
        drafted = state._replace(cache=(), memory=(), log_probs=())
        cache, token_ids, probabilities = memory.cache, [], []
        for i in range(self.num_tokens + 1):
            newest = drafted.token_ids[:, drafted.index, None]
            logits, update = self._runner.extend(newest, cache, drafted.index, state.starts, {})
            cache = self.model.backbone.write(cache, update, drafted.index)
            if i == self.num_tokens:
                break  # run only so that its keys are there if all guesses are right
            drawn_from = distribution(rules.process(logits[:, 0], drafted, settings), settings)
            tokens = sample(tf.math.log(drawn_from), next_uniform(drafted, memory.guess))
            token_ids.append(tokens)
            probabilities.append(drawn_from)
            index = drafted.index + 1
            drafted = drafted._replace(
                token_ids=write_column(drafted.token_ids, tokens, index), index=index
            )
        proposals = Proposals(tf.stack(token_ids, axis=1), tf.stack(probabilities, axis=1))
        return state._replace(memory=memory._replace(cache=cache)), proposals
