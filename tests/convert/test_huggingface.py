import dataclasses
import functools
import json

import ml_dtypes
import numpy as np
import pytest
from huggingface_fixtures import FIXTURES, NAMES, copy, expected
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from tiny_models import tiny_config

import gpt_keras as gk
from gpt_keras.convert.architectures import ARCHITECTURES


@functools.cache
def fixture(name):
    return gk.convert.from_huggingface(FIXTURES / name)


def stored_tensors(folder):
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def test_every_architecture_has_two_fixtures():
    kinds = [
        json.loads((FIXTURES / name / "config.json").read_text())["model_type"] for name in NAMES
    ]
    assert all(kinds.count(kind) >= 2 for kind in ARCHITECTURES)
    assert set(kinds) == set(ARCHITECTURES)


@pytest.mark.parametrize("name", NAMES)
def test_logits_equal_those_of_transformers(name):
    stored = expected(name)
    logits = fixture(name)(stored["token_ids"]).numpy()
    assert np.ptp(stored["logits"]) > 1  # not all alike
    np.testing.assert_allclose(logits, stored["logits"], atol=1e-4)


@pytest.mark.parametrize("name", ["gpt_neo", "mistral", "mixtral_window", "qwen2", "openai_gpt"])
def test_token_by_token_gives_the_logits_of_transformers(name):
    stored, gpt = expected(name), fixture(name).backbone
    token_ids = stored["token_ids"]
    cache, logits = gpt.initial_cache(3, 20), []
    for first, last in [(0, 7), *((i, i + 1) for i in range(7, 20))]:
        piece, update = gpt.extend(token_ids[:, first:last], cache, first, np.zeros(3, "int32"))
        cache = gpt.write(cache, update, first)
        logits.append(piece)
    np.testing.assert_allclose(np.concatenate(logits, axis=1), stored["logits"], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt_neo", "mixtral_window"])
def test_generation_takes_the_most_likely_tokens(name):
    model = fixture(name)
    prompt = [1, 2, 3, 4, 5, 6, 7]
    made = model.generate(prompt, max_new_tokens=6, temperature=0)
    logits = model(np.array([made])).numpy()[0]
    assert made[len(prompt) :] == np.argmax(logits[len(prompt) - 1 : -1], axis=-1).tolist()


def test_what_the_shapes_prove():
    # Settings that transformers leaves out or writes as null must not have become defaults.
    config = fixture("gpt_neo_mixed").config
    assert [config.attention_window(i) for i in range(3)] == [3, 3, None]
    assert (config.head_dim, config.intermediate_dim) == (12, 20)
    assert fixture("gpt_neo").config.attention_windows == (None, 5, None, 5)
    assert fixture("mistral").config.attention_windows == (5,)
    assert fixture("mistral_dense").config.attention_windows is None
    assert fixture("mistral_dense").config.head_dim == 10
    assert fixture("llama_biases").config.use_bias
    qwen2 = fixture("qwen2").config
    assert (qwen2.use_bias, qwen2.use_qkv_bias, qwen2.tie_embeddings) == (False, True, True)
    assert fixture("qwen2_untied").config.rotary_base == 500.0
    assert fixture("qwen2_window").config.attention_windows == (None, 5)
    assert fixture("qwen3_window").config.attention_windows == (5, None)
    qwen3 = fixture("qwen3").config
    assert (qwen3.use_qk_norm, qwen3.use_bias, qwen3.head_dim) == (True, False, 6)
    assert fixture("qwen3_window").config.use_qkv_bias
    biases = ("use_qkv_bias", "use_bias", "use_feed_forward_bias")
    for name, wanted in (("attention_bias", [1, 1, 0]), ("mlp_bias", [0, 0, 1])):
        config = fixture(f"llama_{name}").config
        assert [getattr(config, field) for field in biases] == wanted
    assert fixture("llama_llama3").config.rotary_scaling.factor == 4
    assert fixture("mixtral").config.num_experts_per_token == 2
    assert fixture("openai_gpt").config.norm_position == "post"
    assert fixture("gpt2").config.dropout == 0.1


@pytest.mark.parametrize("name", ["mixtral", "mixtral_one_layer", "mixtral_window"])
def test_load_balancing_loss_equals_that_of_transformers(name):
    stored, model = expected(name), fixture(name)
    model.backbone(stored["token_ids"], training=True)
    # Theirs is of all layers' tokens together; of one layer it is the same.
    losses = [float(loss) / model.config.router_loss_weight for loss in model.backbone.losses]
    assert len(losses) == model.config.num_layers
    if model.config.num_layers == 1:
        assert losses[0] == pytest.approx(float(stored["load_balancing_loss"]), abs=1e-5)
    else:
        assert np.mean(losses) == pytest.approx(float(stored["load_balancing_loss"]), rel=0.2)


# 16-bit weights come back as float32, and one file has the layout that is read and not written.
_OTHER_FILES = ("llama_bfloat16", "llama_float16", "mixtral_fused")


# The square root of 12 is not a power of two.
@pytest.mark.parametrize("name", [name for name in NAMES if name not in _OTHER_FILES])
def test_round_trip_gives_the_same_files(name, tmp_path):
    gk.convert.to_huggingface(fixture(name), tmp_path / "written")
    theirs, ours = stored_tensors(FIXTURES / name), stored_tensors(tmp_path / "written")
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    for key, tensor in theirs.items():
        if name == "gpt_neo_mixed" and "q_proj" in key:
            np.testing.assert_allclose(ours[key], tensor, rtol=2e-7)
        else:
            np.testing.assert_array_equal(ours[key], tensor)
    with safe_open(tmp_path / "written" / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}
    back = gk.convert.from_huggingface(tmp_path / "written")
    assert back.config == fixture(name).config or name == "mistral_dense"
    if name != "gpt_neo_mixed":
        for ours, theirs in zip(back.get_weights(), fixture(name).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_config_json_says_what_theirs_says(name, tmp_path):
    gk.convert.to_huggingface(fixture(name), tmp_path / "written")
    theirs = json.loads((FIXTURES / name / "config.json").read_text())
    ours = json.loads((tmp_path / "written" / "config.json").read_text())
    if name == "mistral_dense":  # without windows it is a Llama
        assert ours["model_type"] == "llama"
        return
    # A list of all layers' types says as much as a repeated one.
    same = [key for key in theirs.keys() & ours.keys() if key not in _WRITTEN_OTHERWISE]
    assert len(same) > 10
    given = {key: theirs[key] for key in same if theirs[key] is not None}
    assert {key: ours[key] for key in given} == given


_WRITTEN_OTHERWISE = {"attention_types", "dtype", "bos_token_id", "eos_token_id"}
_WRITTEN_OTHERWISE |= {"max_window_layers"}  # without effect beside `layer_types`


def test_16_bit_weights_are_read_exactly():
    for name, dtype in (("llama_bfloat16", ml_dtypes.bfloat16), ("llama_float16", np.float16)):
        tensor = stored_tensors(FIXTURES / name)["model.layers.1.self_attn.q_proj.weight"]
        assert tensor.dtype == dtype
        kernel = fixture(name).backbone.blocks[1].attention.query.kernel
        np.testing.assert_array_equal(kernel, tensor.T.astype("float32"))


def test_shards_are_written_and_read(tmp_path):
    model = fixture("qwen2")
    gk.convert.to_huggingface(model, tmp_path / "new", max_shard_bytes=4000)
    index = json.loads((tmp_path / "new" / "model.safetensors.index.json").read_text())
    files = sorted(file.name for file in (tmp_path / "new").glob("*.safetensors"))
    assert files == sorted(set(index["weight_map"].values()))
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert len(files) > 2
    assert all((tmp_path / "new" / file).stat().st_size < 6000 for file in files)
    assert index["metadata"]["total_size"] == 4 * model.config.num_parameters
    for name, file in index["weight_map"].items():
        assert name in load_file(tmp_path / "new" / file)
    back = gk.convert.from_huggingface(tmp_path / "new")
    np.testing.assert_array_equal(back(np.arange(9)[None]), model(np.arange(9)[None]))


def test_bfloat16_models_are_written_as_bfloat16(tmp_path):
    model = gk.GPTCausalLM(tiny_config(), dtype="bfloat16")
    gk.convert.to_huggingface(model, tmp_path / "new")
    tensor = stored_tensors(tmp_path / "new")["transformer.wte.weight"]
    assert tensor.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(tensor, model.backbone.token_embedding.embeddings.numpy())
    assert json.loads((tmp_path / "new" / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize(("name", "prefix"), [("gpt2", "transformer."), ("llama", "model.")])
def test_names_without_prefix_and_with_buffers(name, prefix, tmp_path):
    # As the files on the hub have them, which older versions wrote.
    folder = copy(name, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    tensors |= {f"h.{i}.attn.bias": np.ones((1, 1, 20, 20), bool) for i in range(2)}
    tensors |= {"h.0.attn.masked_bias": np.full((), -1e4, np.float32)}
    tensors |= {"h.0.attn.attention.bias": np.ones((1, 1, 20, 20), np.uint8)}
    tensors |= {"layers.0.self_attn.rotary_emb.inv_freq": np.ones(3, np.float32)}
    if name == "gpt2":  # tied, so the copy is not wanted
        tensors["lm_head.weight"] = tensors["wte.weight"]
    save_file(tensors, folder / "model.safetensors")
    model = gk.convert.from_huggingface(folder)
    token_ids = np.arange(20)[None]
    np.testing.assert_array_equal(model(token_ids), fixture(name)(token_ids))


def test_settings_as_older_versions_wrote_them(tmp_path):
    folder = copy("qwen2_untied", tmp_path)
    settings = json.loads((folder / "config.json").read_text())
    settings["rope_theta"] = settings.pop("rope_parameters")["rope_theta"]
    settings |= {"rope_scaling": None, "torch_dtype": "float32", "sliding_window": 131072}
    settings |= {"_name_or_path": "somewhere", "transformers_version": "4.40.1"}
    del settings["layer_types"], settings["dtype"]
    (folder / "config.json").write_text(json.dumps(settings))
    assert gk.convert.from_huggingface(folder).config == fixture("qwen2_untied").config


def test_a_tokenizer_travels(tmp_path):
    tokenizer = gk.tokenizers.BytePairTokenizer.train(["to be or not to be"], vocabulary_size=270)
    config = tiny_config(vocabulary_size=tokenizer.vocabulary_size)
    model = gk.GPTCausalLM(config, tokenizer=tokenizer)
    gk.convert.to_huggingface(model, tmp_path / "new")
    back = gk.GPTCausalLM.from_preset(tmp_path / "new")
    assert back.tokenizer == tokenizer
    for file in ("config.json", "generation_config.json"):
        settings = json.loads((tmp_path / "new" / file).read_text())
        assert settings["eos_token_id"] == tokenizer.end_of_text_id
    settings = json.loads((tmp_path / "new" / "tokenizer_config.json").read_text())
    assert settings["eos_token"] == "<|endoftext|>"


def test_a_tokenizer_that_cannot_be_read_is_a_warning(tmp_path):
    folder = copy("gpt2", tmp_path)
    (folder / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}')
    with pytest.warns(UserWarning, match=r"token ids only.*tokenizer\.json"):
        model = gk.convert.from_huggingface(folder)
    assert model.tokenizer is None


def test_writing_needs_a_new_folder_and_leaves_nothing_half(tmp_path, monkeypatch):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").touch()
    with pytest.raises(ValueError, match=r"old' exists already"):
        gk.convert.to_huggingface(fixture("gpt2"), tmp_path / "old")

    def fails(*args):
        raise OSError("disk full")

    monkeypatch.setattr("gpt_keras.convert.huggingface.collect", fails)
    with pytest.raises(OSError, match="disk full"):
        gk.convert.to_huggingface(fixture("gpt2"), tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position_embedding": "sinusoidal"}, r"gpt2: position_embedding is 'sinusoidal'"),
        (
            {"position_embedding": "none"},
            r"llama: .*position_embedding is 'none', read back as 'rotary'",
        ),
        ({"head_dim": 10}, r"gpt2: head_dim is 10, read back as 8"),
        ({"attention_windows": (4, 7)}, r"gpt_neo: .*attention_windows is \(4, 7\)"),
        ({"norm": "rms_norm"}, r"llama: .*activation is 'gelu_tanh', read back as 'swiglu'"),
        ({"num_experts": 2}, r"gpt2: num_experts is 2, read back as None"),
    ],
)
def test_a_model_that_no_architecture_holds(changes, message, tmp_path):
    model = gk.GPTCausalLM(tiny_config(**changes))
    with pytest.raises(ValueError, match=message) as raised:
        gk.convert.to_huggingface(model, tmp_path / "new")
    assert "None, read back as None" not in str(raised.value)
    assert not (tmp_path / "new").exists()


def test_weights_that_no_architecture_has(tmp_path):
    gated = gk.CausalLM(gk.GPT(tiny_config(), residual=gk.layers.GRUGate()))
    with pytest.raises(ValueError, match=r"weights that.*block_0/attention_residual/update_bias"):
        gk.convert.to_huggingface(gated, tmp_path / "new")
    adapted = gk.GPTCausalLM(tiny_config())
    adapted.backbone.blocks[0].attention.query.enable_lora(2)
    with pytest.raises(ValueError, match=r"weights that.*lora"):
        gk.convert.to_huggingface(adapted, tmp_path / "new")
    with pytest.raises(ValueError, match=r"`model` must be a CausalLM.*'gpt2'"):
        gk.convert.to_huggingface("gpt2", tmp_path / "new")


@pytest.mark.parametrize(
    ("preset", "model_type"),
    [
        ("gpt1", "openai-gpt"),
        ("gpt2_xl", "gpt2"),
        ("smollm2_135m", "llama"),
        ("llama3_8b", "llama"),
        ("qwen2_0.5b", "qwen2"),
        ("mistral_7b", "mistral"),
        ("mixtral_8x7b", "mixtral"),
    ],
)
def test_presets_are_the_architectures_of_their_papers(preset, model_type):
    config = gk.presets.get(preset)
    fitting = []
    for name, architecture in ARCHITECTURES.items():
        if architecture.misfits(config):
            continue
        settings = architecture.to_settings(config)
        fitting.append(name)
        assert architecture.to_config(settings).num_parameters == config.num_parameters
    assert fitting[0] == model_type


def changed_settings(name, folder, **changes):
    """A copy of a fixture whose `config.json` has other settings; None takes one away."""
    folder = copy(name, folder)
    settings = json.loads((folder / "config.json").read_text()) | changes
    settings = {key: value for key, value in settings.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


# Rotary scaling. The logits are of the model "llama_llama3" with other angles.

STORED = dict(np.load(FIXTURES.parent / "rotary_scaling.npz"))
SCALINGS = [json.loads(scaling) for scaling in STORED["scalings"]]
KINDS = [f"{i}_{scaling['rope_type']}" for i, scaling in enumerate(SCALINGS)]


def pieces_of_logits(gpt, token_ids, ends):
    """The logits of `extend`, in pieces that end at `ends`."""
    length = token_ids.shape[1]
    cache, logits = gpt.initial_cache(len(token_ids), length), []
    for first, last in zip([0, *ends], [*ends, length]):
        starts = np.zeros(len(token_ids), "int32")
        piece, update = gpt.extend(token_ids[:, first:last], cache, first, starts)
        cache = gpt.write(cache, update, first)
        logits.append(piece)
    return np.concatenate(logits, axis=1)


@pytest.mark.parametrize("layout", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("kind", KINDS)
def test_scaled_angles_are_those_of_transformers(kind, layout, tmp_path):
    # Also that no two scalings, nor any and none, give the same logits.
    scaling = SCALINGS[KINDS.index(kind)]
    changes = {"rope_parameters": {"rope_theta": 100.0, **scaling}}
    if layout == "rope_scaling":
        old = {"type" if key == "rope_type" else key: value for key, value in scaling.items()}
        changes = {"rope_parameters": None, "rope_theta": 100.0, "rope_scaling": old}
    if scaling["rope_type"] == "dynamic":
        changes["max_position_embeddings"] = 10
    folder = changed_settings("llama_llama3", tmp_path, **changes)
    model, token_ids = gk.convert.load(folder), STORED["token_ids"]
    stored = STORED["logits"][KINDS.index(kind)]
    distances = [np.abs(other - stored).max() for other in STORED["logits"]]
    assert sorted(distances)[1] > 0.1
    if scaling["rope_type"] == "dynamic":
        # Their angles follow the longest sequence; ours are chosen once, here for 40 tokens.
        longer = dataclasses.replace(model.config.rotary_scaling, sequence_length=40)
        config = model.config.replace(max_sequence_length=40, rotary_scaling=longer)
        weights, model = model.get_weights(), gk.GPTCausalLM(config)
        model.set_weights(weights)
    np.testing.assert_allclose(model(token_ids), stored, atol=1e-4)
    if layout == "rope_scaling":
        pieces = pieces_of_logits(model.backbone, token_ids, (9, 10, 30))
        np.testing.assert_allclose(pieces, stored, atol=1e-4)
    assert gk.GPTConfig.from_json(model.config.to_json()) == model.config


@pytest.mark.parametrize("name", ["llama_llama3", "qwen2_window", "qwen3_window"])
def test_in_pieces_the_logits_are_those_of_transformers(name):
    stored = expected(name)
    pieces = pieces_of_logits(fixture(name).backbone, stored["token_ids"], (7, 8, 15))
    np.testing.assert_allclose(pieces, stored["logits"], atol=1e-4)


def test_the_config_of_llama_3_1():
    # As it is on the hub: the layout of transformers 4.
    rope = {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "rope_type": "llama3"}
    rope |= {"original_max_position_embeddings": 8192}
    settings = {"attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 128000}
    settings |= {"hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02}
    settings |= {"eos_token_id": 128001, "intermediate_size": 14336, "mlp_bias": False}
    settings |= {"max_position_embeddings": 131072, "num_attention_heads": 32}
    settings |= {"num_hidden_layers": 32, "num_key_value_heads": 8, "pretraining_tp": 1}
    settings |= {"rms_norm_eps": 1e-5, "rope_scaling": rope, "rope_theta": 500000.0}
    settings |= {"tie_word_embeddings": False, "torch_dtype": "bfloat16", "vocab_size": 128256}
    config = ARCHITECTURES["llama"].to_config(settings)
    llama3 = gk.presets.get("llama3_8b").replace(max_sequence_length=131072, rotary_scaling=rope)
    assert config == llama3


def test_dynamic_scaling_is_none_up_to_the_original_context(tmp_path):
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    folder = changed_settings("llama", tmp_path, rope_parameters=rope)
    stored = expected("llama")
    model = gk.convert.load(folder)
    np.testing.assert_allclose(model(stored["token_ids"]), stored["logits"], atol=1e-4)
    gk.convert.to_huggingface(model, tmp_path / "written")
    assert gk.convert.load(tmp_path / "written").config == model.config


@pytest.mark.parametrize("kind", [*KINDS, "factors"])
def test_scalings_are_written_in_both_layouts(kind, tmp_path):
    scaling = {"rope_type": "factors", "factors": [1.0, 1.5, 2.0, 4.0, 4.0, 5.0, 6.0, 8.0]}
    if kind != "factors":
        scaling = SCALINGS[KINDS.index(kind)]
    if kind.endswith("dynamic"):
        scaling = scaling | {"original_max_position_embeddings": 40}
    config = fixture("llama_llama3").config.replace(rotary_scaling=scaling)
    gk.convert.to_huggingface(gk.GPTCausalLM(config), tmp_path / "written")
    assert gk.convert.load(tmp_path / "written").config == config
    for unread in ("rope_parameters", "rope_scaling"):
        settings = json.loads((tmp_path / "written" / "config.json").read_text())
        del settings[unread]
        assert ARCHITECTURES["llama"].to_config(settings) == config


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gpt2", {"attn_pdrop": 0.3}),
        ("gpt_neo", {"attention_dropout": 0.1, "resid_dropout": 0.2}),
        ("mixtral", {"router_jitter_noise": 0.1}),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 1.0}}),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 1.0, "rope_theta": 1e4}}),
        ("llama", {"partial_rotary_factor": 1.0, "original_max_position_embeddings": 8}),
    ],
)
def test_settings_that_change_nothing_in_inference(name, changes, tmp_path):
    folder = changed_settings(name, tmp_path, **changes)
    stored = expected(name)
    model = gk.convert.load(folder)
    np.testing.assert_allclose(model(stored["token_ids"]), stored["logits"], atol=1e-4)
    assert model.config.rotary_scaling is None
    dropout = max([fixture(name).config.dropout, *(v for k, v in changes.items() if "drop" in k)])
    assert model.config.dropout == dropout


def test_tied_weights_under_either_name(tmp_path):
    # Where two tensors are one, safetensors keeps one name; which, is the writer's choice.
    for name, embedding in (("llama_tied", "model.embed_tokens"), ("gpt2", "transformer.wte")):
        folder = copy(name, tmp_path)
        tensors = load_file(folder / "model.safetensors")
        tensors["lm_head.weight"] = tensors.pop(f"{embedding}.weight")
        save_file(tensors, folder / "model.safetensors")
        stored = expected(name)
        logits = gk.convert.load(folder)(stored["token_ids"])
        np.testing.assert_allclose(logits, stored["logits"], atol=1e-4)


def test_float64_weights_are_read(tmp_path):
    folder = copy("llama", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors = {key: value.astype("float64") for key, value in tensors.items()}
    save_file(tensors, folder / "model.safetensors")
    model = gk.convert.load(folder)
    for ours, theirs in zip(model.get_weights(), fixture("llama").get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_fused_layout_of_mixtral_is_written_as_the_other(tmp_path):
    model = fixture("mixtral_fused")
    gk.convert.to_huggingface(model, tmp_path / "written")
    assert "model.layers.0.block_sparse_moe.experts.2.w1.weight" in stored_tensors(
        tmp_path / "written"
    )
    back = gk.convert.load(tmp_path / "written")
    for ours, theirs in zip(back.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_windows_of_qwen_by_number_of_layers(tmp_path):
    # As transformers 4 writes them, without a list of layers.
    for first, windows in ((0, (4, 4)), (1, (None, 4)), (2, None)):
        settings = json.loads((FIXTURES / "qwen2" / "config.json").read_text())
        del settings["layer_types"]
        settings |= {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": first}
        assert ARCHITECTURES["qwen2"].to_config(settings).attention_windows == windows
