import importlib.util
import json
import math
import os
import pathlib
import re
import struct

import gguf
import ml_dtypes
import numpy as np
import pytest
from huggingface_fixtures import FIXTURES, expected
from safetensors.numpy import load_file
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.convert import gguf as gguf_files
from gpt_keras.convert.gguf.architectures import ARCHITECTURES
from gpt_keras.convert.gguf.tensors import GGUFTensors
from gpt_keras.gguf_file import read_header

U32, F32 = gguf.GGUFValueType.UINT32, gguf.GGUFValueType.FLOAT32
TEXT, BOOL = gguf.GGUFValueType.STRING, gguf.GGUFValueType.BOOL

MODERN = {
    "position_embedding": "rotary",
    "norm": "rms_norm",
    "activation": "swiglu",
    "use_bias": False,
    "num_heads": 4,
    "hidden_dim": 32,
    "intermediate_dim": 64,
}
LINEAR = {"rope_type": "linear", "factor": 2.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 10}
CONFIGS = {
    "gpt2": tiny_config(hidden_dim=32, dropout=0.1),
    "gpt2_untied": tiny_config(tie_embeddings=False, intermediate_dim=20),
    "llama": tiny_config(**MODERN, num_key_value_heads=2, tie_embeddings=False, rotary_base=5e5),
    "llama_head_dim": tiny_config(**MODERN, num_key_value_heads=1, head_dim=6),
    "llama_biases": tiny_config(**MODERN | {"use_bias": True}, norm_epsilon=1e-6),
    "llama_attention_bias": tiny_config(
        **MODERN | {"use_bias": True}, use_feed_forward_bias=False, rotary_scaling=LINEAR
    ),
    "llama_yarn": tiny_config(**MODERN, rotary_scaling=YARN),
    "qwen2": tiny_config(**MODERN, num_key_value_heads=2, use_qkv_bias=True),
    "qwen3": tiny_config(**MODERN, num_key_value_heads=2, use_qk_norm=True, head_dim=6),
}
TOKEN_IDS = np.arange(48).reshape(2, 24) % 32


def model_of(name):
    return spread_weights(gk.GPTCausalLM(CONFIGS[name]))


def stored(path):
    """The tensors of a file as the `gguf` package reads them: name, type, values."""
    return {
        tensor.name: (tensor.tensor_type.name, gguf.dequantize(tensor.data, tensor.tensor_type))
        for tensor in gguf.GGUFReader(path).tensors
    }


# Reading and writing against transformers: its tensors, made into a file by llama.cpp's rules.


def permuted(weight, num_heads):
    """llama.cpp's order of the rows of a query or key projection: pairs side by side."""
    rows = weight.reshape(num_heads, 2, len(weight) // num_heads // 2, *weight.shape[1:])
    return rows.swapaxes(1, 2).reshape(weight.shape)


def llama3_factors(rope, head_dim):
    """What llama.cpp's converter makes of Llama 3.1's scaling, one frequency at a time."""
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    length, factors = rope["original_max_position_embeddings"], []
    for i in range(0, head_dim, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (i / head_dim)
        if wavelength < length / high:
            factors.append(1)
        elif wavelength > length / low:
            factors.append(rope["factor"])
        else:
            smooth = (length / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return factors


LLAMA_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
GPT2_NAMES = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "lm_head": "output",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def llama_cpp_file(name, path, factors=True, **changes):
    """Write a fixture of transformers as llama.cpp's converter does; changes are of metadata."""
    settings = json.loads((FIXTURES / name / "config.json").read_text())
    kind = settings["model_type"]
    heads = settings.get("num_attention_heads") or settings["n_head"]
    key_value_heads = settings.get("num_key_value_heads", heads)
    writer = gguf.GGUFWriter(path, changes.pop("architecture", kind))
    writer.add_block_count(settings.get("num_hidden_layers") or settings["n_layer"])
    writer.add_context_length(settings.get("max_position_embeddings") or settings["n_positions"])
    writer.add_embedding_length(settings.get("hidden_size") or settings["n_embd"])
    writer.add_feed_forward_length(settings.get("intermediate_size") or settings["n_inner"] or 64)
    writer.add_head_count(heads)
    if kind == "gpt2":
        writer.add_layer_norm_eps(settings["layer_norm_epsilon"])
    else:
        writer.add_head_count_kv(key_value_heads)
        writer.add_layer_norm_rms_eps(settings["rms_norm_eps"])
        writer.add_rope_freq_base(settings["rope_parameters"]["rope_theta"])
        if "head_dim" in settings:
            writer.add_key_length(settings["head_dim"])
            writer.add_value_length(settings["head_dim"])
    for key, value in changes.items():
        writer.add_key_value(f"{kind}.{key.replace('__', '.')}", *value)
    names = GPT2_NAMES if kind == "gpt2" else LLAMA_NAMES
    for theirs, weight in load_file(FIXTURES / name / "model.safetensors").items():
        match = re.fullmatch(r"(?:.*\.(?:h|layers)\.(\d+)\.)?(.+)\.(weight|bias)", theirs)
        block, layer, suffix = match.groups()
        if kind == "llama" and layer in ("self_attn.q_proj", "self_attn.k_proj"):
            weight = permuted(weight, heads if "q_proj" in layer else key_value_heads)
        if layer in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
            weight = weight.T
        prefix = "" if block is None else f"blk.{block}."
        writer.add_tensor(f"{prefix}{names[layer]}.{suffix}", np.ascontiguousarray(weight))
    if factors and settings.get("rope_parameters", {}).get("rope_type") == "llama3":
        factors = llama3_factors(settings["rope_parameters"], settings["head_dim"])
        writer.add_tensor("rope_freqs.weight", np.array(factors, "float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


FROM_TRANSFORMERS = [
    *("gpt2", "llama", "llama_biases", "llama_tied", "qwen2", "qwen2_untied"),
    *("llama_attention_bias", "llama_mlp_bias", "llama_llama3", "qwen3"),
]


@pytest.mark.parametrize("name", FROM_TRANSFORMERS)
def test_logits_equal_those_of_transformers(name, tmp_path):
    model = gk.convert.load(llama_cpp_file(name, tmp_path / "model.gguf"))
    truth = expected(name)
    np.testing.assert_allclose(model(truth["token_ids"]), truth["logits"], atol=1e-4)
    assert isinstance(model, gk.GPTCausalLM)
    assert model.tokenizer is None
    assert model.chat_template is None


@pytest.mark.parametrize("name", FROM_TRANSFORMERS)
def test_files_have_the_tensors_that_llama_cpp_writes(name, tmp_path):
    theirs = stored(llama_cpp_file(name, tmp_path / "theirs.gguf"))
    gk.convert.to_gguf(gk.convert.load(FIXTURES / name), tmp_path / "ours.gguf", dtype="f32")
    ours = stored(tmp_path / "ours.gguf")
    assert ours.keys() == theirs.keys()
    for key, (_, values) in theirs.items():
        if key == "rope_freqs.weight":
            np.testing.assert_allclose(ours[key][1], values, rtol=1e-6)
        else:
            np.testing.assert_array_equal(ours[key][1], values)


ROTARY = dict(np.load(FIXTURES.parent / "rotary_scaling.npz"))


@pytest.mark.parametrize("rope_type", ["linear", "yarn", "legacy"])
def test_scaled_angles_are_those_of_transformers(rope_type, tmp_path):
    changes = {
        "linear": {"type": ("linear", TEXT), "factor": (4.0, F32), "finetuned": (True, BOOL)},
        "yarn": {"type": ("yarn", TEXT), "factor": (4.0, F32), "attn_factor": (1.0, F32)}
        | {"original_context_length": (10, U32)},
    }
    changes = {f"rope__scaling__{key}": v for key, v in changes.get(rope_type, {}).items()}
    if rope_type == "legacy":
        changes = {"rope__scale_linear": (4.0, F32)}
    file = llama_cpp_file("llama_llama3", tmp_path / "model.gguf", factors=False, **changes)
    scalings = [json.loads(scaling)["rope_type"] for scaling in ROTARY["scalings"]]
    truth = ROTARY["logits"][scalings.index("yarn" if rope_type == "yarn" else "linear")]
    np.testing.assert_allclose(gk.convert.load(file)(ROTARY["token_ids"]), truth, atol=1e-4)


def test_factors_of_ones_scale_nothing_and_are_not_combined(tmp_path):
    path = tmp_path / "model.gguf"
    scaling = {"rope_type": "factors", "factors": [1.0, 2.0, 3.0, 4.5]}
    model = gk.GPTCausalLM(tiny_config(**MODERN, rotary_scaling=scaling))
    gk.convert.to_gguf(model, path)
    assert gk.convert.load(path).config == gguf_files.read_config(path) == model.config
    metadata, shapes = read_header(path).metadata, {"token_embd.weight": (32, 32)}
    shapes |= {str(i): () for i in range(9)}
    architecture = ARCHITECTURES["llama"]
    assert architecture.to_config(metadata, shapes, [1.0] * 4).rotary_scaling is None
    metadata["llama.rope.scaling.factor"] = 2.0
    with pytest.raises(ValueError, match=r"rope_freqs.weight, but rope.scaling.type is 'linear'"):
        architecture.to_config(metadata, shapes, [1.0, 2.0, 3.0, 4.0])


# There and back.


@pytest.mark.parametrize("name", CONFIGS)
def test_f32_comes_back_as_it_was(name, tmp_path):
    model = model_of(name)
    gk.convert.to_gguf(model, tmp_path / "model.gguf", dtype="f32")
    back = gk.convert.from_gguf(tmp_path / "model.gguf")
    assert back.config == model.config.replace(dropout=0.0)
    for ours, theirs in zip(back.backbone.weights, model.backbone.weights, strict=True):
        if "seed" not in ours.path:
            np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(back(TOKEN_IDS), model(TOKEN_IDS))


def q8_0(matrix):
    """Each 32 neighbours as whole numbers up to 127, times a float16."""
    blocks = matrix.reshape(-1, 32)
    scale = np.abs(blocks).max(1, keepdims=True) / np.float32(127)
    whole = np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale > 0)
    whole = np.sign(whole) * np.floor(np.abs(whole) + np.float32(0.5))
    return (whole * scale.astype("float16").astype("float32")).reshape(matrix.shape)


@pytest.mark.parametrize("dtype", ["f16", "q8_0"])
def test_matrices_are_rounded_as_the_type_says(dtype, tmp_path):
    for name in ("gpt2", "llama_head_dim"):
        model = model_of(name)
        gk.convert.to_gguf(model, tmp_path / "exact.gguf", dtype="f32")
        gk.convert.to_gguf(model, tmp_path / "rounded.gguf", dtype=dtype)
        exact, rounded = stored(tmp_path / "exact.gguf"), stored(tmp_path / "rounded.gguf")
        kinds = set()
        for key, (_, values) in exact.items():
            kind, found = rounded[key]
            if values.ndim == 1 or key == "position_embd.weight":
                assert kind == "F32"
                np.testing.assert_array_equal(found, values)
                continue
            kinds.add(kind)
            assert kind == ("Q8_0" if dtype == "q8_0" and values.shape[-1] % 32 == 0 else "F16")
            as_rounded = q8_0(values) if kind == "Q8_0" else values.astype("float16")
            np.testing.assert_array_equal(found, as_rounded.astype("float32"))
        if name == "llama_head_dim":  # 24 columns go into the output projection
            assert kinds == ({"Q8_0", "F16"} if dtype == "q8_0" else {"F16"})
        back = gk.convert.from_gguf(tmp_path / "rounded.gguf")
        kernel = back.backbone.blocks[1].feed_forward.up.kernel
        np.testing.assert_array_equal(kernel, rounded["blk.1.ffn_up.weight"][1].T)


def test_what_the_gguf_package_reads(tmp_path):
    gk.convert.to_gguf(model_of("llama"), tmp_path / "model.gguf")
    fields = gguf.GGUFReader(tmp_path / "model.gguf").fields
    values = {key: field.contents() for key, field in fields.items()}
    assert values["general.architecture"] == "llama"
    assert values["general.file_type"] == gguf.LlamaFileType.MOSTLY_F16
    assert values["llama.attention.head_count"] == 4
    assert values["llama.attention.head_count_kv"] == 2
    assert values["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)
    assert values["llama.rope.freq_base"] == 5e5
    assert values["llama.rope.dimension_count"] == values["llama.attention.key_length"] == 8
    assert values["llama.vocab_size"] == 32
    assert values["tokenizer.ggml.model"] == "none"


def test_the_chat_template_travels(tmp_path):
    model = gk.GPTCausalLM(CONFIGS["gpt2"])
    model.chat_template = "{% for message in messages %}é{{ message }}{% endfor %}"
    gk.convert.to_gguf(model, tmp_path / "model.gguf")
    back = gk.convert.load(tmp_path / "model.gguf")
    back.save_to_preset(tmp_path / "preset")
    back.save(tmp_path / "model.keras")
    for again in (tmp_path / "preset", tmp_path / "model.keras"):
        assert gk.convert.load(again).chat_template == model.chat_template
    general = gk.CausalLM(back.backbone)
    general.chat_template = "x"
    assert gk.CausalLM.from_config(general.get_config()).chat_template == "x"


READS_TOKENIZERS = importlib.util.find_spec("gpt_keras.tokenizers.gguf") is not None


@pytest.mark.skipif(not READS_TOKENIZERS, reason="gk.tokenizers.load does not read GGUF files")
@pytest.mark.parametrize("more_ids", [0, 3])
def test_the_tokenizer_travels(more_ids, tmp_path):
    tokenizer = gk.tokenizers.BytePairTokenizer.train(["to be or not to be"], vocabulary_size=270)
    size = tokenizer.vocabulary_size + more_ids
    model = gk.GPTCausalLM(CONFIGS["gpt2"].replace(vocabulary_size=size), tokenizer=tokenizer)
    gk.convert.to_gguf(model, tmp_path / "model.gguf")
    back = gk.convert.load(tmp_path / "model.gguf").tokenizer
    if more_ids == 0:
        assert back == tokenizer
    assert back.vocabulary_size == size
    assert back.special_tokens == tokenizer.special_tokens
    assert back.encode("to bé or not") == tokenizer.encode("to bé or not")
    fields = gguf.GGUFReader(tmp_path / "model.gguf").fields
    assert fields["tokenizer.ggml.eos_token_id"].contents() == tokenizer.end_of_text_id
    assert len(fields["tokenizer.ggml.tokens"].contents()) == size


@pytest.mark.skipif(not READS_TOKENIZERS, reason="gk.tokenizers.load does not read GGUF files")
@pytest.mark.parametrize("split", ["smollm", "qwen2", "llama-bpe"])
def test_the_split_of_the_tokenizer_travels(split, tmp_path):
    vocabulary = json.loads(gk.tokenizers.BytePairTokenizer.gpt2().to_json())["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.get)[:257]
    writer = gguf.GGUFWriter(tmp_path / "tokenizer.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_merges(["Ġ t"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    tokenizer = gk.tokenizers.load(tmp_path / "tokenizer.gguf")
    model = gk.GPTCausalLM(CONFIGS["qwen2"].replace(vocabulary_size=257), tokenizer=tokenizer)
    gk.convert.to_gguf(model, tmp_path / "model.gguf")
    assert gk.convert.load(tmp_path / "model.gguf").tokenizer == tokenizer


# The types of values, each by its formula; layouts are those of ggml's block structs.


def f16(raw):
    return raw.view("<f2").astype("float32")[0]


def nibbles(raw):
    return np.concatenate([raw & 15, raw >> 4]).astype("float32")


def fifth_bits(raw):
    return np.array([int(raw.view("<u4")[0]) >> i & 1 for i in range(32)], "float32")


def scale_and_min(scales, i):
    if i < 4:
        return scales[i] & 63, scales[i + 4] & 63
    low, high = scales[i + 4] & 15, scales[i + 4] >> 4
    return low | scales[i - 4] >> 6 << 4, high | scales[i] >> 6 << 4


def q4_or_q5_k(raw, has_fifth_bits):
    d, least, scales, quants = f16(raw[:2]), f16(raw[2:4]), raw[4:16], raw[-128:]
    values = []
    for i in range(8):
        scale, minimum = scale_and_min(scales, i)
        group = quants[i // 2 * 32 :][:32]
        whole = (group >> 4 if i % 2 else group & 15).astype("float32")
        if has_fifth_bits:
            whole += 16 * (raw[16:48] >> i & 1)
        values.append(d * scale * whole - least * minimum)
    return np.concatenate(values)


def q6_k(raw):
    low, high, scales, d = raw[:128], raw[128:192], raw[192:208].view("i1"), f16(raw[208:])
    values = np.zeros(256, "float32")
    for i in range(256):
        half, quarter, position = i // 128, i % 128 // 32, i % 32
        byte = low[64 * half + 32 * (quarter % 2) + position]
        whole = int(byte >> 4 if quarter >= 2 else byte & 15)
        whole += int(high[32 * half + position] >> 2 * quarter & 3) << 4
        values[i] = d * scales[i // 16] * (whole - 32)
    return values


# Bytes in a block, where float16 numbers stand in it, and its values.
FORMULAS = {
    "F32": (4, [], lambda raw: raw.view("<f4")),
    "F64": (8, [], lambda raw: raw.view("<f8")),
    "F16": (2, [0], lambda raw: raw.view("<f2")),
    "BF16": (2, [], lambda raw: raw.view(ml_dtypes.bfloat16)),
    "Q4_0": (18, [0], lambda raw: f16(raw[:2]) * (nibbles(raw[2:]) - 8)),
    "Q4_1": (20, [0, 2], lambda raw: f16(raw[:2]) * nibbles(raw[4:]) + f16(raw[2:4])),
    "Q5_0": (
        22,
        [0],
        lambda raw: f16(raw[:2]) * (nibbles(raw[6:]) + 16 * fifth_bits(raw[2:6]) - 16),
    ),
    "Q5_1": (
        24,
        [0, 2],
        lambda raw: f16(raw[:2]) * (nibbles(raw[8:]) + 16 * fifth_bits(raw[4:8])) + f16(raw[2:4]),
    ),
    "Q8_0": (34, [0], lambda raw: f16(raw[:2]) * raw[2:].view("i1")),
    "Q4_K": (144, [0, 2], lambda raw: q4_or_q5_k(raw, False)),
    "Q5_K": (176, [0, 2], lambda raw: q4_or_q5_k(raw, True)),
    "Q6_K": (210, [208], q6_k),
}


@pytest.mark.parametrize("kind", FORMULAS)
def test_values_of_each_type(kind, tmp_path):
    size, scales, formula = FORMULAS[kind]
    generator = np.random.default_rng(0)
    raw = generator.integers(0, 256, (6, 512 // 32 * 8, size), "uint8")
    numbers_of = {"F32": "f4", "F64": "f8", "BF16": ml_dtypes.bfloat16}
    if kind in numbers_of:
        numbers = generator.normal(size=raw.shape[:2])
        raw = numbers.astype(numbers_of[kind])[..., None].view("u1")
    for at in scales:
        numbers = generator.normal(size=raw.shape[:2]).astype("<f2")
        raw[..., at : at + 2] = numbers[..., None].view("u1")
    writer = gguf.GGUFWriter(tmp_path / "file", "llama")
    rows = np.ascontiguousarray(raw.reshape(6, -1))
    kind_number = gguf.GGMLQuantizationType[kind]
    writer.add_tensor("before", np.ones(3, "f4"))
    writer.add_tensor("x", rows.view("u1"), raw_dtype=kind_number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tensors = GGUFTensors(tmp_path / "file", read_header(tmp_path / "file"))
    wanted = np.stack([np.concatenate([formula(block) for block in row]) for row in raw])
    found = np.asarray(tensors.read("x"))
    assert found.dtype == np.float32
    assert found.shape == tensors.shapes()["x"] == wanted.shape
    np.testing.assert_allclose(found, wanted.astype("float32"), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(tensors.read("x")[2:5], found[2:5])


def test_every_type_that_the_gguf_package_dequantizes_is_read(tmp_path):
    generator, wanted = np.random.default_rng(0), {}
    writer = gguf.GGUFWriter(tmp_path / "file", "llama")
    for kind in gguf.GGMLQuantizationType:
        size = gguf.GGML_QUANT_SIZES[kind][1]
        raw = generator.integers(0, 256, (3, 2 * size), "uint8")
        try:
            with np.errstate(all="ignore"):
                wanted[kind.name] = gguf.dequantize(raw, kind)
        except NotImplementedError:
            continue
        writer.add_tensor(kind.name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert {"Q2_K", "Q3_K", "IQ4_XS", "IQ2_XXS", "TQ1_0", "MXFP4"} <= wanted.keys()
    tensors = GGUFTensors(tmp_path / "file", read_header(tmp_path / "file"))
    with np.errstate(all="ignore"):
        for name, values in wanted.items():
            np.testing.assert_array_equal(tensors.read(name)[1:3], values[1:3])


def test_long_tensors_are_read_in_parts(tmp_path, monkeypatch):
    model = model_of("llama")
    gk.convert.to_gguf(model, tmp_path / "model.gguf", dtype="q8_0")
    whole = gk.convert.from_gguf(tmp_path / "model.gguf").get_weights()
    monkeypatch.setattr("gpt_keras.convert.gguf.tensors._CHUNK", 100)
    for a, b in zip(gk.convert.from_gguf(tmp_path / "model.gguf").get_weights(), whole):
        np.testing.assert_array_equal(a, b)


# Refusals.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "mamba"}, r"architecture is 'mamba'.* gpt2, qwen2, qwen3, llama"),
        ({"rope__scaling__type": ("ntk", TEXT)}, r"rope.scaling.type is 'ntk', which a GPT"),
        ({"rope__scaling__attn_factor": (2.0, F32)}, r"rope.scaling.attn_factor is 2.0"),
        ({"rope__scaling__factor": (-8.0, F32)}, r"`factor` must be a number above 0"),
        ({"expert_count": (8, U32)}, r"expert_count is 8"),
        ({"attention__sliding_window": (64, U32)}, r"attention.sliding_window is 64"),
        ({"vocab_size": (51, U32)}, r"vocab_size is 51 and token_embd.weight is 50"),
        ({"rope__dimension_count": (4, U32)}, r"rope.dimension_count is 4 and attention.key_len"),
        ({"attention__value_length": (4, U32)}, r"attention.value_length is 4 and attention.key"),
        ({"block_count": (3, U32)}, r"missing: blk.2.attn_norm.weight.* and \d+ more"),
        ({"block_count": (1, U32)}, r"not known: blk.1"),
        ({"block_count": (4_000_000_000, U32)}, r"block_count is 4000000000, but there are only"),
        ({"attention__head_count": ("4", TEXT)}, r"`num_heads` must be an integer"),
        ({"attention__head_count": ([4, 4], gguf.GGUFValueType.ARRAY)}, r"num_heads` must be"),
        ({"feed_forward_length": (21, U32)}, r"ffn_up.weight is \(20, 16\) and should be \(21, 16"),
        ({"rope__freq_base": (-1.0, F32)}, r"`rotary_base` must be"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_a_gpt_does_not_have_is_refused(changes, message, tmp_path):
    file = llama_cpp_file("llama", tmp_path / "model.gguf", **changes)
    with pytest.raises(ValueError, match=rf"model.gguf'.*{message}"):
        gk.convert.from_gguf(file)


def test_scaling_by_none_and_no_experts_are_nothing(tmp_path):
    changes = {"rope__scaling__type": ("none", TEXT), "expert_count": (0, U32)}
    changes |= {"rope__scaling__factor": (8.0, F32)}
    file = llama_cpp_file("llama", tmp_path / "model.gguf", **changes)
    config = gk.convert.from_gguf(file).config
    assert (config.num_experts, config.rotary_scaling) == (None, None)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    gk.convert.to_gguf(gk.GPTCausalLM(CONFIGS["gpt2"]), path)
    return path.read_bytes()


@pytest.mark.parametrize("length", [0, 3, 8, 20, 100, 700, -10_000, -1])
def test_a_file_that_was_cut_short_is_refused(length, small_file, tmp_path):
    (tmp_path / "cut.gguf").write_bytes(small_file[:length])
    with pytest.raises(ValueError, match=r"cut\.gguf' cannot be read"):
        gk.convert.load(tmp_path / "cut.gguf")


def test_damaged_heads_are_refused_or_read(small_file, tmp_path):
    # Never another error, a hang or no end of memory.
    size = read_header_size(small_file, tmp_path)
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(small_file)
        at = int(generator.integers(size))
        if generator.integers(2):
            damaged[at] = int(generator.integers(256))
        else:
            damaged[at : at + 8] = struct.pack("<Q", 2 ** int(generator.integers(64)))
        (tmp_path / "damaged.gguf").write_bytes(damaged)
        try:
            header = read_header(tmp_path / "damaged.gguf")
            GGUFTensors(tmp_path / "damaged.gguf", header)
        except ValueError:
            refused += 1
    assert refused > 100


def read_header_size(content, folder):
    (folder / "whole.gguf").write_bytes(content)
    return min(info.offset for info in read_header(folder / "whole.gguf").tensors.values())


def test_types_that_are_not_read(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    raw = np.zeros((4, 40), "uint8")
    writer.add_tensor("token_embd.weight", raw, raw_dtype=gguf.GGMLQuantizationType.Q8_1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match=r"token_embd.weight is Q8_1"):
        gk.convert.from_gguf(tmp_path / "model.gguf")
    content = bytearray((tmp_path / "model.gguf").read_bytes())
    at = content.index(b"token_embd.weight") + len("token_embd.weight") + 4 + 2 * 8
    content[at : at + 4] = struct.pack("<I", 999)
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(ValueError, match=r"token_embd.weight is 999"):
        gk.convert.from_gguf(tmp_path / "model.gguf")
    with pytest.raises(ValueError, match=r"no file .*nothing\.gguf"):
        gk.convert.from_gguf(tmp_path / "nothing.gguf")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position_embedding": "sinusoidal"}, r"gpt2: position_embedding is 'sinusoidal', read"),
        ({"activation": "relu"}, r"gpt2: activation is 'relu', read back as 'gelu_tanh'"),
        ({"head_dim": 10}, r"gpt2: head_dim is 10, read back as 8"),
        ({"attention_windows": (4,)}, r"gpt2: attention_windows is \(4,\)"),
        (MODERN | {"num_experts": 2}, r"\nllama: num_experts is 2, read back as None"),
    ],
)
def test_a_model_that_no_file_holds(changes, message, tmp_path):
    model = gk.GPTCausalLM(tiny_config(**changes))
    with pytest.raises(ValueError, match=message):
        gk.convert.to_gguf(model, tmp_path / "model.gguf")
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments(tmp_path, character_tokenizer):
    model = gk.GPTCausalLM(CONFIGS["gpt2"])
    with pytest.raises(ValueError, match=r"`dtype` must be .*'q4_0'"):
        gk.convert.to_gguf(model, tmp_path / "model.gguf", dtype="q4_0")
    with pytest.raises(ValueError, match=r"`path` must end in \.gguf"):
        gk.convert.to_gguf(model, tmp_path / "model.bin")
    with pytest.raises(ValueError, match=r"`model` must be a CausalLM"):
        gk.convert.to_gguf("gpt2", tmp_path / "model.gguf")
    gated = gk.CausalLM(gk.GPT(tiny_config(), residual=gk.layers.GRUGate()))
    with pytest.raises(ValueError, match=r"weights that GGUF's.*attention_residual"):
        gk.convert.to_gguf(gated, tmp_path / "model.gguf")
    model.tokenizer = character_tokenizer
    with pytest.raises(ValueError, match=r"a BytePairTokenizer.*CharacterTokenizer"):
        gk.convert.to_gguf(model, tmp_path / "model.gguf")
    model.tokenizer = None
    model.backbone.blocks[0].feed_forward.up.kernel.assign(np.full((32, 128), 1e5))
    with pytest.raises(ValueError, match=r"`dtype` must be 'f32': blk.0.ffn_up.weight has values"):
        gk.convert.to_gguf(model, tmp_path / "model.gguf")
    assert list(tmp_path.iterdir()) == []


REAL = sorted(pathlib.Path(os.environ.get("GPT_KERAS_TEST_DATA", "")).glob("smollm2/*.gguf"))


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="needs GPT_KERAS_TEST_DATA with smollm2/*.gguf")
def test_smollm2():
    model = gk.convert.load(REAL[0])
    assert model.config == gk.presets.get("smollm2_135m")
    assert model.chat_template.startswith("{% for message in messages %}")
    # As transformers 5.23 continues with the same file: "The capital of France is Paris."
    prompt = [504, 3575, 282, 4649, 314]
    made = model.generate(prompt, max_new_tokens=2, temperature=0)
    assert made == [*prompt, 7042, 30]
