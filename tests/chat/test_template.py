import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpt_keras as gk
from gpt_keras.chat import ChatTemplate

SOURCE = """
{%- for message in messages %}
    {%- if loop.first and message.role != "system" %}
        {{- "<|im_start|>system\nBe brief.<|im_end|>\n" }}
    {%- endif %}
    {{- "<|im_start|>" + message["role"] + "\n" + message["content"] + "<|im_end|>" + "\n" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|im_start|>assistant\n" }}
{%- endif %}
"""
MESSAGES = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "床前明月光?"},
]
START, END = "<|im_start|>", "<|im_end|>"


@pytest.fixture(scope="module")
def tokenizer():
    return gk.tokenizers.BytePairTokenizer.train(
        "user assistant system Hello", 300, special_tokens=["<|endoftext|>", START, END]
    )


def test_a_conversation_is_written_as_transformers_writes_it():
    # transformers 5.23, apply_chat_template with this template, gives these texts.
    text = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nHi.<|im_end|>\n<|im_start|>user\n床前明月光?<|im_end|>\n"
    )
    template = ChatTemplate(SOURCE)
    assert template.render(MESSAGES) == text + "<|im_start|>assistant\n"
    assert template.render(MESSAGES, add_generation_prompt=False) == text
    told = [{"role": "system", "content": "Rhyme."}]
    assert template.render(told) == (
        "<|im_start|>system\nRhyme.<|im_end|>\n<|im_start|>assistant\n"
    )


def test_variables_and_the_functions_that_templates_call():
    template = ChatTemplate("{{ bos_token }}{{ strftime_now('%Y') }}", {"bos_token": "<s>"})
    assert template.render([]).startswith("<s>2")
    template = ChatTemplate("{{ raise_exception('no ' + messages[0].role) }}")
    with pytest.raises(ValueError, match="no user"):
        template.render(MESSAGES)


def test_the_special_tokens_are_the_templates(tokenizer):
    ids = ChatTemplate(SOURCE).encode(MESSAGES, tokenizer)
    assert ids == tokenizer.encode(ChatTemplate(SOURCE).render(MESSAGES), allowed_special="all")
    assert ids.count(tokenizer.special_tokens[START]) == 5


@settings(deadline=None, max_examples=50)
@given(
    contents=st.lists(
        st.lists(st.sampled_from([START, END, "a", "\n", " ", "<|im_", "詩"]), max_size=6).map(
            "".join
        ),
        min_size=1,
        max_size=3,
    )
)
def test_nobody_speaks_for_another(tokenizer, contents):
    messages = [{"role": "user", "content": content} for content in contents]
    ids = ChatTemplate(SOURCE).encode(messages, tokenizer)
    assert tokenizer.decode(ids) == ChatTemplate(SOURCE).render(messages)
    special = tokenizer.special_tokens
    # One for the system, one each for the messages, one for the assistant.
    assert ids.count(special[START]) == len(messages) + 2
    assert ids.count(special[END]) == len(messages) + 1


def test_a_template_that_changes_messages_is_refused_only_where_it_matters(tokenizer):
    template = ChatTemplate("{% for m in messages %}<|im_start|>{{ m.content | trim }}{% endfor %}")
    ids = template.encode([{"role": "user", "content": " a "}], tokenizer)
    assert tokenizer.decode(ids) == "<|im_start|>a"
    with pytest.raises(ValueError, match="special tokens"):
        template.encode([{"role": "user", "content": f" {START} "}], tokenizer)


@pytest.mark.parametrize("source", ["{% for %}", "{{ unknown(", 3])
def test_templates_with_errors_are_refused(source):
    with pytest.raises(ValueError, match="source"):
        ChatTemplate(source)


@pytest.mark.parametrize(
    "source",
    ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{% include 'setup.cfg' %}"],
)
def test_templates_reach_nothing(source):
    with pytest.raises(ValueError, match="refuses"):
        ChatTemplate(source).render(MESSAGES)


@pytest.mark.parametrize(
    "message", ["Hello", {"role": "user"}, {"role": "me", "content": ""}, {"content": "a"}]
)
def test_messages_that_are_refused(message):
    with pytest.raises(ValueError, match="number 0"):
        ChatTemplate(SOURCE).render([message])
