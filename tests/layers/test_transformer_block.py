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


@keras.saving.register_keras_serializable("tests")
class MeanOfThePast(keras.layers.Layer):
    """An attention of one's own: each token gets the mean of itself and what came before."""

    def call(self, x):
        counts = keras.ops.arange(1, x.shape[1] + 1, dtype="float32")
        return keras.ops.cumsum(x, axis=1) / counts[:, None]

    def initial_cache(self, batch_size, length):
        return (keras.ops.zeros((batch_size, 1, length, 24)),)

    def extend(self, x, cache, index, starts, window=None):
        seen = keras.ops.concatenate([cache[0][:, 0, :index], x], axis=1)
        return self(seen)[:, index:], (x[:, None],)


def test_a_given_attention_takes_its_place():
    attention = gk.layers.CausalMultiHeadAttention(2, head_dim=6, window=2, use_qk_norm=True)
    block = built(num_heads=None, attention=attention, name="block")
    assert block.attention is attention
    x = X + attention(block.attention_norm(X))
    expected = x + block.feed_forward(block.feed_forward_norm(x))
    np.testing.assert_allclose(block(X), expected, atol=1e-6)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(block))
    assert copy.attention.get_config() == attention.get_config()
    copy.build((None, None, 24))
    copy.set_weights(block.get_weights())
    np.testing.assert_array_equal(copy(X), block(X))


def test_an_attention_of_ones_own_runs_saves_and_generates(tmp_path):
    inputs = keras.Input((5, 24))
    model = keras.Model(inputs, gk.layers.TransformerBlock(attention=MeanOfThePast())(inputs))
    block = model.layers[-1]
    expected = model(X)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(X), expected)
    cache, pieces = block.initial_cache(2, 5), []
    for first, last in ((0, 3), (3, 5)):
        y, update = block.extend(X[:, first:last], cache, first, np.zeros(2, "int32"))
        cache = gk.layers.write_cache(cache, update, first)
        pieces.append(y)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), expected, atol=1e-5)


@pytest.mark.parametrize(
    "moved", [{"window": 3}, {"causal": False}, {"head_dim": 8}, {"use_qk_norm": True}], ids=str
)
def test_a_moved_argument_names_its_new_place(moved):
    [(name, value)] = moved.items()
    with pytest.raises(ValueError, match=f"`{name}` must be given to the attention") as caught:
        gk.layers.TransformerBlock(num_heads=2, **moved)
    advice = f"TransformerBlock(attention=CausalMultiHeadAttention(2, {name}={value}))"
    assert advice in str(caught.value)
    layers = {name: getattr(gk.layers, name) for name in gk.layers.__all__}
    assert getattr(eval(advice, layers).attention, name) == value  # the advice works


def test_heads_and_attention_exclude_each_other():
    with pytest.raises(ValueError, match="`num_heads` must be given unless `attention` is"):
        gk.layers.TransformerBlock()
    attention = gk.layers.CausalMultiHeadAttention(2)
    for name in ("num_heads", "num_key_value_heads", "rotary_embedding"):
        with pytest.raises(ValueError, match=f"`{name}` must be None if `attention` is"):
            gk.layers.TransformerBlock(attention=attention, **{name: 2})


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
