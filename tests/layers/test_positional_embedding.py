import keras
import numpy as np
import pytest

import gpt_keras as gk


def test_learned_positions_are_added():
    layer = gk.layers.PositionalEmbedding(max_sequence_length=6)
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    vectors = layer(x) - x
    np.testing.assert_allclose(vectors[0], layer.embeddings[:4], atol=1e-6)
    chosen = layer(x, positions=np.array([[5, 4, 0, 0], [1, 2, 3, 4]])) - x
    np.testing.assert_allclose(chosen[0, :2], np.asarray(layer.embeddings)[[5, 4]], atol=1e-6)


def test_learned_positions_have_a_last_one():
    layer = gk.layers.PositionalEmbedding(max_sequence_length=6)
    with pytest.raises(ValueError, match=r"7 tokens.*max_sequence_length`=6"):
        layer(np.zeros((1, 7, 2)))


@pytest.mark.parametrize("base", [10000.0, 100.0])
def test_sinusoids_equal_the_formula(base):
    encoding = gk.layers.SinusoidalPositionalEncoding(base)(np.zeros((1, 7, 6)))[0]
    for position in range(7):
        for i in range(3):
            angle = position / base ** (2 * i / 6)
            np.testing.assert_allclose(encoding[position, 2 * i], np.sin(angle), atol=1e-5)
            np.testing.assert_allclose(encoding[position, 2 * i + 1], np.cos(angle), atol=1e-5)


def test_sinusoids_of_given_positions():
    layer = gk.layers.SinusoidalPositionalEncoding()
    whole = layer(np.zeros((1, 9, 4)))[0]
    chosen = layer(np.zeros((2, 2, 4)), positions=np.array([[3, 8], [0, 1]]))
    np.testing.assert_allclose(chosen[0], np.asarray(whole)[[3, 8]], atol=1e-6)


def test_rotation_equals_multiplication_of_complex_numbers():
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 8)).astype("float32")
    rotated = gk.layers.RotaryEmbedding(base=100.0)(x).numpy()
    as_complex = x[..., :4] + 1j * x[..., 4:]
    angles = np.arange(5)[:, None] / 100.0 ** (np.arange(4) / 4)
    expected = as_complex * np.exp(1j * angles)
    np.testing.assert_allclose(rotated[..., :4], expected.real, atol=1e-5)
    np.testing.assert_allclose(rotated[..., 4:], expected.imag, atol=1e-5)


def test_rotary_products_depend_on_distance_alone():
    rotary = gk.layers.RotaryEmbedding()
    query, key = np.random.default_rng(0).normal(size=(2, 1, 1, 1, 8)).astype("float32")

    def product(i, j):
        turned = rotary(query, positions=np.array([i])), rotary(key, positions=np.array([j]))
        return float(np.sum(turned[0].numpy() * turned[1].numpy()))

    assert product(7, 3) == pytest.approx(product(104, 100), abs=1e-4)
    assert product(7, 3) != pytest.approx(product(7, 4), abs=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        gk.layers.PositionalEmbedding(8),
        gk.layers.SinusoidalPositionalEncoding(50.0),
        gk.layers.RotaryEmbedding(50.0),
    ],
    ids=lambda layer: layer.name,
)
def test_config_round_trip(layer):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (gk.layers.SinusoidalPositionalEncoding(), (2, 3, 5)),
        (gk.layers.RotaryEmbedding(), (1, 2, 3, 5)),
    ],
)
def test_odd_widths_are_refused(layer, shape):
    with pytest.raises(ValueError, match=r"even.*5"):
        layer(np.zeros(shape))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"max_sequence_length.*0"):
        gk.layers.PositionalEmbedding(0)
    with pytest.raises(ValueError, match=r"base.*-1"):
        gk.layers.SinusoidalPositionalEncoding(-1)
