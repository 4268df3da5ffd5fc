"""For each family of models and each strategy: the cache changes nothing, nor does the batch."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.generation import BeamSearch, BestOf, PromptLookup
from gpt_keras.models.backbone import Generators

MODERN = {
    "position_embedding": "rotary",
    "norm": "rms_norm",
    "activation": "swiglu",
    "use_bias": False,
    "tie_embeddings": False,
    "num_heads": 4,
    "num_key_value_heads": 2,
}
FAMILIES = {
    "gpt1": {"norm_position": "post"},
    "gpt2": {},
    "gpt3": {"attention_windows": (None, 4)},
    "llama": MODERN,
    "qwen2": {**MODERN, "use_qkv_bias": True, "tie_embeddings": True},
    "mistral": {**MODERN, "attention_windows": (6,)},
    "mixtral": {**MODERN, "num_experts": 3},
    "gru_gated": {"num_key_value_heads": 1},
    "sinusoidal": {"position_embedding": "sinusoidal", "activation": "relu"},
    "no_positions": {"position_embedding": "none", "activation": "gelu"},
    "lstm": None,
}


@pytest.fixture(autouse=True)
def seed():
    """Nothing here is drawn by Keras, whose seeding throws compiled graphs away."""


def make_model(family):
    if family == "lstm":
        backbone = gk.LSTMBackbone(32, 2, 16, max_sequence_length=48)
    else:
        residual = gk.layers.GRUGate() if family == "gru_gated" else None
        backbone = gk.GPT(tiny_config(**FAMILIES[family]), residual=residual)
    model = spread_weights(gk.CausalLM(backbone, end_token_ids=[31]))
    model._generators = Generators(model, jit_compile=False)
    return model


class Uncached(keras.Model):
    """A backbone that remembers the tokens alone, and calls another one on whole texts.

    Its graph is the same whatever that other one is, so that it serves for all families.
    """

    max_sequence_length = 48
    backbone = None

    def call(self, token_ids):
        return tf.one_hot(token_ids, 32)

    def initial_cache(self, batch_size, length):
        return tf.zeros([batch_size, 1, length, 1], tf.int32)

    def extend(self, token_ids, cache, index, starts):
        update = token_ids[:, None, :, None]
        logits = tf.numpy_function(
            self.whole_texts,
            [self.write(cache, update, index), token_ids, index, starts],
            tf.float32,
        )
        logits.set_shape([None, None, 32])
        return logits, update

    def whole_texts(self, cache, token_ids, index, starts):
        num_new = token_ids.shape[1]
        rows = np.zeros((len(starts), 48), "int32")
        logits = np.zeros((*token_ids.shape, 32), "float32")
        begins = []
        for row, tokens, start in zip(rows, cache[:, 0, :, 0], starts, strict=True):
            text = tokens[start : index + num_new][:48]
            row[: len(text)] = text  # what stands after a text is not seen
            begins.append(index - start)
        whole = np.array(self.whole(tf.constant(rows)))
        for i, begin in enumerate(begins):
            for new in range(num_new):
                if 0 <= begin + new < 48:
                    logits[i, new] = whole[i, begin + new]
        return logits

    def write(self, cache, update, index):
        return gk.generation.write_cache(cache, update, index)

    def move(self, cache, length, offsets):
        return gk.generation.move_cache(cache, length, offsets)


@pytest.fixture(scope="module")
def uncached_model():
    model = gk.CausalLM(Uncached(), end_token_ids=[31])
    model._generators = Generators(model, jit_compile=False)
    return model


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, uncached_model):
    """A model of each family, and the one that calls it on whole texts."""
    model = make_model(request.param)
    spec = [tf.TensorSpec([None, 48], tf.int32)]
    uncached_model.backbone.whole = tf.function(model.backbone, input_signature=spec)
    return model, uncached_model


def random_prompts(seed):
    draw = np.random.default_rng(seed)
    return [draw.integers(31, size=length).tolist() for length in draw.integers(1, 36, 3)]


SAMPLED = [
    {"temperature": 0},
    {"temperature": 1.2, "top_k": 20, "presence_penalty": 0.5},
]


def check(pair, **settings):
    """Cached equals uncached for a ragged batch, and both equal single runs."""
    model, uncached = pair
    for seed in (0, 1):
        prompts = random_prompts(seed)
        seeds = [10 * seed + i for i in range(3)]
        settings = {"max_new_tokens": 10, **settings}
        rows = model.generate(prompts, seed=seeds, **settings)
        assert rows == uncached.generate(prompts, seed=seeds, **settings)
        for prompt, row_seed, row in zip(prompts, seeds, rows, strict=True):
            assert model.generate(prompt, seed=[row_seed], **settings) == row


@pytest.mark.parametrize("settings", SAMPLED, ids=["greedy", "drawn"])
def test_cached_uncached_batch_and_single_are_one(pair, settings):
    check(pair, **settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy", [BeamSearch(3), BestOf(3)], ids=lambda strategy: type(strategy).__name__
)
def test_the_same_for_strategies_with_several_rows(pair, strategy):
    check(pair, strategy=strategy)


@pytest.mark.slow
def test_the_same_for_guesses(pair):
    model, uncached = pair
    if not hasattr(model.backbone, "move"):
        pytest.skip("a recurrent backbone cannot take guesses back")
    settings = {"max_new_tokens": 40, "strategy": PromptLookup(3, 1)}  # to the end of the context
    for seed in (0, 1):
        for prompt in random_prompts(seed):
            for draw in SAMPLED:
                row = model.generate(prompt, seed=seed, **draw, **settings)
                assert row == uncached.generate(prompt, seed=seed, **draw, **settings)
                if draw["temperature"] == 0:
                    plain = model.generate(prompt, max_new_tokens=40, temperature=0)
                    assert row == plain
