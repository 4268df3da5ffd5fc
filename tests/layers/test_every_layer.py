"""What holds for each layer of `gk.layers`, because it is a Keras layer like any other."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

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
    assert sorted(LAYERS) == sorted(gk.layers.__all__)


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
