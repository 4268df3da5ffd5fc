"""Generation past the context, against the same weights with banded attention over all the text."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.generation import PromptLookup, Sampling
from gpt_keras.generation.arguments import read_call
from gpt_keras.generation.compiled import Generators

WINDOW = 20
COUNT = 250  # the cache has room for 128 tokens, and slides by 64


def make_model(windows=None, **changes):
    """A model with a short context, and one with a long context and the same as its window."""
    random.seed(0)  # Keras draws the seeds of its initializers from it
    config = tiny_config(max_sequence_length=WINDOW, attention_windows=windows, **changes)
    model = spread_weights(gk.GPTCausalLM(config))
    model._generators = Generators(model, jit_compile=False)
    banded = [min(WINDOW, window or WINDOW) for window in windows or (None,)]
    reference = gk.GPT(config.replace(max_sequence_length=1000, attention_windows=tuple(banded)))
    reference.set_weights(model.get_weights())
    return model, reference


@pytest.fixture(scope="module")
def rotary():
    return make_model(position_embedding="rotary", num_key_value_heads=1)


def check_scores(reference, prompt, found):
    """The log-probabilities of all new tokens are those of one call on the whole text."""
    row = [*prompt, *found.token_ids]
    logits = np.float64(reference(np.array([row[:-1]])))[0]
    log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = log_probs[np.arange(len(row) - 1), row[1:]][len(prompt) - 1 :]
    np.testing.assert_allclose(found.log_probs, expected, atol=2e-3)


PROMPTS = [
    [3, 1, 4],
    list(range(WINDOW)),
    [5],
    np.random.default_rng(0).integers(32, size=150).tolist(),  # longer than the window
]


@pytest.mark.graph
def test_rotary_models_go_on(rotary):
    model, reference = rotary
    settings = {"sliding_window": True, "max_new_tokens": COUNT, "seed": 1}
    rows = model.generate_with_scores(PROMPTS[:3], **settings)
    for prompt, (found,) in zip(PROMPTS, rows, strict=False):
        assert len(found.token_ids) == COUNT
        assert len(set(found.token_ids)) > 10  # a text in which something happens
        check_scores(reference, prompt, found)
    # By itself, and in a batch with a much longer one, each row is the same.
    for i, prompt in enumerate(PROMPTS[:3]):
        alone = model.generate_with_scores(
            prompt, **settings | {"seed": [int(gk.generation.fold_in(1, i))]}
        )
        assert alone[0].token_ids == rows[i][0].token_ids
    rows = model.generate_with_scores([PROMPTS[3], PROMPTS[0]], **settings)
    check_scores(reference, PROMPTS[3], rows[0][0])
    check_scores(reference, PROMPTS[0], rows[1][0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"position_embedding": "none"},
        {"position_embedding": "sinusoidal", "norm_position": "post"},
        {"position_embedding": "rotary", "windows": (7, None)},
        {"position_embedding": "rotary", "windows": (64, 12)},
    ],
    ids=["none", "sinusoidal", "a layer's own window", "a layer's larger window"],
)
def test_other_models_go_on(changes):
    model, reference = make_model(**changes)
    settings = {"sliding_window": True, "max_new_tokens": 170, "seed": 1}  # slides twice
    prompts = PROMPTS[:2]
    rows = model.generate_with_scores(prompts, **settings)
    for prompt, (found,) in zip(prompts, rows, strict=True):
        check_scores(reference, prompt, found)


@pytest.mark.slow
@pytest.mark.parametrize("num_tokens", [5, 100], ids=["short blocks", "longer than a slide"])
def test_guesses_go_past_the_context(rotary, num_tokens):
    model, _ = rotary
    settings = {"sliding_window": True, "max_new_tokens": COUNT, "temperature": 0}
    for prompt in (PROMPTS[0], PROMPTS[3]):
        (plain,) = model.generate_with_scores(prompt, **settings)
        strategy = PromptLookup(num_tokens)
        (guessed,) = model.generate_with_scores(prompt, strategy=strategy, **settings)
        assert guessed.token_ids == plain.token_ids


@pytest.mark.graph
def test_the_cache_stays_as_small_as_it_is(rotary):
    model, _ = rotary
    call = read_call(
        model, PROMPTS[0], sliding_window=True, max_new_tokens=COUNT, temperature=0, seed=0
    )
    generator = model._require_generators().get(Sampling(), True, WINDOW)
    state = generator.start(call.request)
    shapes = tf.nest.map_structure(lambda part: part.shape, state.cache)
    assert shapes[0][0][2] == 128  # the next bucket above a chunk and a slide
    state = generator.advance(state, COUNT, call.settings)
    assert tf.nest.map_structure(lambda part: part.shape, state.cache) == shapes
    assert int(state.dropped) == 64 * 3


class Movable(keras.Model):
    """A backbone that does not tell what positions it has."""

    def call(self, token_ids):
        return tf.one_hot(token_ids, 8)

    def move(self, cache, length, offsets):
        return cache


def test_models_that_cannot_go_on_say_so(monkeypatch):
    monkeypatch.setattr(Generators, "get", lambda *_: pytest.fail("began to compile"))
    learned = gk.GPTCausalLM(tiny_config(num_layers=1))
    with pytest.raises(ValueError, match=r"sliding_window.*learned positions.*48"):
        learned.generate([1], sliding_window=True)
    recurrent = gk.CausalLM(gk.LSTMBackbone(8, 1, 4))
    with pytest.raises(ValueError, match=r"sliding_window.*lacks `move`"):
        recurrent.generate([1], sliding_window=True)
    missing = r"sliding_window.*movable.*lacks.*`has_learned_positions`"
    with pytest.raises(ValueError, match=missing):
        gk.CausalLM(Movable(name="movable")).generate([1], sliding_window=True)
    rotary = gk.GPTCausalLM(tiny_config(num_layers=1, position_embedding="rotary"))
    with pytest.raises(ValueError, match=r"sliding_window.*True or False.*1"):
        rotary.generate([1], sliding_window=1)
    cache = gk.generation.PromptCache()
    with pytest.raises(ValueError, match=r"prompt_cache.*sliding_window"):
        rotary.generate([1], sliding_window=True, prompt_cache=cache)
