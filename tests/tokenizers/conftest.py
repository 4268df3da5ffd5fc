import pytest
import tensorflow as tf

import gpt_keras.tokenizers as tokenizers
from gpt_keras.datasets import corpora


@pytest.fixture(scope="session")
def gpt2():
    return tokenizers.BytePairTokenizer.gpt2()


@pytest.fixture(scope="session")
def gpt2_layer(gpt2):
    return gpt2.in_graph()


@pytest.fixture(scope="session")
def gpt2_function(gpt2_layer):
    return tf.function(gpt2_layer, input_signature=[tf.TensorSpec([None], tf.string)])


@pytest.fixture(scope="session")
def plays():
    return corpora.load("shakespeare")


@pytest.fixture(scope="session")
def poems():
    return corpora.load("tang_poems")


@pytest.fixture(scope="session")
def trained(plays):
    return tokenizers.BytePairTokenizer.train(plays[0], 512)


@pytest.fixture(scope="session")
def characters(plays, poems):
    return tokenizers.CharacterTokenizer.train([*plays, *poems], end_of_text=True)
