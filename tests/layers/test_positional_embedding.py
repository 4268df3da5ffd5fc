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


# Wavelengths and formulas by hand, for the base 10000 and a head of width 8: 6.28, 62.8, 628, 6283.
SCALED = {
    "linear": ({"factor": 4.0}, [4, 4, 4, 4]),
    # The base grows by (2 * 30 / 10 - 1) ** (8 / 6).
    "dynamic": (
        {"factor": 2.0, "original_max_position_embeddings": 10, "sequence_length": 30},
        [5 ** (8 / 6 * i / 4) for i in range(4)],
    ),
    # Turns in 400 positions: 63.7, 6.37, 0.637, 0.0637; (6.3662 - 1) / (10 - 1) = 0.59624.
    "llama3": (
        {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 10.0}
        | {"original_max_position_embeddings": 400},
        [1, 1 / ((1 - 0.59624) / 8 + 0.59624), 8, 8],
    ),
    # Turns are 32 at pair 0.30 and 1 at pair 1.80: rounded, pairs 0 to 2.
    "yarn": (
        {"factor": 4.0, "original_max_position_embeddings": 400},
        [1, 1 / (0.5 / 4 + 0.5), 4, 4],
    ),
    "factors": ({"factors": [1.0, 2.5, 3.0, 8.0]}, [1, 2.5, 3, 8]),
}


@pytest.mark.parametrize("rope_type", SCALED)
def test_scaled_rotation_is_a_slower_one(rope_type):
    keys, divisors = SCALED[rope_type]
    layer = gk.layers.RotaryEmbedding(scaling={"rope_type": rope_type, **keys})
    x = np.random.default_rng(0).normal(size=(2, 3, 50, 8)).astype("float32")
    as_complex = x[..., :4] + 1j * x[..., 4:]
    angles = np.arange(50)[:, None] / (10.0 ** np.arange(4) * np.array(divisors))
    size = 0.1 * np.log(4.0) + 1 if rope_type == "yarn" else 1
    expected = size * as_complex * np.exp(1j * angles)
    np.testing.assert_allclose(layer(x)[..., :4], expected.real, atol=1e-3)
    np.testing.assert_allclose(layer(x)[..., 4:], expected.imag, atol=1e-3)
    copy = gk.layers.RotaryEmbedding.from_config(layer.get_config())
    np.testing.assert_array_equal(copy(x), layer(x))


def test_scaling_far_away_keeps_its_precision():
    # Frequencies are computed in float64: float32 powers are off by 0.004 at position 100,000.
    layer = gk.layers.RotaryEmbedding(5e5, scaling={"rope_type": "linear", "factor": 8.0})
    x = np.zeros((1, 1, 1, 64), "float32")
    x[..., :32] = 1
    cosines = layer(x, positions=np.array([2**17]))[0, 0, 0, :32]
    frequencies = (5e5 ** (-np.arange(32) / 32) / 8).astype("float32").astype("float64")
    np.testing.assert_allclose(cosines, np.cos(2**17 * frequencies), atol=1e-4)


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ("linear", r"`scaling` must be None or a mapping with `rope_type`, got 'linear'"),
        ({"rope_type": "ntk"}, r"`rope_type` must be one of linear, .*got 'ntk'"),
        ({"rope_type": "linear"}, r"unknown \[\], missing \['factor'\]"),
        ({"rope_type": "linear", "factor": 2.0, "truncate": True}, r"unknown \['truncate'\]"),
        ({"rope_type": "linear", "factor": 0}, r"`factor` must be a number above 0, got 0"),
        ({"rope_type": "linear", "factor": None}, r"`factor` must be a number above 0, got None"),
        ({"rope_type": "factors", "factors": "all"}, r"`factors` must be a sequence .*'all'"),
        (
            {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 2.5},
            r"`original_max_position_embeddings` must be an integer of at least 1, got 2\.5",
        ),
        (
            {"rope_type": "llama3", "factor": 2.0, "original_max_position_embeddings": 9}
            | {"low_freq_factor": 4.0, "high_freq_factor": 4.0},
            r"`low_freq_factor` must be below `high_freq_factor`=4\.0, got 4\.0",
        ),
    ],
)
def test_bad_scalings(scaling, message):
    with pytest.raises(ValueError, match=message):
        gk.layers.RotaryEmbedding(scaling=scaling)
