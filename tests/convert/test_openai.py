import json
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from huggingface_fixtures import FIXTURES, expected
from safetensors.numpy import load_file
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.convert.openai import _NumpyFiles

# GPT-2: transformers' names of a fixture's tensors, and its logits.

HPARAMS = {"n_vocab": 50, "n_ctx": 20, "n_embd": 16, "n_head": 4, "n_layer": 2}


def gpt2_tensors():
    """The fixture's weights under the names that OpenAI's code gives them."""
    tensors = {}
    for name, values in load_file(FIXTURES / "gpt2" / "model.safetensors").items():
        *scopes, kind = name.removeprefix("transformer.").replace("h.", "h", 1).split(".")
        scope = "/".join(scopes)
        if scope in ("wte", "wpe"):
            tensors[f"model/{scope}"] = values
        elif scopes[-1].startswith("ln_"):
            tensors[f"model/{scope}/{'g' if kind == 'weight' else 'b'}"] = values
        elif kind == "weight":
            tensors[f"model/{scope}/w"] = values[None]  # a convolution of width 1
        else:
            tensors[f"model/{scope}/b"] = values
    return tensors


def save(prefix, tensors):
    """Write a checkpoint as the savers of TensorFlow 1 do."""
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )


def gpt2_folder(folder, tensors=None, name="model.ckpt", hparams=HPARAMS):
    folder.mkdir(exist_ok=True)
    save(folder / name, gpt2_tensors() if tensors is None else tensors)
    (folder / "hparams.json").write_text(json.dumps(hparams))
    (folder / "checkpoint").write_text(
        f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n'
    )
    return folder


def check_gpt2(model):
    truth = expected("gpt2")
    np.testing.assert_allclose(model(truth["token_ids"]), truth["logits"], atol=1e-4)


def test_gpt2_gives_the_logits_of_transformers(tmp_path):
    model = gk.convert.load(gpt2_folder(tmp_path / "124M"))
    check_gpt2(model)
    assert model.config.dropout == 0.1
    assert model.tokenizer is None


def test_what_the_optimizer_kept_is_left_out(tmp_path):
    tensors = gpt2_tensors()
    slots = {
        f"{name}/{slot}": np.full_like(values, np.nan)
        for name, values in tensors.items()
        for slot in ("Adam", "Adam_1")
    }
    counters = {"beta1_power": 0.9, "beta2_power": 0.999, "train/beta1_power": 0.9}
    counters = {name: np.float32(value) for name, value in counters.items()}
    folder = gpt2_folder(
        tmp_path / "run1",
        tensors | slots | counters | {"global_step": np.int64(1000)},
        name="model-1000",
    )
    check_gpt2(gk.convert.from_openai(folder))


def test_which_checkpoint(tmp_path):
    folder = gpt2_folder(tmp_path / "run1", name="model-2000")
    other = {name: values * 0 for name, values in gpt2_tensors().items()}
    save(folder / "model-1000", other)
    check_gpt2(gk.convert.from_openai(folder))
    (folder / "checkpoint").unlink()
    with pytest.raises(ValueError, match=r"several of them: model-1000, model-2000\."):
        gk.convert.from_openai(folder)
    for file in folder.glob("model-1000*"):
        file.unlink()
    check_gpt2(gk.convert.from_openai(folder))
    # Made elsewhere, where folders had other names.
    (folder / "checkpoint").write_text('model_checkpoint_path: "/content/run1/model-2000"\n')
    check_gpt2(gk.convert.from_openai(folder))
    for file in folder.glob("model-2000*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"run1'.* no checkpoint"):
        gk.convert.from_openai(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model/h1/mlp/c_fc/w"), r"missing: h1/mlp/c_fc/w"),
        (lambda t: t.update({"model/h2/ln_1/g": np.ones(16, "f4")}), r"not known: h2/ln_1/g"),
        (lambda t: t.update({"model/h1/attn/Adam": np.ones(16, "f4")}), r"not known: h1/attn/Adam"),
        (
            lambda t: t.update({"model/wpe": np.ones((21, 16), "f4")}),
            r"wpe is \(21, 16\) and should be \(20, 16\)",
        ),
        (
            lambda t: t.update({"model/h0/attn/c_proj/w": np.ones((2, 16, 16), "f4")}),
            r"h0/attn/c_proj/w is \(2, 16, 16\) and should be \(16, 16\)",
        ),
    ],
)
def test_checkpoints_that_do_not_fit(change, message, tmp_path):
    tensors = gpt2_tensors()
    change(tensors)
    with pytest.raises(ValueError, match=rf"124M' does not fit its config.*{message}"):
        gk.convert.from_openai(gpt2_folder(tmp_path / "124M", tensors))


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"n_vocab": 50}, r"must have the keys n_vocab, n_ctx.* but has n_vocab\."),
        (HPARAMS | {"n_experts": 2}, r"must have the keys .* but has .*n_experts"),
        (HPARAMS | {"n_head": 3}, r"does not describe a GPT-2: `hidden_dim` must be a multiple"),
        ([], r"must hold a dict"),
    ],
)
def test_wrong_hparams(hparams, message, tmp_path):
    with pytest.raises(ValueError, match=rf"hparams\.json' {message}"):
        gk.convert.from_openai(gpt2_folder(tmp_path / "124M", hparams=hparams))


def test_damaged_checkpoints(tmp_path):
    folder = gpt2_folder(tmp_path / "124M")
    data = next(folder.glob("*.data*"))
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"model\.ckpt' is damaged"):
        gk.convert.from_openai(folder)
    data.unlink()
    with pytest.raises(ValueError, match=r"model\.ckpt' is damaged"):
        gk.convert.from_openai(folder)
    data.write_bytes(whole)
    index = folder / "model.ckpt.index"
    index.write_bytes(index.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"model\.ckpt' is damaged"):
        gk.convert.from_openai(folder)
    (folder / "hparams.json").write_text("{")
    with pytest.raises(ValueError, match=r"hparams\.json' is damaged"):
        gk.convert.from_openai(folder)


# GPT-1: heads are 64 wide, as in the release.


@pytest.fixture(scope="module")
def gpt1():
    config = tiny_config(
        norm_position="post", hidden_dim=128, vocabulary_size=33, max_sequence_length=12
    )
    return spread_weights(gk.GPTCausalLM(config.replace(dropout=0.1)), stddev=0.1)


def gpt1_tensors(gpt):
    """All tensors in the order of OpenAI's `model.py`, with the axis of 1 that kernels have."""
    yield gpt.position_embedding.embeddings.numpy()
    yield gpt.token_embedding.embeddings.numpy()
    for block in gpt.blocks:
        attention = block.attention
        projections = (attention.query, attention.key, attention.value)
        yield np.concatenate([layer.kernel for layer in projections], axis=1)[None]
        yield np.concatenate([layer.bias for layer in projections])
        yield attention.output_projection.kernel.numpy()[None]
        yield attention.output_projection.bias.numpy()
        yield block.attention_norm.gamma.numpy()
        yield block.attention_norm.beta.numpy()
        for layer in (block.feed_forward.up, block.feed_forward.down):
            yield layer.kernel.numpy()[None]
            yield layer.bias.numpy()
        yield block.feed_forward_norm.gamma.numpy()
        yield block.feed_forward_norm.beta.numpy()


def gpt1_folder(model, folder, num_files=10):
    folder.mkdir()
    tensors = list(gpt1_tensors(model.backbone))
    (folder / "params_shapes.json").write_text(json.dumps([list(t.shape) for t in tensors]))
    row = np.concatenate([tensor.ravel() for tensor in tensors])
    for i, part in enumerate(np.array_split(row, num_files)):
        np.save(folder / f"params_{i}.npy", part)
    return folder


@pytest.mark.parametrize("num_files", [1, 10, 97])
def test_gpt1_from_any_number_of_files(num_files, gpt1, tmp_path):
    model = gk.convert.load(gpt1_folder(gpt1, tmp_path / "model", num_files))
    assert model.config == gpt1.config
    token_ids = np.arange(24).reshape(2, 12)
    np.testing.assert_array_equal(model(token_ids), gpt1(token_ids))


def test_gpt1_files_that_do_not_fit(gpt1, tmp_path):
    folder = gpt1_folder(gpt1, tmp_path / "model")
    (folder / "params_9.npy").rename(folder / "nine.npy")
    with pytest.raises(ValueError, match=r"model' has 9 files .* requires \d+"):
        gk.convert.from_openai(folder)
    (folder / "params_9.npy").write_bytes((folder / "nine.npy").read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"params_9\.npy' is damaged"):
        gk.convert.from_openai(folder)
    for wrong in (np.ones((2, 3), "f4"), np.ones(3, "i4")):
        np.save(folder / "params_9.npy", wrong)
        with pytest.raises(ValueError, match=r"params_9\.npy' must hold a vector of floating"):
            gk.convert.from_openai(folder)
    (folder / "nine.npy").replace(folder / "params_9.npy")
    shapes = json.loads((folder / "params_shapes.json").read_text())
    shapes[:2] = [[shapes[0][0] * 2, 64], [shapes[1][0], 128]]
    (folder / "params_shapes.json").write_text(json.dumps(shapes))
    with pytest.raises(ValueError, match=r"does not fit.*(missing|another shape)"):
        gk.convert.from_openai(folder)
    for wrong in (shapes[:-1], [*shapes[:-1], "x"]):
        (folder / "params_shapes.json").write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=r"params_shapes\.json' must list the shapes"):
            gk.convert.from_openai(folder)


REAL = pathlib.Path(os.environ.get("GPT_KERAS_TEST_DATA", "nowhere")) / "gpt1"


@pytest.mark.skipif(
    not (REAL / "params_shapes.json").is_file(),
    reason="GPT_KERAS_TEST_DATA has no gpt1/params_shapes.json",
)
def test_the_shapes_of_the_released_gpt1(tmp_path, monkeypatch):
    # Numbers that are nowhere: a file with holes, as long as the release.
    (tmp_path / "params_shapes.json").write_text((REAL / "params_shapes.json").read_text())
    num_values = gk.presets.get("gpt1").num_parameters
    np.lib.format.open_memmap(tmp_path / "params_0.npy", "w+", "f4", (num_values,))
    shapes = _NumpyFiles(tmp_path).shapes()
    assert shapes["wpe"] == (512, 768)
    assert shapes["wte"] == (40478, 768)
    assert shapes["h11/attn/c_attn/w"] == (768, 2304)
    assert shapes["h11/mlp/c_proj/w"] == (3072, 768)
    assert shapes["h11/mlp/c_fc/b"] == (3072,)
    assert len(shapes) == 2 + 12 * 12


def test_no_folder_of_openai(tmp_path):
    with pytest.raises(ValueError, match=r"must be a folder with hparams\.json or params_shapes"):
        gk.convert.from_openai(tmp_path)


READS_TOKENIZERS = hasattr(gk.tokenizers.BytePairTokenizer, "from_vocabulary")


@pytest.mark.skipif(not READS_TOKENIZERS, reason="gk.tokenizers.load does not read these files")
def test_the_tokenizer_of_the_folder(tmp_path):
    tokenizer = gk.tokenizers.BytePairTokenizer.train("to be or not to be", vocabulary_size=259)
    content = json.loads(tokenizer.to_json())
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    merges = [" ".join(merge) for merge in content["model"]["merges"]]
    tensors = gpt2_tensors()
    tensors["model/wte"] = np.ones((tokenizer.vocabulary_size, 16), "f4")
    hparams = HPARAMS | {"n_vocab": tokenizer.vocabulary_size}
    folder = gpt2_folder(tmp_path / "124M", tensors, hparams=hparams)
    (folder / "encoder.json").write_text(json.dumps(content["model"]["vocab"] | added))
    (folder / "vocab.bpe").write_text("\n".join(["#version: 0.2", *merges]), encoding="utf-8")
    assert gk.convert.load(folder).tokenizer == tokenizer


def test_a_tokenizer_that_cannot_be_read_is_a_warning(tmp_path):
    folder = gpt2_folder(tmp_path / "124M")
    (folder / "encoder.json").write_text("{")
    with pytest.warns(UserWarning, match="takes token ids only"):
        model = gk.convert.load(folder)
    check_gpt2(model)
