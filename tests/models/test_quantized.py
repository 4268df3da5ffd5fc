"""Models that `keras.Model.quantize` made smaller: what they compute, and that they come back."""

import gc
import json
import random
import subprocess
import sys
import warnings

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.saving import serialization_lib
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.cli.models import info

pytestmark = pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")

LLAMA = {
    "num_heads": 4,
    "num_key_value_heads": 2,
    "activation": "swiglu",
    "position_embedding": "rotary",
    "norm": "rms_norm",
    "use_bias": False,
    "tie_embeddings": False,
}
EXPERTS = {"activation": "swiglu", "num_experts": 3, "num_experts_per_token": 2}
CONFIGS = {"gpt2": {}, "llama": LLAMA, "experts": EXPERTS}
CONFIGS = {kind: {"num_layers": 1, **changes} for kind, changes in CONFIGS.items()}
TOKEN_IDS = np.random.default_rng(0).integers(0, 32, (2, 9))


@pytest.fixture(autouse=True)
def no_garbage_is_collected(monkeypatch):
    """Keras does so wherever a weight is replaced, which is slow; see `fast_and_quiet`."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


def weights_only():
    return keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)


def quantized(kind="gpt2", config=None, tokenizer=None, **kwargs):
    model = gk.GPTCausalLM(tiny_config(**CONFIGS[kind]), tokenizer=tokenizer, **kwargs)
    spread_weights(model).quantize(config=config or weights_only())
    return model


def state(model):
    """Paths and dtypes of all weights, whatever their order."""
    return {v.path: keras.backend.standardize_dtype(v.dtype) for v in model.weights}


def rounded(matrix, axis):
    """A matrix of multiples of 1/127 of the largest number in each row or column."""
    step = np.abs(matrix).max(axis, keepdims=True) / 127
    return np.round(matrix / step) * step


@pytest.mark.parametrize("kind", CONFIGS)
def test_weights_only_is_rounding_to_127_steps_a_channel(kind):
    random.seed(0)
    exact = spread_weights(gk.GPTCausalLM(tiny_config(**CONFIGS[kind])))
    random.seed(0)
    model = quantized(kind)
    before = np.array(exact(TOKEN_IDS))
    for variable in exact.variables:
        if "embeddings" in variable.path.split("/") and "position" not in variable.path:
            variable.assign(rounded(np.array(variable), axis=-1))
        elif "reverse_embeddings" in variable.path or (
            "kernel" in variable.path and "router" not in variable.path
        ):
            variable.assign(rounded(np.array(variable), axis=0))
    np.testing.assert_allclose(model(TOKEN_IDS), exact(TOKEN_IDS), atol=1e-4)
    assert np.abs(before - exact(TOKEN_IDS)).max() > 0.01


@pytest.mark.parametrize("kind", CONFIGS)
def test_all_matrices_but_the_routers_are_int8(kind):
    float32 = {path for path, dtype in state(quantized(kind)).items() if dtype != "int8"}
    matrices = ("kernel", "embeddings", "reverse_embeddings")
    left = {path for path in float32 if path.split("/")[-1] in matrices}
    positions = set() if kind == "llama" else {"position_embedding/embeddings"}
    routers = {"block_0/feed_forward/router/kernel"}
    assert left == positions | (routers if kind == "experts" else set())


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("gpt2", weights_only()),
        ("llama", weights_only()),
        ("experts", weights_only()),
        ("gpt2", keras.quantizers.Int8QuantizationConfig()),
        ("gpt2", keras.quantizers.Int4QuantizationConfig(block_size=8)),
    ],
    ids=["gpt2", "llama", "experts", "activations", "int4"],
)
def test_comes_back_the_same(kind, config, tmp_path):
    model = quantized(kind, config)
    expected = np.array(model(TOKEN_IDS))
    model.save(tmp_path / "model.keras")
    model.save_to_preset(tmp_path / "preset")
    model.save_weights(tmp_path / "model.weights.h5")
    copies = [
        keras.saving.load_model(tmp_path / "model.keras"),
        gk.GPTCausalLM.from_preset(tmp_path / "preset"),
        gk.CausalLM.from_preset(tmp_path / "model.keras"),
        type(model).from_config(model.get_config()),
    ]
    copies[-1].load_weights(tmp_path / "model.weights.h5")
    for copy in copies:
        assert state(copy) == state(model)
        np.testing.assert_array_equal(copy(TOKEN_IDS), expected)
    assert json.dumps(copies[0].get_config()) == json.dumps(model.get_config())


def test_a_part_of_a_model_may_be_quantized(tmp_path):
    model = spread_weights(gk.GPTCausalLM(tiny_config(**CONFIGS["llama"])))
    model.quantize("int8", filters="up|down")
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert state(copy) == state(model)
    np.testing.assert_array_equal(copy(TOKEN_IDS), model(TOKEN_IDS))
    # And then the rest of the copy, in another way.
    copy.quantize(config=weights_only(), filters="query|token_embedding")
    copy.save_to_preset(tmp_path / "preset")
    again = gk.CausalLM.from_preset(tmp_path / "preset")
    assert state(again) == state(copy) != state(model)
    np.testing.assert_array_equal(again(TOKEN_IDS), copy(TOKEN_IDS))


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16"])
def test_what_is_not_quantized_keeps_its_dtype(dtype, tmp_path):
    model = quantized(dtype=dtype)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert state(copy) == state(model)
    assert set(state(copy).values()) == {"int8", dtype if dtype == "bfloat16" else "float32"}
    assert copy.dtype_policy.name == dtype
    np.testing.assert_array_equal(copy(TOKEN_IDS), model(TOKEN_IDS))


def test_backbones_alone_come_back(tmp_path):
    backbones = [
        gk.GPT(tiny_config(num_layers=1), residual=gk.layers.GRUGate()),
        gk.GPT(tiny_config(num_layers=1), name="other"),
        gk.LSTMBackbone(32, num_layers=1, hidden_dim=8, tie_embeddings=False),
    ]
    for number, gpt in enumerate(backbones):
        spread_weights(gpt).quantize(config=weights_only())
        gpt.save(tmp_path / f"{number}.keras")
        copy = keras.saving.load_model(tmp_path / f"{number}.keras")
        assert state(copy) == state(gpt)
        assert "int8" in state(copy).values()
        np.testing.assert_array_equal(copy(TOKEN_IDS), gpt(TOKEN_IDS))
        language_model = gk.CausalLM(gpt)
        language_model.save(tmp_path / f"lm_{number}.keras")
        copy = keras.saving.load_model(tmp_path / f"lm_{number}.keras")
        np.testing.assert_array_equal(copy(TOKEN_IDS), gpt(TOKEN_IDS))


def test_layers_in_a_model_of_ones_own_come_back(tmp_path):
    inputs = keras.Input((None, 16))
    rotary = gk.layers.RotaryEmbedding()
    experts = gk.layers.MixtureOfExperts(2, 1, 8, name="experts")
    experts.build((None, None, 16))  # not inside the block, so that its path is another one
    x = gk.layers.TransformerBlock(2, rotary_embedding=rotary, feed_forward=experts)(inputs)
    banded = gk.layers.CausalMultiHeadAttention(2, window=4)
    x = gk.layers.TransformerBlock(attention=banded, residual=gk.layers.GRUGate(), name="query")(x)
    x = gk.layers.CausalMultiHeadAttention(2)(x)
    x = gk.layers.FeedForward(8, name="up")(x)
    model = spread_weights(keras.Model(inputs, x))
    model.quantize(config=weights_only())
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    values = np.random.default_rng(0).normal(size=(2, 5, 16)).astype("float32")
    assert list(state(copy).values()) == list(state(model).values())
    np.testing.assert_array_equal(copy(values), model(values))


def test_two_layers_are_never_taken_for_one():
    # Keras recognizes a shared object by its `id`, and the `id` of a freed object is used again.
    layers = [gk.layers.FeedForward(8) for _ in range(2)]
    for layer in layers:
        layer.build((None, None, 8))
    layers[0].up.quantize(config=weights_only())
    layers[1].down.quantize(config=weights_only())
    with serialization_lib.ObjectSharingScope():
        policies = [layer.get_config()["dtype"] for layer in 100 * layers]
    assert {policy["class_name"] for policy in policies} == {"QuantizedSublayers"}
    assert not any("shared_object_id" in policy for policy in policies)


def test_the_head_of_a_classifier_stays_as_it_is(tmp_path):
    gpt = gk.GPT(tiny_config(num_layers=1))
    classifier = gk.GPTClassifier(gpt, num_classes=3, special_ids=(29, 30, 31))
    classifier.quantize(config=weights_only())
    assert classifier.head.kernel.dtype == "float32"
    classifier.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert state(copy) == state(classifier)
    np.testing.assert_array_equal(copy(TOKEN_IDS), classifier(TOKEN_IDS))


def test_files_are_a_quarter(tmp_path):
    config = tiny_config(vocabulary_size=2048, hidden_dim=128)
    model = gk.GPTCausalLM(config)
    model.save(tmp_path / "float32.keras")
    model.quantize(config=weights_only())
    model.save(tmp_path / "int8.keras")
    model.save_to_preset(tmp_path / "preset")
    before = (tmp_path / "float32.keras").stat().st_size
    weights = tmp_path / "preset" / "model.weights.h5"
    assert (tmp_path / "int8.keras").stat().st_size < 0.32 * before
    assert weights.stat().st_size < 0.32 * before
    with h5py.File(weights) as file:
        arrays = {}
        file.visititems(lambda name, item: arrays.update({name: item}))
        embeddings = [a for a in arrays.values() if getattr(a, "shape", None) == (2048, 128)]
        assert [array.dtype for array in embeddings] == [np.dtype("int8")]
    # How they were quantized is said once, not for each layer.
    policy = json.loads((tmp_path / "preset" / "config.json").read_text())["model"]["config"]
    (group,) = policy["dtype"]["config"]["quantized"]
    assert len(group["layers"]) == 1 + 2 * 6


@pytest.mark.slow
@pytest.mark.xla
def test_generates(character_tokenizer, tmp_path):
    model = quantized("llama", tokenizer=character_tokenizer)
    model.generate("a", max_new_tokens=1)  # compiled before it is quantized again, and saved
    settings = {"max_new_tokens": 12, "temperature": 0}
    text = model.generate("hello", **settings)
    assert "hello" + "".join(model.stream("hello", **settings)) == text
    # What `generate` says is what calls of the whole sequence say.
    ids = character_tokenizer.encode("hello")
    for _ in range(12):
        logits = model(np.array([ids]))[0, -1, : character_tokenizer.vocabulary_size]
        ids.append(int(np.argmax(logits)))
    assert character_tokenizer.decode(ids).startswith(text)
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").generate("hello", **settings) == text


@pytest.mark.slow
def test_generates_anew_once_it_is_quantized(character_tokenizer):
    config = tiny_config(num_layers=1)
    model = spread_weights(gk.GPTCausalLM(config, tokenizer=character_tokenizer))
    model.generate("hello", max_new_tokens=2, temperature=0)
    model.quantize(config=keras.quantizers.Int4QuantizationConfig(block_size=None))
    fresh = gk.GPTCausalLM.from_config(model.get_config())
    fresh.tokenizer = character_tokenizer
    fresh.set_weights(model.get_weights())
    settings = {"max_new_tokens": 20, "temperature": 0}
    assert model.generate("hello", **settings) == fresh.generate("hello", **settings)


def test_no_garbage_is_collected_for_each_weight(tmp_path, monkeypatch):
    """Keras does so wherever a weight is replaced: more than a minute for 30 layers."""
    seen = []
    monkeypatch.setattr(gc, "collect", lambda: seen.append(gc.get_freeze_count()))
    model = quantized("llama")
    assert len(seen) == 9  # a table, its reverse, and seven projections
    assert min(seen) > 100_000
    assert gc.get_freeze_count() == 0
    model.save(tmp_path / "model.keras")
    seen.clear()
    keras.saving.load_model(tmp_path / "model.keras")
    assert len(seen) <= 1  # made quantized, not quantized again


def test_nothing_normal_is_warned_of():
    model = gk.GPTCausalLM(tiny_config(num_layers=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.quantize(config=weights_only())


def test_more_token_ids_are_refused():
    with pytest.raises(ValueError, match=r"'gpt' is quantized.*`vocabulary_size` of 40 first"):
        quantized().backbone.with_vocabulary_size(40)


def test_other_formats_refuse_it(tmp_path):
    pytest.importorskip("gguf")
    model = quantized("llama")
    with pytest.raises(ValueError, match=r"`model` is quantized.*before"):
        gk.convert.to_huggingface(model, tmp_path / "folder")
    with pytest.raises(ValueError, match=r"`model` is quantized.*before"):
        gk.convert.to_gguf(model, tmp_path / "model.gguf")
    assert list(tmp_path.iterdir()) == []


def test_sizes_are_those_of_the_config(tmp_path, capsys):
    model = quantized("llama")
    num_scales = sum(v.shape[0] for v in model.variables if v.path.endswith("_scale"))
    assert model.count_params() == model.config.num_parameters + num_scales
    model.summary()
    model.save_to_preset(tmp_path / "preset")
    info(str(tmp_path / "preset"))
    assert f"{model.config.num_parameters:,}" in capsys.readouterr().out


@pytest.mark.slow
def test_the_savedmodel_says_the_same(character_tokenizer, tmp_path):
    model = quantized("llama", tokenizer=character_tokenizer)
    model.export(tmp_path / "1", verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "1"))
    output = exported.generate(text=["hello"], max_new_tokens=12, temperature=0.0)
    expected = model.generate(["hello"], max_new_tokens=12, temperature=0)
    assert [text.decode() for text in output["text"].numpy()] == expected


@pytest.mark.slow
def test_a_fresh_process_loads_it(character_tokenizer, tmp_path):
    kinds = ("llama", "experts")
    models = {kind: quantized(kind, tokenizer=character_tokenizer) for kind in kinds}
    for kind, model in models.items():
        model.save(tmp_path / f"{kind}.keras")
        model.save_to_preset(tmp_path / f"{kind}_preset")
    np.save(tmp_path / "token_ids.npy", TOKEN_IDS)
    program = """
import sys
import numpy as np
import keras
import gpt_keras
from gpt_keras.generation.compiled import Generators
token_ids = np.load("token_ids.npy")
for kind in sys.argv[1:]:
    for number, model in enumerate((
        keras.saving.load_model(f"{kind}.keras"),
        gpt_keras.GPTCausalLM.from_preset(f"{kind}_preset"),
    )):
        Generators.__init__.__defaults__ = (number == 0,)  # with XLA and without
        np.save(f"{kind}_{number}.npy", model(token_ids))
        print(model.generate("hello", max_new_tokens=8, temperature=0))
"""
    command = [sys.executable, "-c", program, *kinds]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    texts = []
    for kind, model in models.items():
        texts += [model.generate("hello", max_new_tokens=8, temperature=0)] * 2
        for number in range(2):
            logits = np.load(tmp_path / f"{kind}_{number}.npy")
            np.testing.assert_array_equal(logits, model(TOKEN_IDS))
    assert run.stdout.splitlines() == texts
