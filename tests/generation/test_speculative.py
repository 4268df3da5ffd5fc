"""Guessing ahead changes how fast a text comes, and not which: nor, when it is drawn, how often."""

import random

import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.generation import DraftModel, PromptLookup
from gpt_keras.generation.compiled import Generators
from gpt_keras.generation.generator import Generator
from gpt_keras.generation.processors import read_settings
from gpt_keras.generation.runner import Runner
from gpt_keras.generation.sampling import uniforms
from gpt_keras.generation.state import Request, State
from gpt_keras.generation.stopping import NO_DEADLINE, Rules
from gpt_keras.generation.strategies import Proposals

pytestmark = pytest.mark.graph  # the same model in all tests
PROMPTS = ["a", "hello, hello, he", "what is this thing, and why"]


def draft_of(model, num_tokens):
    """A `DraftModel` that need not wait for XLA."""
    strategy = DraftModel(model, num_tokens)
    size = None if model.tokenizer is None else model.tokenizer.vocabulary_size
    object.__setattr__(strategy, "_runner", Runner(model.backbone, size, jit_compile=False))
    return strategy


def without_xla(model):
    model._generators = Generators(model, jit_compile=False)
    return model


@pytest.fixture(scope="module")
def model(character_tokenizer):
    random.seed(0)  # Keras draws the seeds of its initializers from it
    return without_xla(
        spread_weights(gk.GPTCausalLM(tiny_config(), tokenizer=character_tokenizer), seed=1)
    )


@pytest.fixture(scope="module")
def strategies(model, character_tokenizer):
    """Guessers that are always right, almost never, and now and then."""
    config = tiny_config(num_layers=1, position_embedding="rotary", max_sequence_length=20)
    other = spread_weights(gk.GPTCausalLM(config, tokenizer=character_tokenizer), seed=2)
    return {
        "itself": draft_of(model, num_tokens=3),
        "another": draft_of(other, num_tokens=2),
        "lookup": PromptLookup(num_tokens=4, ngram_size=2),
    }


NAMES = [pytest.param("another", marks=pytest.mark.slow), "itself", "lookup"]
SETTINGS = {
    "limit": {"max_new_tokens": 6},
    "stop": {"stop": ["a", "th"]},
    "penalties": {"repetition_penalty": 1.5, "presence_penalty": 0.5, "no_repeat_ngram_size": 2},
    "bans": {"bad_words": ["e", "th"], "logit_bias": {3: 4.0, 7: 5.0}, "min_new_tokens": 9},
    "choices": {"choices": ["abcabc", "abcd", "hello there"]},
    "end of the context": {"max_new_tokens": 100},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("name", NAMES)
def test_greedy_text_is_the_plain_one(model, strategies, name, settings):
    for prompt in PROMPTS:
        plain = model.generate(prompt, temperature=0, **settings)
        assert model.generate(prompt, temperature=0, strategy=strategies[name], **settings) == plain


@pytest.mark.parametrize("name", NAMES)
def test_a_text_ends_at_an_end_token_inside_a_block(model, strategies, name):
    prompt, settings = [1, 2, 3, 1], {"max_new_tokens": 20, "temperature": 0}
    for position in (1, 2, 3, 4):
        # The end comes when the text is so long, however likely it was.
        biases = {"logit_bias": {31: 100.0}, "min_new_tokens": position}
        row = model.generate(prompt, strategy=strategies[name], **biases, **settings)
        assert len(row) == len(prompt) + position
        assert row == model.generate(prompt, **biases, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_scores_are_the_plain_ones(model, strategies, name):
    settings = {"max_new_tokens": 15, "temperature": 0, "presence_penalty": 1.0}
    (plain,) = model.generate_with_scores(PROMPTS[1], **settings)
    (guessed,) = model.generate_with_scores(PROMPTS[1], strategy=strategies[name], **settings)
    assert guessed.token_ids == plain.token_ids
    np.testing.assert_allclose(guessed.log_probs, plain.log_probs, atol=1e-4)
    assert guessed.score == pytest.approx(plain.score, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_pieces_of_a_stream_are_the_text(model, strategies, name):
    settings = {"max_new_tokens": 15, "temperature": 0, "strategy": strategies[name]}
    pieces = list(model.stream(PROMPTS[1], **settings))
    assert PROMPTS[1] + "".join(pieces) == model.generate(PROMPTS[1], **settings)


@pytest.mark.slow
@pytest.mark.xla
def test_with_xla(compiled_model):
    settings = {"temperature": 0, "max_new_tokens": 100}  # to the end of the context
    plain = compiled_model.generate(PROMPTS[2], **settings)
    assert compiled_model.generate(PROMPTS[2], strategy=PromptLookup(), **settings) == plain


def num_steps(model, prompt, **settings):
    steps = []
    text = model.generate(prompt, callback=lambda rows: bool(steps.append(rows)), **settings)
    assert [len(row) for row in steps[-1]] == [len(text) - len(prompt)]
    return len(steps)


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"seed": 3}], ids=["greedy", "drawn"])
def test_all_guesses_of_the_model_itself_are_right(model, strategies, settings):
    settings = {**settings, "logit_bias": {31: -100.0}}  # no end of text
    # Each step is `num_tokens` guesses and the token after them.
    for count, steps in [(24, 6), (25, 7)]:
        draft = strategies["itself"]
        assert num_steps(model, [1, 2], max_new_tokens=count, strategy=draft, **settings) == steps


RULES = Rules((), None)


class Table(tf.Module):
    """A backbone whose logits depend on the newest token alone, by a table."""

    name = "table"

    def __init__(self, logits):
        super().__init__()
        self.logits = tf.constant(logits, tf.float32)

    def initial_cache(self, batch_size, length):
        return (tf.zeros([batch_size, 1, length, 1]),)

    def extend(self, token_ids, cache, index, starts):
        update = tf.zeros_like(token_ids[:, None, :, None], tf.float32)
        return tf.gather(self.logits, token_ids), (update,)

    def write(self, cache, update, index):
        return gk.layers.write_cache(cache, update, index)


class Draft:
    """As much of a `CausalLM` as guessing needs."""

    tokenizer = None

    def __init__(self, logits):
        self.backbone = Table(logits)


def request_of(prompt, limit, seeds):
    return Request(
        token_ids=tf.constant([prompt]),
        lengths=tf.constant([len(prompt)]),
        limits=tf.constant([limit]),
        seeds=seeds,
        cache_length=tf.constant(0),
    )


def settings_of(size, **given):
    stop = {"stop": tf.constant([], tf.string), "deadline": tf.constant(NO_DEADLINE, tf.float64)}
    return read_settings(given, None, size) | stop


def test_what_repeats_itself_is_guessed_however_short_it_is():
    # 0 follows 0; 1 and 2 each other; 3 to 9 one another. Long runs are looked for in short texts.
    cycles = [[0], [1, 2], [3, 4, 5, 6, 7, 8, 9]]
    successors = np.eye(10)[
        [cycle[(i + 1) % len(cycle)] for cycle in cycles for i in range(len(cycle))]
    ]
    generator = Generator(Runner(Table(successors), None, False), PromptLookup(5, 12), RULES)
    settings = settings_of(10, temperature=0)
    for cycle in cycles:
        prompt = cycle * 3
        state = generator.start(request_of(prompt, 24, tf.constant([0], tf.int64)))
        state = generator.advance(state, 4, settings)  # of 6 tokens each
        assert bool(state.finished[0])
        (row,) = generator.finish(state).token_ids[0].numpy().tolist()
        assert row[: len(prompt) + 24] == (cycle * 40)[: len(prompt) + 24]
        for prompt in (cycle[:1], cycle[:2]):
            state = generator.start(request_of(prompt, 1, tf.constant([0], tf.int64)))
            state = generator.advance(state, 1, settings)
            (row,) = generator.finish(state).token_ids[0].numpy().tolist()
            assert row[: len(prompt) + 1] == (cycle * 3)[: len(prompt) + 1]


def test_ids_that_only_a_prompt_may_hold_are_no_guesses():
    successors = np.eye(10)[[1, 0, 3, 0, 0, 1, 2, 3, 4, 0]]
    # The model has 10 rows, its tokenizer 5 tokens.
    generator = Generator(Runner(Table(successors), 5, False), PromptLookup(3, 1), RULES)
    state = generator.start(request_of([1, 9, 0, 1, 8, 1], 4, tf.constant([0], tf.int64)))
    state = generator.advance(state, 9, settings_of(5, temperature=0))
    row = generator.finish(state).token_ids[0, 0].numpy().tolist()
    assert row[:10] == [1, 9, 0, 1, 8, 1, 0, 1, 0, 1]


# Drawn texts

P = np.array([[0.4, 0.3, 0.2, 0.1, 0.0], [0.1, 0.1, 0.2, 0.5, 0.1], [0.2, 0.2, 0.2, 0.2, 0.2]])
Q = np.array([[0.1, 0.1, 0.2, 0.1, 0.5], [0.6, 0.1, 0.1, 0.1, 0.1], [0.2, 0.2, 0.2, 0.2, 0.2]])


SURE = np.eye(5)[1]


@tf.function(autograph=False)
def take(p, q, guesses, settings):
    """Let each of many rows take a guess that was drawn from `q`, or another token."""
    count = guesses.shape[0]
    strategy, seeds = PromptLookup(num_tokens=1), tf.range(count, dtype=tf.int64)
    zeros = tf.zeros([count], tf.int32)
    state = State(
        cache=(),
        token_ids=tf.zeros([count, 4], tf.int32),
        log_probs=(),
        index=tf.constant(0),
        first=tf.constant(1),
        dropped=tf.constant(0),
        starts=zeros,
        lengths=zeros + 1,
        max_lengths=zeros + 3,
        finished=tf.cast(zeros, tf.bool),
        ended=tf.cast(zeros, tf.bool),
        uniforms=uniforms(seeds, 2),
        memory=(),
    )
    state = strategy.begin(state, seeds)
    proposals = Proposals(guesses, tf.tile(q[None, None], [count, 1, 1]))
    logits = tf.tile(tf.math.log(p)[None, None], [count, 2, 1])
    taken = strategy.take(logits, proposals, state, RULES, settings)
    return taken.token_ids[:, 1]


@pytest.mark.parametrize(
    ("p", "q"), [(P[0], Q[0]), (P[1], Q[1]), (P[2], Q[2]), (P[0], SURE), (Q[0], SURE)]
)
def test_what_is_taken_has_the_distribution_of_the_model(p, q):
    guesses = np.random.default_rng(0).choice(5, size=(10_000, 1), p=q)
    p_and_q = tf.constant(p, tf.float32), tf.constant(q, tf.float32)
    tokens = take(*p_and_q, tf.constant(guesses, tf.int32), settings_of(5)).numpy()
    assert chi_square(np.bincount(tokens, minlength=5), p) < 1
    # Rejected guesses are replaced by others, so this is how often one is kept.
    assert np.mean(tokens == guesses[:, 0]) == pytest.approx(np.minimum(p, q).sum(), abs=0.02)


def chi_square(counts, probabilities):
    """The statistic over the value that it exceeds once in 10,000 times."""
    expected = probabilities.ravel() * counts.sum()
    counts = counts.ravel()
    assert not counts[expected == 0].any()
    is_small = expected < 5
    pooled = [(counts[is_small].sum(), expected[is_small].sum())]
    cells = [*zip(counts[~is_small], expected[~is_small], strict=True), *pooled]
    statistic = sum((n - e) ** 2 / e for n, e in cells if e > 0)
    freedom = sum(e > 0 for _, e in cells) - 1
    # Wilson and Hilferty's approximation of the quantile; 3.72 is that of the normal.
    quantile = freedom * (1 - 2 / (9 * freedom) + 3.72 * (2 / (9 * freedom)) ** 0.5) ** 3
    return statistic / quantile


@pytest.mark.slow
@pytest.mark.parametrize("name", ["draft", "lookup", "plain"])
def test_drawn_texts_have_the_distribution_of_plain_ones(name):
    draw = np.random.default_rng(5)
    logits, guessed = draw.normal(size=(2, 5, 5))
    strategy = {
        "draft": draft_of(Draft(guessed), num_tokens=2),
        "lookup": PromptLookup(num_tokens=2, ngram_size=1),
        "plain": gk.generation.Sampling(),
    }[name]
    generator = Generator(Runner(Table(logits), None, False), strategy, RULES)
    temperature = 0.7
    prompt, settings = [1, 2, 1, 3, 1], settings_of(5, temperature=temperature)

    @tf.function(autograph=False)
    def texts(seeds):
        def text(seed):
            state = generator.start(request_of(prompt, 3, seed[None]))
            state = generator.advance(state, 100, settings)
            return generator.finish(state).token_ids[0, 0, 5:8]

        return tf.map_fn(text, seeds, fn_output_signature=tf.TensorSpec([3], tf.int32))

    count = 2500
    counts = np.zeros((5, 5, 5), int)
    np.add.at(counts, tuple(texts(tf.range(count, dtype=tf.int64)).numpy().T), 1)

    p = np.exp(logits / temperature)
    p /= p.sum(axis=1, keepdims=True)
    joint = p[1][:, None, None] * p[:, :, None] * p[None]  # P(x|1) P(y|x) P(z|y)
    assert joint.sum() == pytest.approx(1)
    assert chi_square(counts, joint) < 1


# What is refused


def test_what_cannot_be_guessed_with_is_refused_at_once(model, monkeypatch):
    monkeypatch.setattr(Generators, "get", lambda *_: pytest.fail("began to compile"))
    other = gk.GPTCausalLM(tiny_config(vocabulary_size=40))
    unlike = gk.GPTCausalLM(model.config, tokenizer=gk.tokenizers.CharacterTokenizer("abc"))
    recurrent = gk.CausalLM(gk.LSTMBackbone(32, 1, 8), tokenizer=model.tokenizer)
    for draft, message in [
        (other, "vocabulary"),
        (unlike, "tokenizer"),
        (recurrent, r"lstm_backbone.*lacks `move`"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.generate("a", strategy=DraftModel(draft))
    for strategy in (PromptLookup(), DraftModel(model)):
        with pytest.raises(ValueError, match="one prompt at a time, got 2"):
            model.generate(["a", "b"], strategy=strategy)
    with pytest.raises(ValueError, match=r"lstm_backbone.*lacks `move`"):
        recurrent.generate("a", strategy=PromptLookup())
    cache = gk.generation.PromptCache()
    with pytest.raises(ValueError, match=r"prompt_cache.*DraftModel"):
        model.generate("a", strategy=DraftModel(model), prompt_cache=cache)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, None])
def test_numbers_of_guesses_that_are_refused(model, value):
    for make in (PromptLookup, lambda num_tokens: DraftModel(model, num_tokens)):
        with pytest.raises(ValueError, match=r"num_tokens.*at least 1"):
            make(num_tokens=value)
    with pytest.raises(ValueError, match=r"ngram_size.*at least 1"):
        PromptLookup(ngram_size=value)
