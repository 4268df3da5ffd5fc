"""Tiny models that many tests share, and a cache of token ids that no test leaves behind."""

import os
import random

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.generation.compiled import Generators


@pytest.fixture(autouse=True)
def token_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPT_KERAS_CACHE", str(tmp_path / "token_cache"))


@pytest.fixture(autouse=True)
def seed():
    """Keras draws the seeds of initializers and dropout from Python's generator.

    `keras.utils.set_random_seed` would also throw away all that TensorFlow has compiled. A test
    that draws from TensorFlow's global generator calls it.
    """
    random.seed(0)
    np.random.seed(0)


CHARACTERS = "abcdefghijklmnopqrstuvwxyz ,.!?"


@pytest.fixture(scope="session")
def character_tokenizer():
    return gk.tokenizers.CharacterTokenizer(CHARACTERS, end_of_text=True)


@pytest.fixture(scope="session")
def spread_model(character_tokenizer):
    """A random model that nobody may change; its texts are not all alike."""
    keras.utils.set_random_seed(1)
    return spread_weights(gk.GPTCausalLM(tiny_config(), tokenizer=character_tokenizer))


@pytest.fixture(scope="session")
def compiled_model(spread_model):
    """The same weights, compiled by XLA in all tests marked `xla`."""
    model = gk.GPTCausalLM(spread_model.config, tokenizer=spread_model.tokenizer)
    model.set_weights(spread_model.get_weights())
    model._generators = Generators(model, jit_compile=True)
    return model
