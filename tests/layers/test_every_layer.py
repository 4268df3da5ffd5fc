"""What holds for each layer of `gk.layers`, because it is a Keras layer like any other."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights

import gpt_keras as gk

LAYERS = {
    "CausalMultiHeadAttention": lambda **kwargs: gk.layers.CausalMultiHeadAttention(
        2, rotary_embedding=gk.layers.RotaryEmbedding(), use_qk_norm=True, **kwargs
    ),
    "FeedForward": lambda **kwargs: gk.layers.FeedForward(16, activation="swiglu", **kwargs),
    "GRUGate": lambda **kwargs: gk.layers.GRUGate(**kwargs),
    "MixtureOfExperts": lambda **kwargs: gk.layers.MixtureOfExperts(3, 2, 8, **kwargs),
    "PositionalEmbedding": lambda **kwargs: gk.layers.PositionalEmbedding(8, **kwargs),
    "RotaryEmbedding": lambda **kwargs: gk.layers.RotaryEmbedding(**kwargs),
    "SinusoidalPositionalEncoding": lambda **kwargs: gk.layers.SinusoidalPositionalEncoding(
        **kwargs
    ),
    "TransformerBlock": lambda **kwargs: gk.layers.TransformerBlock(2, norm="rms_norm", **kwargs),
}
WITH_KERNELS = ("CausalMultiHeadAttention", "FeedForward", "GRUGate", "MixtureOfExperts")


def inputs(name, dtype="float32"):
    shape = (2, 2, 5, 8) if name == "RotaryEmbedding" else (2, 5, 8)
    x = np.random.default_rng(0).normal(size=shape)
    return [keras.ops.cast(x, dtype)] * (2 if name == "GRUGate" else 1)


def test_all_layers_are_here():
    assert sorted(LAYERS) == sorted(name for name in gk.layers.__all__ if name[0].isupper())


@pytest.mark.parametrize("name", LAYERS)
def test_its_signatures_are_those_of_keras(name):
    layer = LAYERS[name]()
    shapes = ["x_shape", "y_shape"] if name == "GRUGate" else ["input_shape"]
    for method in (type(layer).build, layer.compute_output_shape):
        parameters = list(inspect.signature(method).parameters)
        assert [p for p in parameters if p != "self"] == shapes
    x = inputs(name)
    assert layer.compute_output_shape(*[tuple(part.shape) for part in x]) == layer(*x).shape


@pytest.mark.parametrize("name", LAYERS)
def test_a_subclassed_model_has_a_summary(name):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.mine = LAYERS[name]()

        def call(self, x):
            return self.mine(*[x] * len(inputs(name)))

    model, lines = Model(), []
    model(inputs(name)[0])
    model.summary(print_fn=lines.append)
    assert str(tuple(inputs(name)[0].shape)) in "".join(map(str, lines))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", LAYERS)
def test_a_mask_passes_through(name):
    x = inputs(name)
    mask = tf.constant(np.arange(5) < [[5], [3]])
    x[0]._keras_mask = mask
    y = LAYERS[name]()(*x)
    np.testing.assert_array_equal(y._keras_mask, mask)


@pytest.mark.parametrize("name", sorted({*LAYERS} - {"FeedForward", "GRUGate"}))
def test_another_number_of_axes_is_refused(name):
    axes = r"\(batch, heads, length, head_dim\)" if "Rotary" in name else r"\(batch, length, hid"
    message = rf"The input must have the shape {axes}.*, got shape \(5, 8\)"
    layer = LAYERS[name]()
    with pytest.raises(ValueError, match=message):
        layer(np.zeros((5, 8), "float32"))
    layer(*inputs(name))
    with pytest.raises(ValueError, match=message):
        layer(np.zeros((5, 8), "float32"))


@pytest.mark.parametrize("name", [*WITH_KERNELS, "TransformerBlock"])
def test_kernels_take_a_regularizer(name):
    layer = LAYERS[name](kernel_regularizer=keras.regularizers.L2(0.5))
    layer(*inputs(name))
    kernels = [np.float64(v) for v in layer.trainable_variables if v.path.endswith("kernel")]
    assert len(kernels) > 1
    expected = sum(0.5 * (kernel**2).sum() for kernel in kernels)
    assert float(sum(layer.losses)) == pytest.approx(expected, rel=1e-5)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.get_config() == layer.get_config()
    assert "L2" in str(copy.get_config()["kernel_regularizer"])


@pytest.fixture
def floatx(request):
    before, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(request.param)
    keras.config.set_dtype_policy(request.param)  # as it is if nothing was made before
    yield request.param
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize("floatx", ["bfloat16", "float16", "float64"], indirect=True)
@pytest.mark.parametrize("name", LAYERS)
def test_it_computes_in_the_dtype_of_floatx(name, floatx):
    layer = LAYERS[name]()
    x = inputs(name, floatx)
    y = layer(*x)
    assert keras.backend.standardize_dtype(y.dtype) == floatx
    if name == "TransformerBlock":
        tf.function(lambda x: layer(x, training=True), jit_compile=True)(*x)
    exact = LAYERS[name](dtype="float32")
    exact(*inputs(name))
    for ours, theirs in zip(exact.variables, layer.variables, strict=True):
        ours.assign(keras.ops.cast(theirs, ours.dtype))
    tolerance = {"bfloat16": 2**-6, "float16": 2**-9, "float64": 1e-5}[floatx]
    expected = keras.ops.convert_to_numpy(exact(*inputs(name)))
    y = keras.ops.convert_to_numpy(keras.ops.cast(y, "float32"))
    np.testing.assert_allclose(y, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.filterwarnings("error:.*mask")
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("rematerialize", [True, False])
def test_padding_of_a_masked_embedding_reaches_attention_and_loss(causal, rematerialize):
    token_ids = keras.Input((None,), dtype="int32")
    embedding = keras.layers.Embedding(8, 16, mask_zero=True)
    x = gk.layers.PositionalEmbedding(8)(embedding(token_ids))
    x = gk.layers.TransformerBlock(
        attention=gk.layers.CausalMultiHeadAttention(2, causal=causal),
        norm="rms_norm",
        residual=gk.layers.GRUGate(),
        rematerialize=rematerialize,
    )(x)
    model = spread_weights(keras.Model(token_ids, keras.layers.Dense(3)(x)))
    ids, classes = np.array([[1, 2, 3, 4, 5], [4, 2, 1, 0, 0]]), np.array([[0, 1, 2, 0, 1]] * 2)
    is_text = ids > 0
    logits = np.float64(model(ids, training=True))
    alone = model(ids[1:, :3])
    np.testing.assert_allclose(logits[1, :3], alone[0], atol=1e-5)  # padding is not seen

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, run_eagerly=True)
    chosen = np.take_along_axis(logits, classes[..., None], axis=-1)[..., 0]
    losses = np.log(np.exp(logits).sum(axis=-1)) - chosen
    expected = losses[is_text].mean()
    assert model.evaluate(ids, classes, verbose=0) == pytest.approx(expected, rel=1e-4)


def test_an_explicit_padding_mask_replaces_the_implicit_one():
    layer = gk.layers.CausalMultiHeadAttention(2, causal=False)
    [x] = inputs("CausalMultiHeadAttention")
    explicit = np.arange(5) < [[2], [4]]
    expected = layer(x, padding_mask=explicit)
    x._keras_mask = tf.constant(np.arange(5) < [[5], [1]])
    np.testing.assert_array_equal(layer(x, padding_mask=explicit), expected)
    assert not np.allclose(layer(x), expected)
    weights = layer.attention_weights(x)  # by the implicit mask
    assert np.all(weights[1, :, :, 1:] == 0)
    assert np.all(weights[0] > 0)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64", "uint16"])
def test_positions_are_of_any_integer_type(dtype):
    positions = np.array([[3, 1, 0, 2, 4]], dtype)
    for name in ("PositionalEmbedding", "SinusoidalPositionalEncoding", "RotaryEmbedding"):
        layer, x = LAYERS[name](), inputs(name)
        expected = layer(*x, positions=positions.astype("int32"))
        np.testing.assert_array_equal(layer(*x, positions=positions), expected)
    attention, [x] = LAYERS["CausalMultiHeadAttention"](), inputs("CausalMultiHeadAttention")
    expected, index, starts = attention(x), tf.constant(0, dtype), tf.zeros(2, dtype)
    y, _ = attention.extend(x, attention.initial_cache(2, 5), index, starts)
    np.testing.assert_allclose(y, expected, atol=1e-6)
