"""Folders that cannot be read: one message says all that is wrong, before a model is built."""

import json
import re
import sys

import numpy as np
import pytest
from huggingface_fixtures import copy
from safetensors.numpy import load_file, save_file

import gpt_keras as gk


@pytest.fixture(autouse=True)
def no_model_is_built(monkeypatch):
    def built(*args, **kwargs):
        raise AssertionError("a model was built")

    monkeypatch.setattr("gpt_keras.convert.huggingface.GPTCausalLM", built)


def change_settings(folder, changes, removed=()):
    settings = json.loads((folder / "config.json").read_text()) | changes
    for key in removed:
        del settings[key]
    (folder / "config.json").write_text(json.dumps(settings))


def change_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "gpt2",
            {"scale_attn_by_inverse_layer_idx": True},
            r"scale_attn_by_inverse_layer_idx is T",
        ),
        ("gpt2", {"scale_attn_weights": False}, r"scale_attn_weights is False and should be True"),
        ("gpt2", {"add_cross_attention": True}, r"add_cross_attention is True"),
        ("gpt2", {"activation_function": "silu"}, r"'silu' and should be 'gelu_new' or"),
        ("gpt2", {"embd_pdrop": 1.5}, r"`embd_pdrop` must be a number in \[0, 1\)"),
        ("gpt2", {"n_head": 5}, r"config\.json.*`hidden_dim` must be a multiple of `num_heads`"),
        ("openai_gpt", {"afn": "swish"}, r"afn is 'swish'"),
        (
            "gpt_neo",
            {"attention_types": [[["sparse"], 4]]},
            r"attention_types is .*'sparse'.*'global' or",
        ),
        ("gpt_neo", {"attention_types": ["local"]}, r"attention_types is \['local'\]"),
        (
            "gpt_neo",
            {"attention_types": [[["local"], 3]]},
            r"attention_types is .* for each of 4 layers",
        ),
        ("llama", {"hidden_act": "gelu"}, r"hidden_act is 'gelu' and should be 'silu'"),
        (
            "llama",
            {"rope_scaling": {"type": "ntk", "factor": 2.0}},
            r"rope_scaling is .*ntk.*`rope_type` must be one of linear, dynamic, yarn, llama3",
        ),
        (
            "llama",
            {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "rope_theta": 5e5}},
            r"rope_parameters .*missing \['low_freq_factor', 'high_freq_factor'\]",
        ),
        ("llama", {"rope_scaling": "linear"}, r"rope_scaling is 'linear' and should be a mapping"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            r"partial_rotary_factor.*which a GPT does not have",
        ),
        ("llama", {"quantization_config": {"bits": 4}}, r"quantization_config is"),
        ("llama", {"partial_rotary_factor": 0.5}, r"partial_rotary_factor is 0\.5"),
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention"]}, r"layer_types is"),
        ("qwen3_window", {"layer_types": ["full_attention"]}, r"layer_types is .* of 2 layers"),
        ("mistral", {"layer_types": ["sliding_attention"] * 2}, r"layer_types is"),
        (
            "gpt2",
            {"model_type": "bloom"},
            r"'bloom'; .*gpt2, openai-gpt, gpt_neo, llama, qwen2, qwen3, mis",
        ),
    ],
)
def test_settings_that_are_not_supported(name, changes, message, tmp_path):
    folder = copy(name, tmp_path)
    change_settings(folder, changes)
    with pytest.raises(ValueError, match=message):
        gk.convert.from_huggingface(folder)


def test_all_settings_are_listed_at_once(tmp_path):
    folder = copy("gpt2", tmp_path)
    change_settings(folder, {"scale_attn_weights": False, "activation_function": "mish"})
    with pytest.raises(ValueError, match=r"(?s)activation_function.*scale_attn_weights"):
        gk.convert.from_huggingface(folder)
    change_settings(folder, {"scale_attn_weights": True, "activation_function": "relu"}, ["n_head"])
    with pytest.raises(ValueError, match=r"settings of gpt2 are missing: n_head"):
        gk.convert.from_huggingface(folder)


def test_all_tensors_are_listed_at_once(tmp_path):
    folder = copy("llama", tmp_path)

    def change(tensors):
        tensors["model.layers.0.self_attn.q_norm.weight"] = np.ones(4, np.float32)
        tensors["model.norm.weight"] = np.ones(15, np.float32)
        del tensors["model.layers.1.mlp.up_proj.weight"], tensors["lm_head.weight"]

    change_tensors(folder, change)
    with pytest.raises(ValueError, match=r"llama' does not fit its config") as raised:
        gk.convert.from_huggingface(folder)
    message = str(raised.value)
    assert "missing: lm_head.weight, layers.1.mlp.up_proj.weight;" in message
    assert "not known: layers.0.self_attn.q_norm.weight;" in message
    assert "of another shape: norm.weight is (15,) and should be (16,)." in message


def test_tensors_of_another_type_or_twice(tmp_path):
    folder = copy("llama", tmp_path)

    def change(tensors):
        tensors["model.norm.weight"] = np.ones(16, np.int8)
        tensors["embed_tokens.weight"] = tensors["model.embed_tokens.weight"]

    change_tensors(folder, change)
    with pytest.raises(ValueError, match=r"twice: embed_tokens.weight; .*model.norm.weight is I8"):
        gk.convert.from_huggingface(folder)


@pytest.mark.parametrize("length", [0, 5, 500, -1])
def test_a_file_cut_short(length, tmp_path):
    folder = copy("gpt2", tmp_path)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"gpt2' cannot be read: model\.safetensors is damaged or"):
        gk.convert.from_huggingface(folder)


def test_shards_missing_and_cut_short(tmp_path):
    folder = copy("llama_sharded", tmp_path)
    (folder / "model-00002-of-00005.safetensors").unlink()
    file = folder / "model-00004-of-00005.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"llama_sharded' cannot be read") as raised:
        gk.convert.from_huggingface(folder)
    assert "missing: model-00002-of-00005.safetensors" in str(raised.value)
    assert "model-00004-of-00005.safetensors is damaged or cut short" in str(raised.value)


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}']
)
def test_a_damaged_index(content, tmp_path):
    folder = copy("llama_sharded", tmp_path)
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json is damaged"):
        gk.convert.from_huggingface(folder)


def test_pytorch_weights_are_not_opened(tmp_path):
    folder = copy("gpt2", tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin.*convert it.*save_pretrained"):
        gk.convert.from_huggingface(folder)


def test_folders_of_another_kind(tmp_path):
    with pytest.raises(ValueError, match=r"no Hugging Face folder: no config\.json"):
        gk.convert.from_huggingface(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json' is damaged"):
        gk.convert.from_huggingface(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"must hold an object, not a list"):
        gk.convert.from_huggingface(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"neither a \.keras file nor a preset folder"):
        gk.convert.load(tmp_path)


def test_safetensors_is_missing(tmp_path, monkeypatch):
    folder = copy("gpt2", tmp_path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"pip install 'gpt_keras\[hub\]'"):
        gk.convert.from_huggingface(folder)


def test_what_is_not_there_may_be_near(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy("gpt2", tmp_path).rename(tmp_path / "my_model")
    near = {
        "gpt2": "Did you mean 'gpt2_small'?",
        "smollm2-135m": "Did you mean 'smollm2_135m'?",
        "SmolLM2-135M-Instruct": "Did you mean 'smollm2_135m_instruct'?",
        "HuggingFaceTB/SmolLM2-135M": "'smollm2_135m' or 'hf://HuggingFaceTB/SmolLM2-135M'?",
        "someone/something": "Did you mean 'hf://someone/something'?",
        "gpt2_smal": "Did you mean 'gpt2_small'",
        "llama3_8b": "This preset has no weights; a new model is `gk.GPTCausalLM(gk.pres",
        "my_modle": "Did you mean 'my_model'?",
        str(tmp_path / "my-model"): f"Did you mean '{tmp_path}/my_model'?",
        "my_model/config.json": "Load its folder: 'my_model'.",
        "my_model/model.safetensors": "Load its folder: 'my_model'.",
        str(tmp_path): f"A model is in '{tmp_path}/my_model'.",
    }
    for source, message in near.items():
        with pytest.raises(ValueError, match=re.escape(message)) as raised:
            gk.GPTCausalLM.from_preset(source)
        assert source in str(raised.value)
    with pytest.raises(ValueError, match=r"got 'quite/other/nothing'\.$"):
        gk.convert.load("quite/other/nothing")
    with pytest.raises(ValueError, match="`source` must be a file, a folder"):
        gk.convert.load("x" * 300)  # more than a file system takes
