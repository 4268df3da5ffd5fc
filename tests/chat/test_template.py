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


# What transformers 5.23, render_jinja_template, makes of TOLD with these templates.
TOLD = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": '<b>"Hi" & 你好</b>'},
    {"role": "assistant", "content": "It's é."},
]
IN_TRANSFORMERS = {
    # The assistant's part is marked for training, as in SmolLM3's and Qwen's training templates.
    """{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\n' }}
{%- if message['role'] == 'assistant' %}
    {% generation %}
    {{- message['content'] + '<|im_end|>' }}
    {% endgeneration %}
{%- else %}
    {{- message['content'] + '<|im_end|>' }}
{%- endif %}
{{- '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}""": (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        '<|im_start|>user\n<b>"Hi" & 你好</b><|im_end|>\n'
        "<|im_start|>assistant\nIt's é.<|im_end|>\n\n<|im_start|>assistant\n"
    ),
    "a {%- generation -%} b {%- endgeneration -%} c": "abc",
    "{% generation %}a{% generation %}b{% endgeneration %}c{% endgeneration %}": "abc",
    "  {% if true %}\n  x\n  {% endif %}\n  {% generation %}\n  y\n  {% endgeneration %}\nz\n": (
        "  x\n  y\nz"
    ),
    # Inside is a scope of its own.
    "{% set x = 'a' %}{% set ns = namespace(y='a') %}{% for m in messages %}{% generation %}"
    "{% set x = 'b' %}{% set ns.y = m.role %}{{ x }}{{ loop.index }}{% endgeneration %}"
    "{{ x }}{{ ns.y }};{% endfor %}": "b1asystem;b2auser;b3aassistant;",
    "{% macro f(x) %}<{{ x }}>{% endmacro %}{% generation %}{{ f(messages[0].role) }}"
    "{% endgeneration %}": "<system>",
    # JSON, which Jinja itself escapes for HTML.
    "{{ messages[1:] | tojson }}": (
        '[{"role": "user", "content": "<b>\\"Hi\\" & 你好</b>"}, '
        '{"role": "assistant", "content": "It\'s é."}]'
    ),
    "{{ messages[1] | tojson(indent=2) }}": (
        '{\n  "role": "user",\n  "content": "<b>\\"Hi\\" & 你好</b>"\n}'
    ),
    "{{ messages[1] | tojson(True, 1) }}": (
        '{\n "role": "user",\n "content": "<b>\\"Hi\\" & \\u4f60\\u597d</b>"\n}'
    ),
    "{{ {'b': 1, 'a': [none, true, 1.5]} | tojson(sort_keys=true, separators=(',', ':')) }}": (
        '{"a":[null,true,1.5],"b":1}'
    ),
    "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{{ m.role }}"
    "{% if m.role == 'user' %}{% break %}{% endif %}{% endfor %}": "user",
    # There are no tools and no documents, which is not to say that nothing is known of them.
    "{% if tools is not none %}tools {{ tools | length }}{% endif %}{{ tools is defined }} "
    "{{ documents is none }} {{ enable_thinking is defined }}": "True True False",
    "{{ dict(a=1) }}{{ dict.fromkeys(['x'], 0) }}{{ namespace({'n': 1}, m=2).m }}": (
        "{'a': 1}{'x': 0}2"
    ),
}


@pytest.mark.parametrize("source", IN_TRANSFORMERS)
def test_templates_find_what_transformers_offers(source):
    assert ChatTemplate(source).render(TOLD) == IN_TRANSFORMERS[source]


def test_variables_stand_before_what_is_there_by_itself():
    assert ChatTemplate("{{ tools }}", {"tools": "a hammer"}).render([]) == "a hammer"


@pytest.mark.parametrize(
    "source", ["{% for %}", "{{ unknown(", 3, "{% generation %}a", "{% break %}", "{% do 1 %}"]
)
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
