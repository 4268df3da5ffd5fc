"""For each family of models and each strategy: the cache changes nothing, nor does the batch."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.generation import BeamSearch, BestOf, PromptLookup
from gpt_keras.generation.compiled import Generators

pytestmark = pytest.mark.graph  # one for all families
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


def make_backbone(family):
    random.seed(0)  # Keras draws the seeds of its initializers from it
    if family == "lstm":
        return gk.LSTMBackbone(32, 2, 16, max_sequence_length=48)
    residual = gk.layers.GRUGate() if family == "gru_gated" else None
    return gk.GPT(tiny_config(**FAMILIES[family]), residual=residual)


class Cached:
    """A `GPT`, as a step of generation runs it."""

    def __init__(self, backbone):
        scalar, rows = tf.TensorSpec([], tf.int32), tf.TensorSpec([None], tf.int32)
        caches = [tf.TensorSpec([None] * 4)] * 4
        self.backbone = backbone
        self.run = tf.function(
            lambda token_ids, index, starts, *cache: backbone.extend(
                token_ids, [cache[:2], cache[2:]], index, starts
            ),
            input_signature=[tf.TensorSpec([None, None], tf.int32), scalar, rows, *caches],
        )

    def initial_cache(self, batch_size, length):
        return keras.tree.flatten(self.backbone.initial_cache(batch_size, length))

    def extend(self, *arguments):
        return keras.tree.flatten(self.run(*arguments))


class Uncached:
    """The same by calls on whole texts; its cache is the tokens."""

    def __init__(self, backbone):
        self.whole = tf.function(backbone, input_signature=[tf.TensorSpec([None, 48], tf.int32)])

    def initial_cache(self, batch_size, length):
        return [np.zeros((batch_size, 1, length, 1), "float32")] * 4

    def extend(self, token_ids, index, starts, cache, *_):
        new = token_ids[:, None, :, None].astype("float32")
        columns = np.concatenate([cache[:, 0, :index, 0], token_ids], axis=1)
        texts = np.zeros((len(starts), 48), "int32")  # what stands after a text is not seen
        for text, row, start in zip(texts, columns, starts, strict=True):
            text[: len(row) - start] = row[start:][:48]
        logits = np.array(self.whole(texts))
        positions = index + np.arange(token_ids.shape[1]) - starts[:, None]
        positions = np.clip(positions, 0, 47)  # padding, and guesses after the end: never read
        return [np.take_along_axis(logits, positions[:, :, None], axis=1), *[new] * 4]


class Stage(keras.Model):
    """A backbone that hands every call on to the one under test: one graph serves them all."""

    max_sequence_length = 48
    actor = None

    def call(self, token_ids):
        return tf.one_hot(token_ids, 32)

    def initial_cache(self, batch_size, length):
        return self.ask(
            lambda batch_size, length: self.actor.initial_cache(int(batch_size), int(length)),
            [batch_size, length],
            [[None] * 4] * 4,
        )

    def extend(self, token_ids, cache, index, starts):
        given = [token_ids, index, starts, *cache]
        shapes = [[None, None, 32], *[[None] * 4] * 4]
        logits, *update = self.ask(lambda *given: self.actor.extend(*given), given, shapes)
        return logits, update

    def ask(self, function, given, shapes):
        def answer(*given):
            return [np.array(part) for part in function(*given)]

        parts = tf.numpy_function(answer, given, [tf.float32] * len(shapes))
        for part, shape in zip(parts, shapes, strict=True):
            part.set_shape(shape)
        return parts

    def write(self, cache, update, index):
        return gk.layers.write_cache(cache, update, index)

    def move(self, cache, length, offsets):
        return gk.layers.move_cache(cache, length, offsets)


def model_with(backbone):
    model = gk.CausalLM(backbone, end_token_ids=[31])
    model._generators = Generators(model, jit_compile=False)
    return model


@pytest.fixture(scope="module")
def stage():
    return model_with(Stage())


FAST = ("mixtral",)
SLOW = [name for name in FAMILIES if name not in FAST]


@pytest.fixture(
    scope="module",
    params=[*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)],
)
def family(request, stage):
    """Two functions like `generate`, of a model with a cache and of the same without one."""
    backbone = make_backbone(request.param)
    spread_weights(backbone)
    if request.param == "lstm":
        model, cached = model_with(backbone), None
    else:
        model, cached = stage, Cached(backbone)

    def with_cache(*args, **settings):
        stage.backbone.actor = cached
        return model.generate(*args, **settings)

    uncached = Uncached(backbone)

    def without_cache(*args, **settings):
        stage.backbone.actor = uncached
        return stage.generate(*args, **settings)

    return request.param, with_cache, without_cache


def random_prompts(seed):
    draw = np.random.default_rng(seed)
    return [draw.integers(31, size=length).tolist() for length in draw.integers(1, 36, 3)]


SAMPLED = [
    {"temperature": 0},
    {"temperature": 1.2, "top_k": 20, "presence_penalty": 0.5},
]


def check(family, **settings):
    """Cached equals uncached for a ragged batch, and both equal single runs."""
    _, with_cache, without_cache = family
    settings = {"max_new_tokens": 10, **settings}
    for number in range(2):
        prompts = random_prompts(number)
        seeds = [10 * number + i for i in range(3)]
        rows = with_cache(prompts, seed=seeds, **settings)
        assert rows == without_cache(prompts, seed=seeds, **settings)
    for prompt, row_seed, row in zip(prompts, seeds, rows, strict=True):
        assert with_cache(prompt, seed=[row_seed], **settings) == row


@pytest.mark.parametrize("settings", SAMPLED, ids=["greedy", "drawn"])
def test_cached_uncached_batch_and_single_are_one(family, settings):
    check(family, **settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy", [BeamSearch(3), BestOf(3)], ids=lambda strategy: type(strategy).__name__
)
def test_the_same_for_strategies_with_several_rows(family, strategy):
    check(family, strategy=strategy)


@pytest.mark.slow
def test_the_same_for_guesses(family):
    name, with_cache, without_cache = family
    if name == "lstm":  # a state cannot take guesses back
        with pytest.raises(ValueError, match="lacks `move`"):
            with_cache([7], max_new_tokens=2, strategy=PromptLookup(3, 1))
        return
    for draw in SAMPLED:
        for prompt in ([7], list(range(30))):
            settings = {"max_new_tokens": 18, "seed": 0, **draw}  # to the end of the context
            guesses = {**settings, "strategy": PromptLookup(3, 1)}
            row = with_cache(prompt, **guesses)
            assert row == without_cache(prompt, **guesses)
            if draw["temperature"] == 0:
                assert row == with_cache(prompt, **settings)
