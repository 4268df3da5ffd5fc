"""`GPT` and `LSTMBackbone` where people use them as Keras models like any other."""

import dataclasses
import importlib.util
import inspect
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import tiny_config

import gpt_keras as gk

IDS = np.array([[1, 31, 3], [4, 5, 6]])
NETWORKS = {
    "gpt": lambda **kwargs: gk.GPT(tiny_config(num_layers=1), **kwargs),
    "lstm": lambda **kwargs: gk.LSTMBackbone(32, 1, 8, **kwargs),
}
each_network = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


@each_network
def test_in_a_sequential_model(make):
    network = make()
    expected = keras.ops.softmax(network(IDS))
    for layers in ([network], [keras.Input((None,), dtype="int32"), network]):
        model = keras.Sequential([*layers, keras.layers.Softmax()])
        np.testing.assert_allclose(model(IDS), expected, atol=1e-6)
        np.testing.assert_allclose(model.predict(IDS, verbose=0), expected, atol=1e-6)


@each_network
def test_numbers_that_are_no_ids_are_refused(make):
    with pytest.raises(ValueError, match=r"Token ids must be integers, got float64"):
        make()(IDS + np.float32(0.5))
    model = keras.Sequential([make(dtype="bfloat16"), keras.layers.Softmax()])
    with pytest.raises(ValueError, match=r"got bfloat16.*begin a keras.Sequential with keras.Inp"):
        model(IDS)  # Keras casts to bfloat16, in which 257 is 256
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *model.layers])
    assert model(IDS).shape == (2, 3, 32)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int64", "uint64"])
@each_network
def test_ids_are_of_any_integer_type(make, dtype):
    network = make()
    expected, ids = network(IDS), tf.constant(IDS, dtype)
    np.testing.assert_array_equal(network(IDS.astype(dtype)), expected)
    np.testing.assert_array_equal(network(ids), expected)
    index, starts = tf.constant(0, dtype), tf.zeros(2, dtype)
    logits, _ = network.extend(ids, network.initial_cache(2, 3), index, starts)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@each_network
def test_another_number_of_axes_is_refused(make):
    for ids in (IDS[0], IDS[None]):
        with pytest.raises(ValueError, match=r"must have the shape \(batch, length\), got shape"):
            make()(ids)


@pytest.mark.parametrize("floatx", ["bfloat16", "float16", "float64"])
@each_network
def test_under_another_floatx(make, floatx):
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(floatx)
        network = make()
        logits = network(IDS)
        cached = network.extend(IDS, network.initial_cache(2, 3), 0, np.zeros(2, "int32"))[0]
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy(policy)
    assert network.variables[0].dtype == floatx
    assert logits.dtype == "float32"
    np.testing.assert_allclose(cached, logits, atol=0.01 if "16" in floatx else 1e-6)


def test_layers_and_config_have_the_same_defaults():
    fields = {field.name: field.default for field in dataclasses.fields(gk.GPTConfig)}
    layers = {
        gk.layers.CausalMultiHeadAttention: {"head_dim", "dropout", "use_bias", "use_qkv_bias"}
        | {"use_qk_norm", "norm_epsilon", "causal"},
        gk.layers.TransformerBlock: {"intermediate_dim", "activation", "dropout", "norm"}
        | {"norm_position", "norm_epsilon", "use_bias", "num_key_value_heads"},
        gk.layers.FeedForward: {"activation", "use_bias"},
        gk.layers.MixtureOfExperts: {"router_loss_weight"},
    }
    for layer, names in layers.items():
        parameters = inspect.signature(layer.__init__).parameters
        assert {name: parameters[name].default for name in names} == {
            name: fields[name] for name in names
        }
    base = inspect.signature(gk.layers.RotaryEmbedding.__init__).parameters["base"].default
    assert base == fields["rotary_base"]


@pytest.mark.parametrize(
    "bad",
    [
        {"num_heads": 0},
        {"num_key_value_heads": 3},
        {"intermediate_dim": 2.5},
        {"dropout": 1.0},
        {"norm": "batch_norm"},
        {"norm_position": "sandwich"},
        {"norm_epsilon": 0},
        {"activation": "no_such"},
    ],
    ids=str,
)
def test_layers_and_config_refuse_the_same(bad):
    [name] = bad
    for make in (tiny_config, lambda **kwargs: gk.layers.TransformerBlock(**kwargs)):
        with pytest.raises(ValueError, match=f"`{name}` must be|`num_heads` must be a multiple"):
            make(**{"num_heads": 2, **bad})


def test_rematerialize_is_an_argument_and_is_saved(tmp_path):
    model = gk.GPTCausalLM(tiny_config(), rematerialize=True)
    assert model.backbone.rematerialize
    assert all(block.rematerialize for block in model.backbone.blocks)
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").backbone.rematerialize
    assert gk.GPT.from_config(model.backbone.get_config()).rematerialize
    assert not gk.GPT(tiny_config()).rematerialize
    without = {**model.backbone.get_config()}
    del without["rematerialize"]  # as older files
    assert not gk.GPT.from_config(without).rematerialize


def test_the_positions_of_a_wrapped_network_are_a_limit(character_tokenizer):
    token_ids = keras.Input((None,), dtype="int32")
    embedding = keras.layers.ReversibleEmbedding(32, 8)
    x = gk.layers.PositionalEmbedding(6)(embedding(token_ids))
    model = gk.CausalLM(
        keras.Model(token_ids, embedding(x, reverse=True)), tokenizer=character_tokenizer
    )
    assert model.max_sequence_length == 6
    text = character_tokenizer.decode([1, 2, 3, 4] * 3)
    with pytest.raises(ValueError, match=r"max_sequence_length; got 13"):
        model.score(text)
    with pytest.raises(ValueError, match=r"12 tokens.*max_sequence_length=6"):
        model.predict(np.ones((1, 12), int), verbose=0)
    model.compile(run_eagerly=True)
    assert np.isfinite(model.evaluate([text], verbose=0)[0])  # in pieces of six tokens
    unlimited = gk.CausalLM(keras.Model(token_ids, embedding(embedding(token_ids), reverse=True)))
    assert unlimited.max_sequence_length is None


ON_TORCH = """
import keras, numpy as np
import gpt_keras as gk
assert keras.backend.backend() == "torch"
ids, to_numpy = np.array([[1, 2, 3]]), keras.ops.convert_to_numpy
config = dict(vocabulary_size=33, max_sequence_length=8, num_layers=2, num_heads=2, hidden_dim=8)
modern = dict(position_embedding="rotary", norm="rms_norm", activation="swiglu", num_experts=2)
for network in (
    gk.GPT(gk.GPTConfig(**config)),
    gk.GPT(gk.GPTConfig(**config, **modern)),
    gk.LSTMBackbone(33, 2, 8),
):
    logits = to_numpy(network(ids))
    starts = keras.ops.zeros((1,), "int32")
    cached, _ = network.extend(ids, network.initial_cache(1, 3), 0, starts)
    np.testing.assert_allclose(to_numpy(cached), logits, atol=1e-5)
    copy = type(network).from_config(network.get_config())
    copy.set_weights(network.get_weights())
    np.testing.assert_allclose(to_numpy(copy(ids)), logits, atol=1e-5)
    assert network.count_params() == sum(p.numel() for p in network.parameters() if p.requires_grad)
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_on_the_torch_backend():
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    subprocess.run([sys.executable, "-c", ON_TORCH], env=environment, check=True)
