"""Tiny models that many tests share, and a cache of token ids that no test leaves behind."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

import gpt_keras as gk


@pytest.fixture(autouse=True)
def token_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPT_KERAS_CACHE", str(tmp_path / "token_cache"))


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


def tiny_config(**changes):
    """Two layers, two heads, width 16, vocabulary 32, 48 positions."""
    fields = {
        "vocabulary_size": 32,
        "max_sequence_length": 48,
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 16,
    }
    return gk.GPTConfig(**{**fields, **changes})


def spread_weights(model, seed=0, stddev=0.3):
    """Replace all weights by larger random ones, so that wrong biases and norms would show."""
    generator = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(variable + generator.normal(0, stddev, variable.shape).astype("float32"))
    return model


CHARACTERS = "abcdefghijklmnopqrstuvwxyz ,.!?"


@pytest.fixture(scope="session")
def character_tokenizer():
    return gk.tokenizers.CharacterTokenizer(CHARACTERS, end_of_text=True)


@pytest.fixture(scope="session")
def spread_model(character_tokenizer):
    """A random model that nobody may change; its texts are not all alike."""
    keras.utils.set_random_seed(1)
    return spread_weights(gk.GPTCausalLM(tiny_config(), tokenizer=character_tokenizer))
