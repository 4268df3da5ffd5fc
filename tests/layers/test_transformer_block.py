import keras
import numpy as np
import pytest
from tiny_models import spread_weights

import gpt_keras as gk


def built(**kwargs):
    block = gk.layers.TransformerBlock(**{"num_heads": 4, **kwargs})
    block.build((None, None, 24))
    return spread_weights(block)


X = np.random.default_rng(0).normal(size=(2, 5, 24)).astype("float32")


def test_pre_norm_equals_its_equation():
    block = built()
    x = X + block.attention(block.attention_norm(X))
    expected = x + block.feed_forward(block.feed_forward_norm(x))
    np.testing.assert_allclose(block(X), expected, atol=1e-6)


def test_post_norm_equals_its_equation():
    block = built(norm_position="post")
    x = block.attention_norm(X + block.attention(X))
    expected = block.feed_forward_norm(x + block.feed_forward(x))
    np.testing.assert_allclose(block(X), expected, atol=1e-6)


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_norms_equal_their_formulas(norm):
    block = built(norm=norm, norm_epsilon=1e-3)
    x = np.float64(X)
    if norm == "layer_norm":
        x = x - x.mean(-1, keepdims=True)
    scaled = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-3)
    layer = block.attention_norm
    if norm == "layer_norm":
        expected = scaled * np.asarray(layer.gamma) + np.asarray(layer.beta)
    else:
        expected = scaled * np.asarray(layer.scale)
    np.testing.assert_allclose(layer(X), expected, atol=1e-5)


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_norms_compute_in_float32_under_mixed_precision(norm):
    block = built(norm=norm, dtype="mixed_float16")
    # The squares of these overflow float16, whose largest number is 65,504.
    y = block.attention_norm(300 * X).numpy()
    assert np.isfinite(y).all()
    exact = built(norm=norm).attention_norm(300 * X).numpy()
    np.testing.assert_allclose(y, exact, atol=0.05)


def test_a_given_feed_forward_takes_its_place():
    block = built(feed_forward=keras.layers.Dense(24, name="mine"))
    assert block.feed_forward.name == "mine"
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(block))
    copy.set_weights(block.get_weights())
    np.testing.assert_array_equal(copy(X), block(X))


def test_config_round_trip():
    block = built(
        num_key_value_heads=2,
        activation="swiglu",
        norm="rms_norm",
        norm_position="post",
        use_bias=False,
        rotary_embedding=gk.layers.RotaryEmbedding(),
    )
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(block))
    assert copy.get_config() == block.get_config()


def test_dropout_acts_on_both_sub_layers_in_training_only():
    block = built(dropout=0.5)
    np.testing.assert_array_equal(block(X), block(X))
    assert not np.allclose(block(X, training=True), block(X, training=True))


def test_it_is_a_layer_like_any_other():
    inputs = keras.Input((None, 24))
    outputs = gk.layers.TransformerBlock(num_heads=3)(
        gk.layers.TransformerBlock(num_heads=2)(inputs)
    )
    model = keras.Model(inputs, outputs)
    assert model(X).shape == (2, 5, 24)
    assert keras.models.clone_model(model).count_params() == model.count_params()


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"norm_position.*'sandwich'"):
        gk.layers.TransformerBlock(num_heads=2, norm_position="sandwich")
