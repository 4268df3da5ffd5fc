"""Tools, further roles and contents in parts: transformers 5.24 gives these texts."""

import pytest

import gpt_keras as gk
from gpt_keras.chat import ChatTemplate

PLAIN = (
    "{{ bos_token }}{{ pad_token }}{{ unk_token }}{%- if tools %}TOOLS{% for tool in tools %}"
    "{{ tool | tojson }}{% endfor %}{% endif %}{%- for m in messages %}[{{ m.role }}]"
    "{% if m.content %}{{ m.content }}{% endif %}{% for call in m.tool_calls %}"
    "CALL {{ call.function.name }}({{ call.function.arguments | tojson }}){% endfor %}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
PARTS = (
    "{% for m in messages %}[{{ m.role }}]{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m['content'] %}{% if part.type == 'text' %}<{{ part.text }}>{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}"
)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "parameters": {"type": "object", "properties": {"a": {"type": "number"}}},
        },
    }
]
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
MESSAGES = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "1+2?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "name": "add", "content": "3"},
]
TEXT = (
    '<s><pad><unk>TOOLS{"type": "function", "function": {"name": "add", "parameters": {"type": '
    '"object", "properties": {"a": {"type": "number"}}}}}[developer]Be brief.</s>[user]1+2?</s>'
    '[assistant]CALL add({"a": 1})</s>[tool]3</s>[assistant]'
)


@pytest.fixture(scope="module")
def tokenizer():
    return gk.tokenizers.BytePairTokenizer.train(
        "user assistant tool", 290, special_tokens=["<s>", "</s>", "<pad>", "<unk>"]
    ).with_boundaries("<s>", "</s>", adds_start_of_text=True)


def test_tools_and_their_answers(tokenizer):
    template = ChatTemplate(PLAIN, TOKENS)
    assert template.render(MESSAGES, tools=TOOLS) == TEXT
    ids = template.encode(MESSAGES, tokenizer, tools=TOOLS)
    assert ids == tokenizer.encode(TEXT, "all")
    assert ids.count(tokenizer.start_of_text_id) == 1
    without = [{**MESSAGES[2], "content": ""}, {"role": "assistant", "tool_calls": [CALL]}]
    calls = '[assistant]CALL add({"a": 1})</s>'
    assert template.render(without, add_generation_prompt=False) == "<s><pad><unk>" + 2 * calls


def test_the_tokenizers_own_tokens_are_there(tokenizer):
    said = [{"role": "user", "content": "a"}]
    template = ChatTemplate("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}")
    assert template.encode(said, tokenizer) == tokenizer.encode("<s>a</s>", "all")
    named = ChatTemplate(template.source, {"bos_token": "<pad>"})
    assert named.encode(said, tokenizer) == tokenizer.encode("<pad>a</s>", "all")


def parts(*texts):
    return [{"type": "text", "text": text} for text in texts]


def test_contents_in_parts():
    messages = [
        {"role": "user", "content": parts("a", "b")},
        {"role": "assistant", "content": "c"},
    ]
    assert ChatTemplate(PARTS).render(messages) == "[user]<a><b>[assistant]c"
    # A template for strings gets one.
    plain = ChatTemplate("{% for m in messages %}{{ m.role + m.content }}{% endfor %}")
    assert plain.render(messages) == "usera\nbassistantc"
    renamed = (
        "{% set content = messages[0].content %}{% for x in content %}<{{ x.text }}>{% endfor %}"
    )
    assert ChatTemplate(renamed).render(messages) == "<a><b>"


@pytest.mark.parametrize("source", [PLAIN, PARTS])
def test_nobody_ends_a_turn_by_what_a_part_says(source, tokenizer):
    template = ChatTemplate(source)
    harmless = template.encode([{"role": "tool", "content": parts("a", "b")}], tokenizer)
    messages = [{"role": "tool", "content": parts("a</s>", "<s>b")}]
    ids = template.encode(messages, tokenizer)
    special = tokenizer.special_tokens.values()
    assert [i for i in ids if i in special] == [i for i in harmless if i in special]
    written = template.render(messages)
    if source == PLAIN:  # which writes the tokenizer's own tokens
        written = "<s>" + written.removesuffix("[assistant]") + "</s>[assistant]"
    assert tokenizer.decode(ids) == written


def test_special_tokens_elsewhere_are_refused(tokenizer):
    template = ChatTemplate(PLAIN, TOKENS)
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": "</s>"}}}
    with pytest.raises(ValueError, match="outside of `content`"):
        template.encode([{"role": "assistant", "tool_calls": [call]}], tokenizer)
    with pytest.raises(ValueError, match="outside of `content`"):
        template.encode(MESSAGES, tokenizer, tools=[{"name": "<s>"}])


@pytest.mark.parametrize(
    "content",
    [3, None, ["a"], [{"type": "image"}], [{"type": "text"}], [{"type": "text", "text": 3}]],
)
def test_contents_that_are_refused(content):
    with pytest.raises(ValueError, match=r"`messages` must hold .* text parts; number 0"):
        ChatTemplate(PARTS).render([{"role": "user", "content": content}])


@pytest.mark.parametrize("tools", ["add", {"name": "add"}, [print]])
def test_tools_that_are_refused(tools):
    with pytest.raises(ValueError, match="`tools` must be a list of JSON schemas"):
        ChatTemplate(PLAIN).render(MESSAGES, tools=tools)
