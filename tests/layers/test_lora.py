"""Low-rank adapters of one projection."""

import concurrent.futures
import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from gpt_keras.layers.lora import adapters_disabled
from gpt_keras.layers.projection import Projection

WEIGHTS_ONLY = keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)


def make_projection(rank=3, alpha=6, quantized=False, dtype=None, **kwargs):
    layer = Projection(5, dtype=dtype, bias_initializer="normal", **kwargs)
    layer.build((None, None, 8))
    if quantized:
        layer.quantize("int8", config=WEIGHTS_ONLY)
    if rank:
        layer.enable_lora(rank, alpha)
        layer.lora_kernel_b.assign(np.random.default_rng(1).normal(size=(rank, 5)))
    return layer


def inputs(length=4):
    return np.random.default_rng(0).normal(size=(2, length, 8)).astype("float32")


def test_the_formula():
    layer, x = make_projection(), inputs()
    a, b = np.array(layer.lora_kernel_a), np.array(layer.lora_kernel_b)
    expected = x @ np.array(layer.kernel) + 6 / 3 * (x @ a @ b) + np.array(layer.bias)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)
    assert layer.kernel is layer._kernel  # not a sum


def test_a_single_vector_takes_the_fast_product_and_the_adapter():
    layer = Projection(512)
    layer.build((None, None, 256))
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(np.random.default_rng(1).normal(size=(2, 512)))
    x = np.random.default_rng(0).normal(size=(1, 1, 256)).astype("float32")
    np.testing.assert_allclose(layer(x), layer(np.repeat(x, 2, axis=1))[:, :1], atol=1e-4)


def test_only_the_factors_are_trained():
    layer = make_projection()
    for trainable in (True, False, True):  # a user who freezes and unfreezes a whole model
        layer.trainable = trainable
    names = [variable.name for variable in layer.trainable_variables]
    assert names == ["lora_kernel_a", "lora_kernel_b"]
    layer.remove_lora()
    assert [variable.name for variable in layer.trainable_variables] == ["kernel", "bias"]


def test_no_product_of_the_size_of_the_kernel_is_formed_in_a_step():
    layer = Projection(96, use_bias=False)
    layer.build((None, 64))
    layer.enable_lora(2)

    @tf.function(jit_compile=True)
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, [v.value for v in layer.trainable_variables])

    x = tf.ones((16, 64))
    text = step.experimental_get_compiler_ir(x)(stage="optimized_hlo")
    assert "f32[16,2]" in text
    # The kernel is read; nothing else has its shape.
    made = [line for line in text.splitlines() if "= f32[64,96]" in line or "= f32[96,64]" in line]
    assert all(" parameter(" in line or " copy(" in line or "bitcast" in line for line in made), (
        made
    )


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_merged_equals_unmerged(quantized, dtype):
    layer, x = make_projection(quantized=quantized, dtype=dtype), inputs()
    kernel = np.array(layer._kernel)
    before = np.array(layer(x), "float32")
    layer.merge_lora()
    assert not layer.lora_enabled
    assert not np.array_equal(kernel, layer._kernel)
    difference = np.abs(np.array(layer(x), "float32") - before).max()
    print(dtype, "int8" if quantized else "float", difference)
    # Rounding of the sum to 127 steps a channel, or of the two parts to bfloat16.
    allowed = 0.1 if quantized or dtype == "mixed_bfloat16" else 1e-5
    assert difference <= allowed * np.abs(before).max()
    assert layer._kernel.dtype == ("int8" if quantized else "float32")


def test_int8_keeps_its_kernel_while_the_factors_train():
    layer, x = make_projection(quantized=True), inputs()
    kernel = np.array(layer._kernel)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x) ** 2)
    variables = layer.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    assert len(gradients) == 2
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)
    keras.optimizers.SGD(0.1).apply(gradients, variables)
    np.testing.assert_array_equal(layer._kernel, kernel)
    assert layer._kernel.dtype == "int8"


@pytest.mark.parametrize("quantized", [False, True])
def test_files_keep_kernel_and_factors_apart(quantized):
    layer, other = make_projection(quantized=quantized), make_projection(quantized=quantized)
    store = {}
    layer.save_own_variables(store)
    other.lora_kernel_a.assign(np.ones((8, 3)))
    other.load_own_variables({name: np.array(value) for name, value in store.items()})
    for mine, its in zip(layer.variables, other.variables, strict=True):
        np.testing.assert_array_equal(mine, its)
    np.testing.assert_array_equal(store["0"], layer._kernel)


def test_files_with_and_without_an_adapter():
    adapted, plain = make_projection(), make_projection(rank=None)
    with_adapter, without = {}, {}
    adapted.save_own_variables(with_adapter)
    plain.save_own_variables(without)
    with pytest.raises(ValueError, match=r"LoRA adapter for .* call `enable_lora`"):
        plain.load_own_variables(with_adapter)
    factor = np.array(adapted.lora_kernel_b)
    adapted.load_own_variables(without)
    np.testing.assert_array_equal(adapted.kernel, plain.kernel)
    np.testing.assert_array_equal(adapted.lora_kernel_b, factor)


def test_config_keeps_rank_and_alpha():
    layer = make_projection(rank=3, alpha=6)
    copy = Projection.from_config(layer.get_config())
    copy.build((None, None, 8))
    assert (copy.lora_rank, copy.lora_alpha) == (3, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "`rank` must be"),
        ({"rank": 2.5}, "`rank` must be"),
        ({"rank": 2, "lora_alpha": -1}, "`lora_alpha` must be"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_projection(rank=None).enable_lora(**arguments)


def test_what_cannot_be_adapted_is_refused():
    layer = make_projection()
    with pytest.raises(ValueError, match="already enabled"):
        layer.enable_lora(2)
    with pytest.raises(ValueError, match="quantize the model before `enable_lora`"):
        layer.quantize("int8", config=WEIGHTS_ONLY)


@pytest.mark.parametrize("quantized", [None, "weights", "inputs too"])
def test_a_step_computes_with_and_without_the_adapter(quantized):
    layer, x = Projection(5, bias_initializer="normal"), inputs()
    layer.build((None, None, 8))
    if quantized:
        config = WEIGHTS_ONLY if quantized == "weights" else None
        layer.quantize("int8", config=config or keras.quantizers.Int8QuantizationConfig())
    plain = np.array(layer(x))
    layer.enable_lora(3, b_initializer="ones")
    adapted = np.array(layer(x))

    @tf.function
    def step(x):
        with adapters_disabled():
            without = layer(x)
        return without, layer(x)

    without, with_adapter = step(x)
    np.testing.assert_allclose(without, plain, atol=1e-6)
    np.testing.assert_allclose(with_adapter, adapted, atol=1e-6)
    assert np.abs(adapted - plain).max() > 0.1


def test_adapters_come_back_after_an_error_and_stay_in_other_threads():
    layer = make_projection()
    with contextlib.suppress(KeyError), adapters_disabled():
        assert not layer.lora_enabled
        with concurrent.futures.ThreadPoolExecutor() as pool:
            assert pool.submit(lambda: layer.lora_enabled).result()
        raise KeyError
    assert layer.lora_enabled
