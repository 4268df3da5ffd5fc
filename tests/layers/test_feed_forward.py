import math

import keras
import numpy as np
import pytest
from tiny_models import spread_weights

import gpt_keras as gk
from gpt_keras import config
from gpt_keras.layers import activations


def _gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))


def _gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize(
    ("activation", "formula"),
    [
        ("relu", lambda up, gate: np.maximum(up, 0)),
        ("relu_squared", lambda up, gate: np.maximum(up, 0) ** 2),
        ("gelu", lambda up, gate: _gelu(up)),
        ("gelu_tanh", lambda up, gate: _gelu_tanh(up)),
        ("swiglu", lambda up, gate: gate / (1 + np.exp(-gate)) * up),
    ],
)
def test_equals_the_formula(activation, formula):
    layer = gk.layers.FeedForward(10, activation=activation)
    layer.build((None, None, 6))
    spread_weights(layer)
    x = np.random.default_rng(0).normal(size=(2, 3, 6))

    def project(dense, x):
        return x @ np.float64(dense.kernel) + np.float64(dense.bias)

    gate = project(layer.gate, x) if activation == "swiglu" else None
    expected = project(layer.down, formula(project(layer.up, x), gate))
    np.testing.assert_allclose(layer(x.astype("float32")), expected, atol=1e-5)


@keras.saving.register_keras_serializable("tests")
def cubed(x):
    return x**3


@pytest.mark.parametrize(
    ("activation", "formula"),
    [
        ("silu", lambda x: x / (1 + np.exp(-x))),
        (keras.activations.tanh, np.tanh),
        (cubed, lambda x: x**3),
        ("linear", lambda x: x),
    ],
    ids=["silu", "tanh", "cubed", "linear"],
)
def test_activations_of_keras_and_of_ones_own(activation, formula):
    layer = gk.layers.FeedForward(10, activation=activation)
    layer.build((None, None, 6))
    spread_weights(layer)
    x = np.random.default_rng(0).normal(size=(2, 3, 6))
    up = x @ np.float64(layer.up.kernel) + np.float64(layer.up.bias)
    expected = formula(up) @ np.float64(layer.down.kernel) + np.float64(layer.down.bias)
    np.testing.assert_allclose(layer(x.astype("float32")), expected, atol=1e-5)
    for made in (layer, gk.layers.TransformerBlock(2, activation=activation)):
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
        assert copy.get_config() == made.get_config()
    copy = gk.layers.FeedForward.from_config(layer.get_config())
    copy.build((None, None, 6))
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(copy(x), layer(x))


def test_the_names_are_those_of_the_config():
    for name in config.ACTIVATIONS:
        assert activations.activation_function(name) is not None
    assert set(activations._FUNCTIONS) == set(config.ACTIVATIONS)


def test_an_initializer_may_be_a_function():
    layer = gk.layers.FeedForward(4, kernel_initializer=lambda shape, dtype=None: np.ones(shape))
    layer.build((None, None, 3))
    assert np.all(np.asarray(layer.up.kernel) == 1)


def test_config_round_trip():
    layer = gk.layers.FeedForward(10, activation="swiglu", use_bias=False)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.get_config() == layer.get_config()


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"intermediate_dim.*-3"):
        gk.layers.FeedForward(-3)
    message = r"`activation` must be one of relu, .* or a callable, got 'no_such'"
    with pytest.raises(ValueError, match=message):
        gk.layers.FeedForward(3, activation="no_such")
