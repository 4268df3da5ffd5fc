"""What belongs to conversations travels with the weights."""

import json

import pytest

import gpt_keras as gk
from gpt_keras.convert.model_parts import read_chat_template, read_end_token_ids

TEMPLATE = "\n  {{ bos_token }}{% for m in messages %}{{ m.content }}\n{% endfor %}"


@pytest.fixture
def model():
    tokenizer = gk.tokenizers.BytePairTokenizer.train(
        "hello low", 262, special_tokens=["<s>", "<|endoftext|>"]
    ).with_boundaries("<s>")
    config = gk.GPTConfig(
        vocabulary_size=262, max_sequence_length=16, num_layers=1, num_heads=2, hidden_dim=4
    )
    return gk.GPTCausalLM(config, tokenizer=tokenizer)


def test_named_tokens_are_written_into_the_template(model):
    read_chat_template(model, TEMPLATE, {"bos_token": "‹😀>", "eos_token": "unused"})
    render = gk.chat.ChatTemplate(model.chat_template).render
    asked = [{"role": "user", "content": "a"}]
    named = gk.chat.ChatTemplate(TEMPLATE, {"bos_token": "‹😀>"}).render(asked)
    assert render(asked) == named == "\n  ‹😀>a\n"
    once = model.chat_template
    read_chat_template(model, once, {"bos_token": "other"})
    assert model.chat_template == once


@pytest.mark.parametrize("token_ids", [50256, [50256], -1, "3", [None], None, []])
def test_ends_that_are_no_ids_leave_the_tokenizers(model, token_ids):
    read_end_token_ids(model, token_ids)
    assert model.end_token_ids == (model.tokenizer.end_of_text_id,)


@pytest.mark.parametrize("has_tokenizer", [True, False])
def test_ends_and_template_come_back(model, has_tokenizer, tmp_path):
    model.tokenizer = model.tokenizer if has_tokenizer else None
    model.end_token_ids = [3, 1]
    model.chat_template = TEMPLATE
    gk.convert.to_huggingface(model, tmp_path / "folder")
    gk.convert.to_gguf(model, tmp_path / "model.gguf")
    for source in (tmp_path / "folder", tmp_path / "model.gguf"):
        loaded = gk.CausalLM.from_preset(source)
        assert loaded.end_token_ids == (3, 1)
        assert loaded.chat_template.endswith(TEMPLATE)
        assert loaded.chat_template.startswith("{%- set bos_token") == has_tokenizer
    model.end_token_ids = [0, 1, 2, 3]
    with pytest.raises(ValueError, match="at most 3"):
        gk.convert.to_gguf(model, tmp_path / "other.gguf")


def test_templates_with_names(model, tmp_path):
    gk.convert.to_huggingface(model, tmp_path / "folder")
    file = tmp_path / "folder" / "tokenizer_config.json"
    config = json.loads(file.read_text())
    for templates in ({"default": TEMPLATE}, [{"name": "default", "template": TEMPLATE}]):
        file.write_text(json.dumps(config | {"chat_template": templates}))
        assert gk.CausalLM.from_preset(tmp_path / "folder").chat_template.endswith(TEMPLATE)
