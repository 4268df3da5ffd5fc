import keras
import numpy as np
import pytest
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.chat import CHATML, ChatTemplate, add_chatml

START, END = "<|im_start|>", "<|im_end|>"
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " Hello\n"},
    {"role": "assistant", "content": "Hi."},
    {"role": "tool", "content": ""},
]


@pytest.fixture(scope="module")
def tokenizer():
    return gk.tokenizers.BytePairTokenizer.train("user assistant hello", 262)


def model_of(tokenizer, extra_ids=0, **changes):
    size = tokenizer.vocabulary_size + extra_ids
    config = tiny_config(vocabulary_size=size, **changes)
    return spread_weights(gk.GPTCausalLM(config, tokenizer=tokenizer))


def test_messages_stand_between_the_markers():
    assert ChatTemplate(CHATML).render(MESSAGES) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hello\n<|im_end|>\n"
        "<|im_start|>assistant\nHi.<|im_end|>\n<|im_start|>tool\n<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    for more in ({"tools": [{"name": "sum"}]}, {}):
        called = [*MESSAGES[:2], {"role": "assistant", "tool_calls": [{"name": "sum"}]}]
        with pytest.raises(ValueError, match="ChatML has no form for tool"):
            ChatTemplate(CHATML).render(MESSAGES if more else called, **more)


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("extra_ids", [0, 1, 5])
def test_new_ids_have_mean_weights_and_the_others_stay(tokenizer, tie, extra_ids):
    model = model_of(tokenizer, extra_ids, tie_embeddings=tie)
    old = tokenizer.vocabulary_size
    chat = add_chatml(model)
    assert type(chat) is gk.GPTCausalLM
    assert chat.vocabulary_size == old + max(extra_ids, 2)
    assert chat.tokenizer.special_tokens == tokenizer.special_tokens | {START: old, END: old + 1}
    assert chat.end_token_ids == (old + 1, tokenizer.end_of_text_id)
    assert model.chat_template is None
    assert model.tokenizer is tokenizer
    before, after = (
        [np.array(m.backbone.token_embedding.embeddings)]
        + ([] if tie else [np.array(m.backbone.token_embedding.reverse_embeddings).T])
        for m in (model, chat)
    )
    for rows, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new[:old], rows[:old])
        np.testing.assert_allclose(new[old : old + 2], np.tile(rows[:old].mean(0), (2, 1)), 1e-5)
        np.testing.assert_array_equal(new[old + 2 :], rows[old + 2 :])
    ids = np.array([tokenizer.encode("hello user")])
    np.testing.assert_allclose(chat(ids)[..., :old], model(ids)[..., :old], atol=1e-5)


def test_it_is_saved_with_the_model(tokenizer, tmp_path):
    chat = add_chatml(model_of(tokenizer))
    chat.save_to_preset(tmp_path / "chat")
    chat.save(tmp_path / "chat.keras")
    for path in (tmp_path / "chat", tmp_path / "chat.keras"):
        loaded = gk.GPTCausalLM.from_preset(path)
        assert loaded.chat_template == CHATML
        assert loaded.tokenizer == chat.tokenizer
        assert loaded.end_token_ids == chat.end_token_ids
        for value, expected in zip(loaded.get_weights(), chat.get_weights(), strict=True):
            np.testing.assert_array_equal(value, expected)
    said = [
        "".join(gk.chat.Conversation(m, max_new_tokens=4, seed=0).say("hello"))
        for m in (chat, loaded)
    ]
    assert said[0] == said[1]


def test_tokens_that_exist_are_used(tokenizer):
    trained = gk.tokenizers.BytePairTokenizer.train(
        "user", 262, special_tokens=["<|endoftext|>", END, START]
    )
    model = model_of(trained)
    chat = add_chatml(model)
    assert chat.tokenizer == trained
    assert chat.end_token_ids[0] == trained.special_tokens[END]
    for value, expected in zip(chat.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_other_backbones_dtypes_and_frozen_layers(tokenizer):
    lstm = gk.LSTMBackbone(tokenizer.vocabulary_size, num_layers=1, hidden_dim=8)
    chat = add_chatml(gk.CausalLM(lstm, tokenizer=tokenizer))
    assert type(chat.backbone) is gk.LSTMBackbone
    assert chat.vocabulary_size == tokenizer.vocabulary_size + 2
    config = tiny_config(vocabulary_size=tokenizer.vocabulary_size)
    model = gk.GPTCausalLM(config, tokenizer=tokenizer, dtype="bfloat16", name="poet")
    model.backbone.get_layer("block_0").trainable = False
    chat = add_chatml(model)
    assert chat.name == "poet"
    assert chat.backbone.token_embedding.embeddings.dtype == "bfloat16"
    assert len(chat.trainable_variables) == len(model.trainable_variables)


def test_models_that_are_refused(tokenizer):
    config = tiny_config(vocabulary_size=tokenizer.vocabulary_size)
    model = gk.GPTCausalLM(config, tokenizer=tokenizer)
    with pytest.raises(ValueError, match="must have a tokenizer"):
        add_chatml(gk.GPTCausalLM(config))
    with pytest.raises(ValueError, match="must have no chat template"):
        add_chatml(add_chatml(model))
    characters = gk.tokenizers.CharacterTokenizer("abc")
    with pytest.raises(ValueError, match="CharacterTokenizer cannot have further tokens"):
        add_chatml(gk.GPTCausalLM(config, tokenizer=characters))
    size = tokenizer.vocabulary_size
    own = keras.Sequential(
        [keras.Input((None,), dtype="int32"), keras.layers.Embedding(size, size)]
    )
    with pytest.raises(ValueError, match="with_vocabulary_size"):
        add_chatml(gk.CausalLM(own, tokenizer=tokenizer))
    model.enable_lora(2)
    with pytest.raises(ValueError, match="LoRA"):
        add_chatml(model)
    model.remove_adapter()
    model.quantize("int8")
    with pytest.raises(ValueError, match="quantized"):
        add_chatml(model)
