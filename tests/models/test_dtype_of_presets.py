"""Models loaded in another dtype than the one they were saved in."""

import keras
import ml_dtypes
import numpy as np
import pytest
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk

TOKEN_IDS = np.random.default_rng(0).integers(0, 32, (2, 9))
FORMS = ["preset", "model.keras", "huggingface", "model.gguf", "causal_lm"]


@pytest.fixture(scope="module")
def folder(character_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    config = tiny_config(num_layers=1)
    model = spread_weights(gk.GPTCausalLM(config, tokenizer=character_tokenizer))
    model.save_to_preset(folder / "preset")
    model.save(folder / "model.keras")
    gk.convert.to_huggingface(model, folder / "huggingface")
    spread_weights(gk.CausalLM(gk.GPT(config))).save_to_preset(folder / "causal_lm")
    gk.CausalLM(gk.LSTMBackbone(32, 1, 8)).save(folder / "lstm.keras")
    model.tokenizer = None
    gk.convert.to_gguf(model, folder / "model.gguf", dtype="f32")
    return folder


def dtypes(model):
    return {keras.backend.standardize_dtype(v.dtype) for v in model.weights}


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_rounded_and_logits_are_float32(form, folder):
    source = folder / form
    exact = gk.CausalLM.from_preset(source)
    model = gk.CausalLM.from_preset(source, dtype="bfloat16")
    assert type(model) is type(exact)
    assert dtypes(exact) == {"float32"}
    assert dtypes(model) == {"bfloat16"}
    ours, theirs = (
        {v.path: keras.ops.convert_to_numpy(v) for v in m.weights} for m in (model, exact)
    )
    assert ours.keys() == theirs.keys()
    for path, values in theirs.items():
        np.testing.assert_array_equal(ours[path], values.astype(ml_dtypes.bfloat16))
    logits = np.array(model(TOKEN_IDS))
    assert logits.dtype == np.float32
    before = np.array(exact(TOKEN_IDS))
    np.testing.assert_allclose(logits, before, atol=0.05 * np.abs(before).max())
    assert not np.array_equal(logits, before)
    texts = [m.tokenizer and m.tokenizer.decode([0, 1, 2]) for m in (model, exact)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("form", ["preset", "huggingface", "lstm.keras"])
def test_mixed_policies_keep_float32_weights(form, folder):
    model = gk.CausalLM.from_preset(folder / form, dtype="mixed_bfloat16")
    assert dtypes(model) == {"float32"}
    policy = keras.DTypePolicy("mixed_bfloat16")
    assert model.dtype_policy == model.backbone.token_embedding.dtype_policy == policy
    assert model(TOKEN_IDS).dtype == "float32"


def test_is_saved_in_its_new_dtype(folder, tmp_path):
    model = gk.GPTCausalLM.from_preset(folder / "preset", dtype="bfloat16")
    model.save_to_preset(tmp_path / "preset")
    model.save(tmp_path / "model.keras")
    for form in ("preset", "model.keras"):
        copy = gk.GPTCausalLM.from_preset(tmp_path / form)
        assert dtypes(copy) == {"bfloat16"}
        np.testing.assert_array_equal(copy(TOKEN_IDS), model(TOKEN_IDS))


def test_a_file_of_a_compiled_model_is_read(folder, tmp_path):
    model = gk.GPTCausalLM.from_preset(folder / "preset")
    model.compile(jit_compile=False)
    model.save(tmp_path / "model.keras")
    copy = gk.GPTCausalLM.from_preset(tmp_path / "model.keras", dtype="bfloat16")
    assert not copy.compiled
    assert dtypes(copy) == {"bfloat16"}


@pytest.mark.parametrize("dtype", ["int8", "int8_from_float32", "int32", "single", 16, object()])
def test_other_dtypes_are_refused(dtype, folder):
    with pytest.raises(ValueError, match=r"`dtype` must be None or a dtype policy such as"):
        gk.GPTCausalLM.from_preset(folder / "preset", dtype=dtype)


def test_models_that_have_more_than_one_are_refused(folder, tmp_path):
    quantized = gk.GPTCausalLM.from_preset(folder / "preset")
    quantized.quantize("int8", filters="token_embedding")
    quantized.save(tmp_path / "quantized.keras")
    quantized.save_to_preset(tmp_path / "quantized")
    for name in ("quantized", "quantized.keras"):
        with pytest.raises(ValueError, match=r"`dtype` must be None.*is quantized") as e:
            gk.GPTCausalLM.from_preset(tmp_path / name, dtype="bfloat16")
        assert name in str(e.value)
    token_ids = keras.Input((None,), dtype="int32")
    functional = keras.Model(token_ids, keras.layers.Embedding(8, 8)(token_ids))
    gk.CausalLM(functional).save_to_preset(tmp_path / "functional")
    with pytest.raises(ValueError, match=r"`dtype` must be None.*dtypes of their own"):
        gk.CausalLM.from_preset(tmp_path / "functional", dtype="bfloat16")


@pytest.mark.slow
@pytest.mark.xla
def test_generates_in_bfloat16(folder):
    model = gk.GPTCausalLM.from_preset(folder / "preset", dtype="bfloat16")
    settings = {"max_new_tokens": 12, "temperature": 0}
    text = model.generate("hello", **settings)
    assert len(text) == len("hello") + 12
    assert "hello" + "".join(model.stream("hello", **settings)) == text
