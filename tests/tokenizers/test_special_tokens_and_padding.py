"""Special tokens in texts, and padded rows: Python, the graph, tiktoken and plain lists agree."""

import functools
import itertools

import pytest
import strange_texts
import tensorflow as tf
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_exactness import GPT2_EXPRESSION

from gpt_keras.tokenizers import BytePairTokenizer, CharacterTokenizer

# One is the beginning of another, one is the end of another, some need escaping in expressions.
SPECIAL = ["<|a|>", "<|a|>b", "<|endoftext|>", "|>b|>", "[a.b*]", "a b\n", "\\d+", "詩詩", "👍🏽"]


@pytest.fixture(scope="session")
def with_special(plays):
    return BytePairTokenizer.train(plays[0], 1000, special_tokens=SPECIAL)


@functools.cache
def in_graph(tokenizer, allowed):
    return tf.function(
        tokenizer.in_graph(allowed_special=allowed),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )


@functools.cache
def tiktokens(tokenizer, allowed):
    """An engine that has these special tokens only."""
    ordinary = tokenizer.vocabulary_size - len(SPECIAL)
    found = tokenizer.in_graph().detokenize([[i] for i in range(ordinary)]).numpy()
    return tiktoken.Encoding(
        "special",
        pat_str=GPT2_EXPRESSION,
        mergeable_ranks={token: i for i, token in enumerate(found)},
        special_tokens={token: tokenizer.special_tokens[token] for token in allowed},
    )


def by_definition(tokenizer, text, allowed):
    """From the left, the longest allowed token at each place; ordinary text between them."""
    ids, ordinary, i = [], "", 0
    while i < len(text):
        here = max((token for token in allowed if text.startswith(token, i)), key=len, default="")
        if here:
            ids += [*tokenizer.encode(ordinary), tokenizer.special_tokens[here]]
            ordinary = ""
        else:
            ordinary += text[i]
        i += len(here) or 1
    return ids + tokenizer.encode(ordinary)


def check_special(tokenizer, allowed, texts):
    expected = [by_definition(tokenizer, text, allowed) for text in texts]
    assert tokenizer.encode(texts, allowed_special=allowed) == expected
    assert [tokenizer.encode(text, allowed) for text in texts] == expected
    assert in_graph(tokenizer, allowed)(tf.constant(texts, tf.string)).to_list() == expected
    # Where one token begins another one, which of them tiktoken finds is left to chance.
    if not {"<|a|>", "<|a|>b"} <= set(allowed):
        others = tiktokens(tokenizer, allowed)
        assert [others.encode(text, allowed_special="all") for text in texts] == expected
    assert tokenizer.decode(expected) == texts


PIECES = st.sampled_from(
    [*SPECIAL, *"<|a>b. \n詩👍\\d+*[]", "|>", "<|", "<|endoftext|", " the", "'s", "\ufffd", "\0"]
)
ALLOWED = [
    tuple(SPECIAL),
    tuple(token for token in SPECIAL if token != "<|a|>b"),
    ("<|a|>",),
    ("<|a|>b", "<|a|>"),
    ("<|endoftext|>", "|>b|>", "詩詩"),
    ("[a.b*]", "\\d+", "👍🏽", "a b\n"),
]


@pytest.mark.parametrize("allowed", ALLOWED, ids=len)
@settings(deadline=None, max_examples=10)
@given(texts=st.lists(st.lists(PIECES, max_size=10).map("".join), min_size=1, max_size=10))
@example(texts=["<|a|>b|>b", "<|a|>b|>b|>", "<|a|><|a|>", "<|<|a|>|>", "詩詩詩", "", "a b\na b\n"])
def test_special_tokens_wherever_they_stand(with_special, allowed, texts):
    check_special(with_special, allowed, texts)


def test_no_special_tokens_are_found_unless_asked_for(with_special):
    texts = ["".join(pair) for pair in itertools.product(SPECIAL, SPECIAL)]
    smallest = min(with_special.special_tokens.values())
    ids = with_special.encode(texts)
    assert max(map(max, ids)) < smallest
    assert with_special.in_graph()(texts).to_list() == ids
    assert with_special.decode(ids) == texts


def test_special_tokens_in_strange_texts(gpt2):
    texts = [f"{a}<|endoftext|>{b}" for a, b in itertools.pairwise(strange_texts.draw(300, 7))]
    layer = gpt2.in_graph(allowed_special="all")
    assert layer(texts).to_list() == gpt2.encode(texts, allowed_special="all")
    assert gpt2.encode(texts, "all") == [by_definition(gpt2, t, ["<|endoftext|>"]) for t in texts]


def test_special_tokens_among_bytes_that_are_not_utf8(gpt2):
    special = b"<|endoftext|>"
    strings = [
        bytes([a]) + special + bytes([b, 0x80]) for a in range(256) for b in range(0, 256, 5)
    ]
    texts = [string.decode("utf-8", "replace") for string in strings]
    layer = gpt2.in_graph(allowed_special="all")
    assert layer(tf.constant(strings)).to_list() == gpt2.encode(texts, allowed_special="all")


def padded_by_definition(row, sequence_length, padding_side, truncation_side, pad_id):
    row = row[:sequence_length] if truncation_side == "right" else row[::-1][:sequence_length][::-1]
    padding = [pad_id] * (sequence_length - len(row))
    mask = [True] * len(row)
    if padding_side == "right":
        return row + padding, mask + [False] * len(padding)
    return padding + row, [False] * len(padding) + mask


@settings(deadline=None, max_examples=12)
@given(
    st.lists(strange_texts.texts(), max_size=6),
    st.integers(1, 30),
    st.sampled_from(["left", "right"]),
    st.sampled_from(["left", "right"]),
    st.one_of(st.none(), st.integers(0, 50256)),
    st.booleans(),
    st.booleans(),
)
def test_padded_rows(gpt2, texts, length, padding_side, truncation_side, pad_id, append, special):
    allowed = ["<|endoftext|>"] if special else []
    rows = [ids + [50256] * append for ids in gpt2.encode(texts, allowed)]
    options = {
        "append_end_of_text": append,
        "padding_side": padding_side,
        "truncation_side": truncation_side,
        "pad_id": pad_id,
    }
    pad = 50256 if pad_id is None else pad_id
    expected = [
        padded_by_definition(row, length, padding_side, truncation_side, pad) for row in rows
    ]
    layer = gpt2_layer_that_allows(gpt2, special)
    for token_ids, mask in (
        gpt2.encode_padded(texts, length, **options, allowed_special=allowed),
        layer.encode_padded(tf.constant(texts, tf.string), length, **options),
    ):
        assert token_ids.shape == mask.shape == (len(texts), length)
        assert (token_ids.dtype, mask.dtype) == ("int32", "bool")
        assert [*zip(to_lists(token_ids), to_lists(mask))] == expected


@functools.cache
def gpt2_layer_that_allows(gpt2, special):
    return gpt2.in_graph("all" if special else ())


def to_lists(rows):
    return (rows.numpy() if hasattr(rows, "numpy") else rows).tolist()


def test_padding_of_a_tokenizer_without_end_of_text():
    tokenizer = CharacterTokenizer("abc")
    for padded in (
        tokenizer.encode_padded(["abc", "", "c"], 2, truncation_side="left"),
        tokenizer.in_graph().encode_padded(["abc", "", "c"], 2, truncation_side="left"),
    ):
        assert to_lists(padded.token_ids) == [[1, 2], [0, 0], [2, 0]]
        assert to_lists(padded.mask) == [[True, True], [False, False], [True, False]]
