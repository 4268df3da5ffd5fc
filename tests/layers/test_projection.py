"""Products of one vector: other code than that of many, and the same numbers."""

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.layers.projection import Projection
from gpt_keras.layers.xla_cpu import product_of_one_vector

WEIGHTS_ONLY = keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)


@given(
    quarter=st.integers(1, 50),
    num_outputs=st.integers(1, 40),
    num_ones=st.integers(0, 3),
    dtype=st.sampled_from(["float32", ml_dtypes.bfloat16, "int8"]),
    seed=st.integers(0, 9),
)
def test_product_is_numpys(quarter, num_outputs, num_ones, dtype, seed):
    rng = np.random.default_rng(seed)
    vector = rng.normal(size=(1,) * num_ones + (4 * quarter,)).astype("float32")
    matrix = (10 * rng.normal(size=(4 * quarter, num_outputs))).astype(dtype)
    found = product_of_one_vector(tf.constant(vector), tf.constant(matrix))
    assert found.dtype == tf.float32
    expected = vector.astype("float64") @ matrix.astype("float64")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("jit_compile", [True, False])
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "mixed_bfloat16", "int8", "lora"])
def test_one_vector_is_the_first_of_many(kind, jit_compile):
    layer = Projection(256, dtype="float32" if kind in ("int8", "lora") else kind)
    layer.build((None, None, 256))
    layer.bias.assign(np.linspace(-1, 1, 256))
    if kind == "int8":
        layer.quantize("int8", config=WEIGHTS_ONLY)
    if kind == "lora":
        layer.enable_lora(4)
        layer.lora_kernel_b.assign(np.random.default_rng(0).normal(size=(4, 256)))
    vectors = np.random.default_rng(1).normal(size=(1, 5, 256)).astype("float32")
    call = tf.function(layer, jit_compile=jit_compile)
    one, many = call(tf.constant(vectors[:, :1])), call(tf.constant(vectors))
    assert one.dtype == many.dtype == layer.compute_dtype
    atol = 0.03 if "bfloat16" in kind else 1e-5
    np.testing.assert_allclose(
        tf.cast(one, "float32"), tf.cast(many[:, :1], "float32"), rtol=1e-2, atol=atol
    )


def test_gradients_of_one_vector_are_those_of_dense():
    vector = tf.constant(np.random.default_rng(0).normal(size=(1, 256)).astype("float32"))
    layers = Projection(256), keras.layers.Dense(256)
    gradients = []
    for layer in layers:
        layer.build((None, 256))
        layer.kernel.assign(layers[0].kernel)
        with tf.GradientTape() as tape:
            tape.watch(vector)
            loss = tf.reduce_sum(tf.sin(layer(vector)))
        gradients.append(tape.gradient(loss, [vector, layer.kernel.value, layer.bias.value]))
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.xla
@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_one_prompt_goes_on_as_it_does_among_others(kind, character_tokenizer, tmp_path):
    """With projections large enough for the product of one vector, also in a SavedModel."""
    config = tiny_config(hidden_dim=256, num_layers=1)
    model = spread_weights(gk.GPTCausalLM(config, tokenizer=character_tokenizer))
    if kind == "int8":
        model.quantize(config=WEIGHTS_ONLY)
    prompts, settings = ["hello", "he", "the lot"], {"max_new_tokens": 12, "temperature": 0}
    texts = model.generate(prompts, **settings)
    assert [model.generate(prompt, **settings) for prompt in prompts] == texts
    assert ["".join([p, *model.stream(p, **settings)]) for p in prompts] == texts
    model.export(tmp_path / "1", verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "1"))
    for given_prompts in (prompts, *([prompt] for prompt in prompts)):
        output = exported.generate(text=given_prompts, max_new_tokens=12, temperature=0.0)
        expected = [texts[prompts.index(prompt)] for prompt in given_prompts]
        assert [text.decode() for text in output["text"].numpy()] == expected
