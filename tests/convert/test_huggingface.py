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


# 16-bit weights come back as float32, and sqrt(12) is not a power of two.
@pytest.mark.parametrize("name", [name for name in NAMES if "float16" not in name])
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
            r"llama: .*position_embedding is 'none' and there 'rotary'",
        ),
        ({"head_dim": 10}, r"gpt2: head_dim is 10 and there 8"),
        ({"attention_windows": (4, 7)}, r"gpt_neo: .*attention_windows is \(4, 7\)"),
        ({"norm": "rms_norm"}, r"llama: .*activation is 'gelu_tanh' and there 'swiglu'"),
        ({"num_experts": 2}, r"gpt2: num_experts is 2 and there None"),
    ],
)
def test_a_model_that_no_architecture_holds(changes, message, tmp_path):
    model = gk.GPTCausalLM(tiny_config(**changes))
    with pytest.raises(ValueError, match=message):
        gk.convert.to_huggingface(model, tmp_path / "new")
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
        try:
            settings = architecture.to_settings(config)
        except ValueError:
            continue
        fitting.append(name)
        assert architecture.to_config(settings).num_parameters == config.num_parameters
    assert fitting[0] == model_type
