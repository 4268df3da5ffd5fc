"""The mask of the tokens that the assistant writes."""

import io
import itertools
import json
import pathlib

import mask_cases
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_cases import CONVERSATIONS, END, PLAIN, START, TEMPLATES

import gpt_keras as gk
from gpt_keras.chat import ChatTemplate
from gpt_keras.chat.masked_encoding import encode_segments
from gpt_keras.tokenizers.added_tokens import AddedToken

FIXTURE = pathlib.Path(__file__).parents[1] / "fixtures" / "assistant_masks.json"


@pytest.fixture(scope="module")
def tokenizer():
    return mask_cases.tokenizer()


def runs(masked, tokenizer):
    """Return the text cut where the mask changes, and the mask of each part."""
    return [
        (tokenizer.decode([i for i, _ in group]), is_answer)
        for is_answer, group in itertools.groupby(zip(*masked, strict=True), key=lambda p: p[1])
    ]


def answers(masked, tokenizer):
    return [text for text, is_answer in runs(masked, tokenizer) if is_answer]


def encoded(name, case, tokenizer):
    conversation = CONVERSATIONS[case]
    return ChatTemplate(TEMPLATES[name]).encode_with_mask(
        conversation["messages"], tokenizer, conversation.get("tools")
    )


@pytest.mark.parametrize(
    "entry",
    json.loads(FIXTURE.read_text(encoding="utf-8"))["entries"],
    ids=lambda entry: f"{entry['template']}-{entry['case']}",
)
def test_marked_templates_have_the_mask_of_transformers(entry, tokenizer):
    masked = encoded(entry["template"], entry["case"], tokenizer)
    assert masked.token_ids == entry["ids"]
    assert masked.assistant_mask == [bool(value) for value in entry["mask"]]


@pytest.mark.parametrize("name", ["plain", "tools", "chatml", "tools_marked"])
def test_the_mask_is_the_answers_with_their_end(name, tokenizer):
    assert answers(encoded(name, "one", tokenizer), tokenizer) == ["Hi." + END]
    assert answers(encoded(name, "several", tokenizer), tokenizer) == [
        "疑是地上霜。\n\n舉頭望明月," + END,
        "👨‍👩‍👧 🦕" + END,
    ]


def test_the_rest_is_the_header_and_the_other_turns(tokenizer):
    assert runs(encoded("plain", "several", tokenizer), tokenizer) == [
        (
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n床前明月光?<|im_end|>\n"
            "<|im_start|>assistant\n",
            False,
        ),
        ("疑是地上霜。\n\n舉頭望明月,<|im_end|>", True),
        (
            "\n<|im_start|>user\nA family: 👨‍👩‍👧!<|im_end|>\n<|im_start|>assistant\n",
            False,
        ),
        ("👨‍👩‍👧 🦕<|im_end|>", True),
        ("\n", False),
    ]


def test_an_emoji_of_several_byte_tokens_is_trained_on_as_a_whole(tokenizer):
    token_ids, mask = encoded("plain", "several", tokenizer)
    emoji = tokenizer.encode("🦕")
    assert len(emoji) == 4  # a token for each byte
    start = next(i for i in range(len(token_ids)) if token_ids[i : i + 4] == emoji)
    assert mask[start : start + 5] == [True] * 5


@pytest.mark.parametrize("name", ["tools", "tools_marked"])
def test_tool_calls_are_the_assistants_and_tools_answers_are_not(name, tokenizer):
    masked = encoded(name, "tool", tokenizer)
    call = '<tool_call>{"name": "sum", "arguments": {"of": [1, 2]}}</tool_call>'
    assert answers(masked, tokenizer) == [call + END, "It is 3." + END]
    others = "".join(text for text, is_answer in runs(masked, tokenizer) if not is_answer)
    assert "three\n</tool_response><|im_end|>\n<|im_start|>assistant\n" in others


def test_a_template_without_special_tokens_between_roles(tokenizer):
    masked = encoded("brackets", "several", tokenizer)
    assert answers(masked, tokenizer) == [
        " 疑是地上霜。\n\n舉頭望明月, <|endoftext|>",
        " 👨‍👩‍👧 🦕 <|endoftext|>",
    ]


def test_a_template_without_end_tokens_trains_on_the_whole_turn():
    characters = gk.tokenizers.CharacterTokenizer("abeinrstu: \n")
    source = (
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    messages = [
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "ba"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "a"},
    ]
    masked = ChatTemplate(source).encode_with_mask(messages, characters)
    assert answers(masked, characters) == ["ba\n", "a\n"]


PIECES = st.lists(st.sampled_from(["a", "Hi", "\n", " ", START, END, "詩", "🦕"]), min_size=1)


@settings(deadline=None, max_examples=60)
@given(texts=st.lists(PIECES.map("".join), min_size=2, max_size=6), marked=st.booleans())
def test_the_ids_before_an_answer_are_those_of_its_prompt(tokenizer, texts, marked):
    """An answer may begin with white space, which merges with that of the header."""
    template = ChatTemplate(TEMPLATES["chatml" if marked else "plain"])
    texts = texts[: len(texts) // 2 * 2]
    messages = [
        {"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)
    ]
    masked = template.encode_with_mask(messages, tokenizer)
    starts = [
        i
        for i, (before, now) in enumerate(itertools.pairwise([False, *masked.assistant_mask]))
        if now and not before
    ]
    assert answers(masked, tokenizer) == [text + END for text in texts[1::2]]
    prompt = template.encode(messages[:1], tokenizer)
    assert masked.token_ids[: starts[0]] == prompt
    for i, start in enumerate(starts):
        before = tokenizer.decode(masked.token_ids[:start])
        assert before == template.render(messages[: 2 * i + 1])
        # Only the template's own markers are special tokens: two for each message.
        ids = masked.token_ids[:start]
        assert ids.count(tokenizer.special_tokens[END]) == 2 * i + 1


def test_a_first_token_that_spans_header_and_answer_is_avoided():
    tokenizer = gk.tokenizers.BytePairTokenizer.train("a: hello hello hello " * 9, 290)
    source = (
        "{% for m in messages %}{{ m.role[:1] + ': ' + m.content + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'a: ' }}{% endif %}"
    )
    messages = [{"role": "user", "content": "b"}, {"role": "assistant", "content": "hello"}]
    joined = ChatTemplate(source).encode(messages, tokenizer, add_generation_prompt=False)
    assert b" hello" in tokenizer.pieces(joined)
    masked = ChatTemplate(source).encode_with_mask(messages, tokenizer)
    assert answers(masked, tokenizer) == ["hello<|endoftext|>"]
    prompt = ChatTemplate(source).encode(messages[:1], tokenizer)
    assert masked.token_ids[: len(prompt)] == prompt


def test_a_template_that_changes_earlier_turns_is_refused(tokenizer):
    # As in Qwen3: the reasoning of earlier answers is dropped.
    source = PLAIN.replace("m['content']", "(m['content'] if loop.last else 'gone')")
    two = CONVERSATIONS["several"]["messages"]
    with pytest.raises(ValueError, match=r"message 2 .*more messages follow.*generation"):
        ChatTemplate(source).encode_with_mask(two, tokenizer)
    with pytest.raises(ValueError, match=r"message 1 .*generation prompt"):
        ChatTemplate(PLAIN.replace("assistant\n'", "assistant\n<think>'")).encode_with_mask(
            CONVERSATIONS["one"]["messages"], tokenizer
        )
    source = "{% set x %}{% generation %} a {% endgeneration %}{% endset %}{{ x[1:] }}"
    with pytest.raises(ValueError, match="changes the text of a"):
        ChatTemplate(source).encode_with_mask(two, tokenizer)


def test_generation_blocks_in_macros_and_inside_each_other(tokenizer):
    source = (
        "{% macro say(m) %}{% generation %}{{ m.content }}{% generation %}!{% endgeneration %}"
        "{{ eos_token }}{% endgeneration %}{% endmacro %}"
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ say(m) }}{% else %}"
        "{{ m.content }}{% endif %}{% endfor %}"
    )
    masked = ChatTemplate(source).encode_with_mask(CONVERSATIONS["one"]["messages"], tokenizer)
    assert runs(masked, tokenizer) == [("Hello?", False), ("Hi.!<|endoftext|>", True)]


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_ids_are_those_of_encode(name, tokenizer):
    messages = CONVERSATIONS["several"]["messages"]
    ids = ChatTemplate(TEMPLATES[name]).encode(messages, tokenizer, add_generation_prompt=False)
    assert encoded(name, "several", tokenizer).token_ids == ids


@pytest.fixture(scope="module")
def pieces():
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["user assistant hello system Be brief Hi"] * 9),
        model_writer=model,
        vocab_size=310,
        hard_vocab_limit=False,
        model_type="bpe",
        byte_fallback=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        num_threads=1,
        minloglevel=2,
    )
    tokenizer = gk.tokenizers.SentencePieceTokenizer(model.getvalue())
    new = [AddedToken(tokenizer.vocabulary_size + i, text) for i, text in enumerate((START, END))]
    return tokenizer.with_added_tokens(new)


@pytest.mark.parametrize("name", ["plain", "brackets", "chatml"])
def test_sentencepiece_writes_no_space_before_an_answer(name, pieces):
    """It begins each text with a space, which an answer must not have."""
    masked = encoded(name, "several", pieces)
    template = ChatTemplate(TEMPLATES[name])
    messages = CONVERSATIONS["several"]["messages"]
    prompt = template.encode(messages[:2], pieces)
    assert masked.token_ids[: len(prompt)] == prompt
    assert masked.assistant_mask[: len(prompt) + 1] == [False] * len(prompt) + [True]
    assert masked.token_ids == template.encode(messages, pieces, add_generation_prompt=False)


def test_sentencepiece_continues_a_header_that_ends_with_a_space(pieces):
    source = (
        "{% for m in messages %}{{ m.role[:1] + ': ' + m.content + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'a: ' }}{% endif %}"
    )
    messages = [{"role": "user", "content": "b"}, {"role": "assistant", "content": "hello"}]
    masked = ChatTemplate(source).encode_with_mask(messages, pieces)
    prompt = ChatTemplate(source).encode(messages[:1], pieces)
    assert masked.token_ids[: len(prompt)] == prompt
    answer = masked.token_ids[len(prompt) :]
    assert answer[-1] == pieces.end_of_text_id
    assert b"".join(pieces.pieces(answer[:-1])) == b"hello"
    assert masked.assistant_mask == [i >= len(prompt) for i in range(len(masked.token_ids))]
    joined = ChatTemplate(source).encode(messages, pieces, add_generation_prompt=False)
    assert joined != masked.token_ids
    # A joined token that no context can split is refused.
    with pytest.raises(ValueError, match="joins the text before an answer"):
        encode_segments([("a", False), ("\u3000b", True)], NoContinuation(pieces))


class NoContinuation:
    """A tokenizer that writes each text as one token."""

    def __init__(self, tokenizer):
        self.pieces = tokenizer.pieces

    def encode_each_part(self, parts):
        return [[len(part)] if part else [] for part in parts]


def test_white_space_beside_stripping_tokens_is_removed_as_in_encode():
    trained = mask_cases.tokenizer().with_added_tokens(
        [AddedToken(320, "<l>", lstrip=True), AddedToken(321, "<r>", rstrip=True)]
    )
    source = (
        "{% for m in messages %}{{ '<r>  ' + m.role }}\n{% generation %}{{ m.content + '  <l>' }}"
        "{% endgeneration %} {% endfor %}"
    )
    messages = CONVERSATIONS["one"]["messages"]
    masked = ChatTemplate(source).encode_with_mask(messages, trained)
    assert masked.token_ids == ChatTemplate(source).encode(messages, trained, False)
    assert answers(masked, trained) == ["Hello?<l>", "Hi.<l>"]
