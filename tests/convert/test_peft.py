"""LoRA adapters in PEFT's format, against the logits that PEFT computed."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from tiny_models import tiny_config

import gpt_keras as gk
from gpt_keras.models.adapters import adapted_layers

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
BASES = {"gpt2": "gpt2", "llama": "llama", "ours_gpt2": "gpt2", "ours_llama": "llama"}
every_adapter = pytest.mark.parametrize("name", BASES)


@pytest.fixture(scope="module")
def base_models():
    return {
        name: gk.CausalLM.from_preset(FIXTURES / "huggingface" / name) for name in ("gpt2", "llama")
    }


def copy_of(model):
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


def expected(name):
    with np.load(FIXTURES / "peft" / name / "expected.npz") as stored:
        return stored["token_ids"], stored["logits"]


def factors(model):
    return {
        path: (np.array(layer.lora_kernel_a), np.array(layer.lora_kernel_b), layer.lora_scale)
        for path, layer in adapted_layers(model).items()
    }


def assert_equal_factors(one, other):
    assert one.keys() == other.keys()
    for path in one:
        for mine, its in zip(one[path], other[path], strict=True):
            np.testing.assert_array_equal(mine, its)


def damaged(name, folder, **changes):
    """A copy of a stored adapter with another config."""
    folder = pathlib.Path(shutil.copytree(FIXTURES / "peft" / name, folder / name))
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


@every_adapter
def test_logits_equal_those_of_peft(base_models, name):
    model = copy_of(base_models[BASES[name]])
    model.load_adapter(FIXTURES / "peft" / name)
    token_ids, logits = expected(name)
    found = model.predict(token_ids, verbose=0)
    np.testing.assert_allclose(found, logits, atol=1e-4)
    # The adapter changes them: a model that ignores it would not pass.
    plain = base_models[BASES[name]].predict(token_ids, verbose=0)
    assert np.abs(plain - logits).max() > 0.1
    model.merge_adapter()
    np.testing.assert_allclose(model.predict(token_ids, verbose=0), logits, atol=1e-4)


@every_adapter
def test_a_loaded_adapter_is_saved_and_loaded_bit_for_bit(base_models, name, tmp_path):
    model = copy_of(base_models[BASES[name]])
    model.load_adapter(FIXTURES / "peft" / name)
    model.save_adapter(tmp_path / "adapter")
    other = copy_of(base_models[BASES[name]])
    other.load_adapter(tmp_path / "adapter")
    assert_equal_factors(factors(other), factors(model))
    # Without our own file, as PEFT would read it: joined factors, the same logits.
    (tmp_path / "adapter" / "gpt_keras_adapter.json").unlink()
    other.load_adapter(tmp_path / "adapter")
    token_ids, logits = expected(name)
    np.testing.assert_allclose(other.predict(token_ids, verbose=0), logits, atol=1e-4)


@pytest.mark.parametrize("name", ["ours_gpt2", "ours_llama"])
def test_files_that_peft_was_given_are_the_ones_that_are_written(base_models, name, tmp_path):
    model = copy_of(base_models[BASES[name]])
    model.load_adapter(FIXTURES / "peft" / name)
    model.save_adapter(tmp_path / "adapter")
    for file in ("adapter_config.json", "adapter_model.safetensors", "gpt_keras_adapter.json"):
        stored = (FIXTURES / "peft" / name / file).read_bytes()
        assert (tmp_path / "adapter" / file).read_bytes() == stored


def test_a_new_adapter_replaces_the_old_one(base_models):
    model = copy_of(base_models["llama"])
    model.enable_lora(2, ["output"])
    model.load_adapter(FIXTURES / "peft" / "llama")
    assert not any("output" in path for path in adapted_layers(model))
    model.load_adapter(FIXTURES / "peft" / "ours_llama")
    token_ids, logits = expected("ours_llama")
    np.testing.assert_allclose(model.predict(token_ids, verbose=0), logits, atol=1e-4)


def test_models_without_names_at_hugging_face_use_our_paths(tmp_path):
    config = tiny_config(num_layers=1, position_embedding="sinusoidal")
    model = gk.GPTCausalLM(config)
    model.enable_lora(2)
    for variable in model.trainable_variables:
        variable.assign(np.random.default_rng(0).normal(size=variable.shape))
    model.save_adapter(tmp_path / "adapter")
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["target_modules"] == ["block_0.attention.query", "block_0.attention.value"]
    other = copy_of(model)
    other.remove_adapter()
    other.load_adapter(tmp_path / "adapter")
    assert_equal_factors(factors(other), factors(model))


def test_the_head_of_a_task_model_travels_with_its_adapter(tmp_path):
    model = gk.GPTClassifier(gk.GPT(tiny_config()), 2, special_ids=(0, 1, 2))
    model.enable_lora(2)
    for variable in model.trainable_variables:
        variable.assign(np.random.default_rng(0).normal(size=variable.shape))
    ids = np.random.default_rng(0).integers(3, 30, (4, 8)).astype("int32")
    logits = model.predict(ids, verbose=0)
    model.save_adapter(tmp_path / "adapter")
    other = gk.GPTClassifier(gk.GPT(tiny_config()), 2, special_ids=(0, 1, 2))
    other.backbone.set_weights(
        [np.array(v) for v in model.backbone.variables if "lora" not in v.path]
    )
    other.load_adapter(tmp_path / "adapter")
    np.testing.assert_array_equal(other.predict(ids, verbose=0), logits)
    with pytest.raises(ValueError, match="head of a task model"):
        gk.GPTCausalLM(tiny_config()).load_adapter(tmp_path / "adapter")
    three = gk.GPTClassifier(gk.GPT(tiny_config()), 3, special_ids=(0, 1, 2))
    with pytest.raises(ValueError, match="another head"):
        three.load_adapter(tmp_path / "adapter")
    assert not adapted_layers(three)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "use_dora is True"),
        ({"bias": "lora_only"}, "bias is 'lora_only'"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save is \['lm_head'\]"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
        ({"use_dora": True, "bias": "all"}, "bias is 'all', use_dora is True"),
    ],
)
def test_other_adapters_are_refused_by_name(base_models, changes, message, tmp_path):
    model = base_models["llama"]
    with pytest.raises(ValueError, match=message):
        model.load_adapter(damaged("llama", tmp_path, **changes))
    assert not adapted_layers(model)


def test_bad_folders(base_models, tmp_path):
    model = base_models["llama"]
    with pytest.raises(ValueError, match=r"lacks adapter_config.json"):
        model.load_adapter(tmp_path)
    with pytest.raises(ValueError, match=r"modules that the model lacks: transformer\.h\.0"):
        model.load_adapter(FIXTURES / "peft" / "gpt2")
    folder = damaged("llama", tmp_path)
    content = (folder / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(content[:-10])
    with pytest.raises(ValueError, match="damaged or cut short"):
        model.load_adapter(folder)
    ours = pathlib.Path(shutil.copytree(FIXTURES / "peft" / "ours_llama", tmp_path / "ours"))
    for content in ("{", '{"block_9/attention/query": {}}', "[]"):
        (ours / "gpt_keras_adapter.json").write_text(content)
        with pytest.raises(ValueError, match=r"gpt_keras_adapter.json.* is damaged or belongs"):
            model.load_adapter(ours)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"adapter_config.json.* is damaged"):
        model.load_adapter(folder)
    with pytest.raises(ValueError, match="no LoRA adapter"):
        model.save_adapter(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert not adapted_layers(model)


def test_another_width_is_refused():
    model = gk.GPTCausalLM(
        tiny_config(vocabulary_size=50, max_sequence_length=20, hidden_dim=24, num_heads=4)
    )
    with pytest.raises(ValueError, match=r"c_attn has factors of the shapes .* its kernel here"):
        model.load_adapter(FIXTURES / "peft" / "gpt2")


def test_an_adapted_model_is_not_converted_by_half(base_models, tmp_path):
    model = copy_of(base_models["llama"])
    model.enable_lora(2)
    with pytest.raises(ValueError, match="lora_kernel_a"):
        gk.convert.to_huggingface(model, tmp_path / "folder")
    model.merge_adapter()
    gk.convert.to_huggingface(model, tmp_path / "folder")
    assert (tmp_path / "folder" / "model.safetensors").exists()
