import json

import pytest

import gpt_keras as gk
from gpt_keras.chat import Conversation

TEMPLATE = (
    "{% for m in messages %}<|s|>{{ m.role }}:{{ m.content }}<|e|>{% endfor %}"
    "{% if add_generation_prompt %}<|s|>assistant:{% endif %}"
)


@pytest.fixture(scope="module")
def model():
    tokenizer = gk.tokenizers.BytePairTokenizer.train(
        "user assistant hello", 280, special_tokens=["<|endoftext|>", "<|s|>", "<|e|>"]
    )
    config = gk.GPTConfig(
        vocabulary_size=tokenizer.vocabulary_size,
        max_sequence_length=160,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
    )
    end = [tokenizer.special_tokens["<|e|>"]]
    return gk.GPTCausalLM(config, tokenizer=tokenizer, chat_template=TEMPLATE, end_token_ids=end)


def test_each_turn_is_what_generate_makes_of_the_whole_conversation(model):
    conversation = Conversation(model, system="short", max_new_tokens=4, seed=0)
    tokenizer = model.tokenizer
    written = "<|s|>system:short<|e|>"
    for text in ("hello", "詩 <|e|>"):
        ids = tokenizer.encode(written + "<|s|>user:", "all") + tokenizer.encode(text)
        ids += tokenizer.encode("<|e|><|s|>assistant:", "all")
        answer = tokenizer.decode(model.generate(ids, max_new_tokens=4, seed=0)[len(ids) :])
        assert "".join(conversation.say(text)) == answer
        assert "<|" not in answer  # or the next prompt would not be this:
        written += f"<|s|>user:{text}<|e|><|s|>assistant:{answer}<|e|>"
    assert [m["role"] for m in conversation.messages][:3] == ["system", "user", "assistant"]
    assert conversation.messages[-1] == {"role": "assistant", "content": answer}


def test_an_answer_that_is_not_read_to_its_end_is_kept_as_far(model):
    conversation = Conversation(model, max_new_tokens=20, seed=1)
    first = next(conversation.say("hello"))
    assert conversation.messages == [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": first},
    ]


def test_reset_and_save(model, tmp_path):
    conversation = Conversation(model, system="short", max_new_tokens=2, seed=0)
    list(conversation.say("春眠"))
    conversation.save(tmp_path / "chat.json")
    text = (tmp_path / "chat.json").read_text(encoding="utf-8")
    assert json.loads(text) == conversation.messages
    assert "春眠" in text
    conversation.reset()
    assert conversation.messages == [{"role": "system", "content": "short"}]


def test_warming_up_leaves_nothing_behind(model):
    conversation = Conversation(model, max_new_tokens=4, seed=0)
    cold = "".join(conversation.say("hello"))
    conversation.reset()
    conversation.warm_up()
    assert conversation.messages == []
    assert "".join(conversation.say("hello")) == cold


def test_the_oldest_turns_make_room(model):
    conversation = Conversation(model, system="short", max_new_tokens=2, seed=0)
    for i in range(8):
        list(conversation.say(f"{i} hello hello"))
    assert len(conversation.messages) == 17  # all is remembered
    asked = [*conversation.messages, {"role": "user", "content": "x"}]
    prompt = model.tokenizer.decode(conversation._fitting_prompt(asked))
    assert prompt.startswith("<|s|>system:short<|e|><|s|>user:")
    assert prompt.endswith("<|s|>user:x<|e|><|s|>assistant:")
    assert "0 hello" not in prompt
    assert "7 hello" in prompt


def test_what_cannot_be_said(model):
    conversation = Conversation(model)
    for text, message in ((3, "string"), ("a " * 200, "room")):
        with pytest.raises(ValueError, match=message):
            conversation.say(text)
    with pytest.raises(ValueError, match="temperature"):
        conversation.say("hello", temperature=-1)
    assert conversation.messages == []


def test_models_that_cannot_chat(model):
    without = gk.GPTCausalLM(model.config, tokenizer=model.tokenizer)
    with pytest.raises(ValueError, match="chat_template"):
        Conversation(without)
    with pytest.raises(ValueError, match="tokenizer"):
        Conversation(gk.GPTCausalLM(model.config, chat_template=TEMPLATE))


def test_template_and_end_are_saved_with_the_model(model, tmp_path):
    model.save_to_preset(tmp_path / "preset")
    loaded = gk.CausalLM.from_preset(tmp_path / "preset")
    assert loaded.chat_template == TEMPLATE
    assert loaded.end_token_ids == model.end_token_ids


def test_generation_ends_at_any_of_the_ends(model):
    ids = model.generate([5, 6, 7], max_new_tokens=30, temperature=0)
    new = ids[3:]
    assert new
    model.end_token_ids = [1, new[-1], 2]
    try:
        assert model.generate([5, 6, 7], max_new_tokens=30, temperature=0) == [
            *ids[:3],
            *new[: new.index(new[-1])],
        ]
    finally:
        model.end_token_ids = [model.tokenizer.special_tokens["<|e|>"]]
    with pytest.raises(ValueError, match="vocabulary"):
        model.end_token_ids = [10**6]


def test_an_answer_that_nobody_reads_leaves_a_turn_all_the_same(model):
    conversation = Conversation(model, max_new_tokens=2, seed=0)
    conversation.say("hello")
    list(conversation.say("hello"))
    roles = [message["role"] for message in conversation.messages]
    assert roles == ["user", "assistant"] * 2


def test_one_limit_takes_the_place_of_the_other(model):
    conversation = Conversation(model, max_new_tokens=3, seed=0)
    list(conversation.say("hello", max_length=60))
    Conversation(model, max_length=60, seed=0).warm_up()


def test_room_is_not_made_beyond_what_the_model_takes(model, monkeypatch):
    asked = []
    monkeypatch.setattr(model, "stream", lambda prompt, **settings: asked.append(settings) or [])
    list(Conversation(model, max_new_tokens=2).say("hello"))
    assert asked[0]["cache_length"] == 160


@pytest.mark.parametrize("token_ids", [3, [2.7], [[1, 2]], "ab", [-1]])
def test_ends_that_are_refused(model, token_ids):
    with pytest.raises(ValueError, match="ids"):
        model.end_token_ids = token_ids
