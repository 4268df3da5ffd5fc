"""`hf://` names, from a cache of our own: no test asks a network."""

import shutil
import sys

import huggingface_hub
import numpy as np
import pytest
from huggingface_fixtures import FIXTURES, expected
from huggingface_hub import constants

import gpt_keras as gk
from gpt_keras.convert.pretrained import cached_file

COMMITS = {"main": "1" * 40, "v2": "2" * 40}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache with two revisions of a model, as huggingface_hub lays it out."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model = tmp_path / "cache" / "models--someone--tiny.model"
    (model / "refs").mkdir(parents=True)
    for (revision, commit), name in zip(COMMITS.items(), ["gpt2", "llama"], strict=True):
        (model / "refs" / revision).write_text(commit)
        shutil.copytree(FIXTURES / name, model / "snapshots" / commit)
    return model


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("hf://someone/tiny.model", "gpt2"),
        ("hf://someone/tiny.model@v2", "llama"),
        (f"hf://someone/tiny.model@{COMMITS['v2']}", "llama"),
    ],
)
def test_a_revision_from_the_cache(source, name):
    stored = expected(name)
    logits = gk.GPTCausalLM.from_preset(source)(stored["token_ids"])
    np.testing.assert_allclose(logits, stored["logits"], atol=1e-4)


@pytest.mark.parametrize(
    ("source", "pinned", "name"),
    [
        ("hf://someone/tiny.model", f"hf://someone/tiny.model@{COMMITS['main']}", "gpt2"),
        ("hf://someone/tiny.model@v2", f"hf://someone/tiny.model@{COMMITS['v2']}", "llama"),
        ("our_name", f"hf://someone/tiny.model@{COMMITS['v2']}", "llama"),
    ],
)
def test_a_pinned_name_stays_at_its_commit(source, pinned, name, cache, monkeypatch):
    monkeypatch.setitem(gk.convert.PRETRAINED, "our_name", "hf://someone/tiny.model@v2")
    assert gk.convert.pinned(source) == pinned
    assert gk.convert.pinned(pinned) == pinned
    for ref, commit in zip(COMMITS, reversed(COMMITS.values()), strict=True):
        (cache / "refs" / ref).write_text(commit)  # as if the branches had moved
    assert gk.convert.pinned(source) != pinned
    stored = expected(name)
    logits = gk.GPTCausalLM.from_preset(pinned)(stored["token_ids"])
    np.testing.assert_allclose(logits, stored["logits"], atol=1e-4)


def test_what_is_not_on_the_hub_cannot_be_pinned(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"`source` must be on the hub, .*, got 'model.gguf'"):
        gk.convert.pinned("model.gguf")
    monkeypatch.setenv("GPT_KERAS_CACHE", str(tmp_path))
    file = cached_file("gpt2_small")
    file.parent.mkdir()
    file.touch()
    with pytest.raises(ValueError, match=r"must be on the hub, .*gpt2_small\.gguf"):
        gk.convert.pinned("gpt2_small")


def test_a_preset_of_ours_on_the_hub(cache):
    model = gk.convert.load("hf://someone/tiny.model")
    shutil.rmtree(cache / "snapshots" / COMMITS["main"])
    model.save_to_preset(cache / "snapshots" / COMMITS["main"])
    assert gk.GPTCausalLM.from_preset("hf://someone/tiny.model").config == model.config


def test_what_is_downloaded(monkeypatch, tmp_path):
    asked = {}

    def snapshot_download(repository, **kwargs):
        asked.update(kwargs, repository=repository)
        return str(FIXTURES / "gpt2")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    gk.convert.load("hf://openai-community/gpt2@main")
    assert (asked["repository"], asked["revision"]) == ("openai-community/gpt2", "main")
    files = """model.safetensors model-00001-of-00002.safetensors model.safetensors.index.json
        config.json generation_config.json tokenizer.json tokenizer_config.json vocab.json
        merges.txt tokenizer.model model.weights.h5"""
    others = """pytorch_model.bin tf_model.h5 flax_model.msgpack rust_model.ot 64.tflite
        onnx/config.json consolidated.safetensors original/tokenizer.model README.md
        consolidated.00.pth"""

    def kept(names):
        wanted = asked["allow_patterns"], asked["ignore_patterns"]
        return list(
            huggingface_hub.utils.filter_repo_objects(
                names.split(),
                **dict(zip(("allow_patterns", "ignore_patterns"), wanted, strict=True)),
            )
        )

    assert kept(files) == files.split()
    assert kept(others) == []


def test_names_that_are_not_there():
    with pytest.raises(ValueError, match=r"'hf://someone/other' cannot be downloaded"):
        gk.convert.load("hf://someone/other")
    with pytest.raises(ValueError, match=r"hf://owner/name@revision, got 'hf://gpt2'"):
        gk.convert.load("hf://gpt2")


def test_the_package_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"huggingface_hub: pip install 'gpt_keras\[hub\]'"):
        gk.convert.load("hf://someone/tiny.model")
