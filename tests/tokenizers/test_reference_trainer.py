"""`BytePairTokenizer.train` against byte-pair encoding as defined, and what training needs."""

import argparse
import inspect
import json
import random
import textwrap
import weakref
from collections import Counter
from pathlib import Path

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from gpt_keras.tokenizers import BytePairTokenizer
from gpt_keras.tokenizers.byte_level import byte_characters
from gpt_keras.tokenizers.reference_trainer import learn_merges, merge_pair, vocabulary

GPT2_WORD = regex.compile(
    r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
)
EMOJI = "👍👍🏽👍🏾 👨‍👩‍👧‍👦👨‍👩‍👧 🏳️‍🌈🏳️‍⚧️ 🇫🇷🇫🇮🇫🇯 1️⃣2️⃣#️⃣ 👩🏿‍🚀👨🏿‍🚀 ❤️❤️‍🔥 "
RUNS = "".join(
    f"{character * length}{separator}"
    for character in "a=哈 \n詩👍1"
    for length in (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 64)
    for separator in ("\n", "b ")
)


BYTES = {character: byte for byte, character in enumerate(byte_characters())}


def bytes_of(token):
    return bytes(BYTES[character] for character in token)


def words_of_the_engine(texts):
    """Its pre-tokenizer returns words as they stand in the vocabulary, a character a byte."""
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True).pre_tokenize_str
    counts = Counter(word for text in texts for word, _ in cut(text))
    return {bytes_of(word): count for word, count in counts.items()}


def words_of_the_expression(texts):
    return Counter(word.encode() for text in texts for word in GPT2_WORD.findall(text))


def assert_learns_the_same(texts, num_merges, min_frequency=2):
    words = words_of_the_expression(texts)
    assert words == words_of_the_engine(texts)
    merges = learn_merges(words, num_merges, min_frequency)
    trained = BytePairTokenizer.train(
        texts, 256 + num_merges + 2, min_frequency, special_tokens=["<|a|>", "<|endoftext|>"]
    )
    model = json.loads(trained.to_json())["model"]
    assert [tuple(map(bytes_of, merge)) for merge in model["merges"]] == merges
    tokens = vocabulary(merges, ["<|a|>", "<|endoftext|>"])
    assert trained.vocabulary_size == len(tokens) == len(set(tokens))
    ids = {bytes_of(token): i for token, i in model["vocab"].items()} | {
        token.encode(): i for token, i in trained.special_tokens.items()
    }
    assert ids == {token: i for i, token in enumerate(tokens)}
    return merges


@pytest.mark.parametrize(
    ("name", "num_merges"), [("plays", 120), ("poems", 60), ("code", 150), ("emoji", 75)]
)
def test_train_learns_what_the_definition_gives(name, num_merges, request):
    if name == "code":
        texts = [Path(textwrap.__file__).read_text(encoding="utf-8")]
    elif name == "emoji":
        texts = [EMOJI * 3, EMOJI[::-1]]
    else:
        texts = [text[:8000] for text in request.getfixturevalue(name)[:40]]
        texts = texts[:1] if name == "plays" else texts
    assert len(assert_learns_the_same(texts, num_merges)) == num_merges


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "num_merges"), [("plays", 400), ("poems", 250), ("code", 400), ("all", 80)]
)
def test_train_learns_what_the_definition_gives_on_whole_corpora(name, num_merges, request):
    if name == "code":
        modules = [argparse, json, textwrap, inspect]
        texts = [Path(module.__file__).read_text(encoding="utf-8") for module in modules]
    elif name == "all":
        texts = [*request.getfixturevalue("plays"), *request.getfixturevalue("poems")]
    else:
        texts = request.getfixturevalue(name)
        texts = texts[:1] if name == "plays" else texts
    assert len(assert_learns_the_same(texts, num_merges)) == num_merges


def test_runs_of_one_character():
    merges = assert_learns_the_same([RUNS], 60)
    assert (b"a", b"a") in merges
    assert ("哈".encode() * 2, "哈".encode() * 2) in merges


def test_overlapping_pairs_are_all_counted_and_merged_from_the_left():
    # "aaa" twice has the pair (a, a) four times and "ab" thrice has the pair (a, b) three times.
    words = {b"aaa": 2, b"ab": 3}
    assert learn_merges(words, 2) == [(b"a", b"a"), (b"a", b"b")]
    assert learn_merges(words, 3)[2] == (b"aa", b"a")
    assert_learns_the_same(["aaa\naaa\nab\nab\nab"], 3)


def test_the_older_of_equally_frequent_pairs_comes_first():
    # In GPT-2's order bytes that print well come before the others, and all bytes before merges.
    assert learn_merges({b"ba": 2, b"ab": 2}, 1) == [(b"a", b"b")]
    assert learn_merges({b"a\x00": 2, b"\x00a": 2, b"\xffa": 2}, 2) == [
        (b"a", b"\x00"),
        (b"\xff", b"a"),
    ]
    assert learn_merges({b"abc": 2, b"de": 2}, 3)[1] == (b"d", b"e")


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.one_of(*(st.text(alphabet=letters, max_size=40) for letters in ("ab", "abc", "a 詩诗"))),
        min_size=1,
        max_size=12,
    ).filter(any),
    st.integers(1, 40),
    st.integers(1, 4),
)
@example(["aaaa"], 10, 1)
@example(["abab", "baba", "ababab"], 10, 1)
def test_train_learns_what_the_definition_gives_of_any_text(texts, num_merges, min_frequency):
    assert_learns_the_same(texts, num_merges, min_frequency)


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.text("ab", min_size=1).map(str.encode), st.integers(1, 9), max_size=9))
def test_no_token_is_learned_twice(words):
    merges = learn_merges(words, 50, min_frequency=1)
    tokens = vocabulary(merges)
    assert len(set(tokens)) == len(tokens)
    # With all pairs merged every word is one token.
    assert set(words) <= set(tokens)


def test_merges_applied_in_order_give_the_ids_of_encode(plays):
    texts = [plays[0][:8000]]
    words = words_of_the_expression(texts)
    merges = learn_merges(words, 120)
    trained = BytePairTokenizer.train(texts, 256 + 120, special_tokens=())
    ids = {token: i for i, token in enumerate(vocabulary(merges))}
    for word in words:
        tokens = [bytes([byte]) for byte in word]
        for merge in merges:
            tokens = merge_pair(tokens, merge)
        assert [ids[token] for token in tokens] == trained.encode(word.decode())


def test_words_without_a_pair():
    assert learn_merges({}, 3) == []
    assert learn_merges({b"a": 9, b"": 1}, 3) == []
    assert learn_merges({b"ab": 1}, 3) == []
    assert learn_merges({b"ab": 1}, 3, min_frequency=1) == [(b"a", b"b")]


def test_the_order_of_texts_and_files_does_not_count(plays, poems, tmp_path):
    texts = [*(play[:10_000] for play in plays), *poems[:50]]
    tokenizer = BytePairTokenizer.train(texts, 400)
    for seed in range(3):
        shuffled = random.Random(seed).sample(texts, len(texts))
        assert BytePairTokenizer.train(shuffled, 400) == tokenizer
        folder = tmp_path / str(seed)
        folder.mkdir()
        for i, text in enumerate(shuffled):
            (folder / f"{i}.txt").write_bytes(text.encode())
        assert BytePairTokenizer.train(folder, 400) == tokenizer


class Document(str):
    """A string that can be watched."""


def test_a_generator_is_read_as_training_goes(plays):
    alive, most_alive = weakref.WeakSet(), 0
    waiting = []

    def documents():
        nonlocal most_alive
        for i in range(3000):
            document = Document(f"{i} {plays[0][:500]}")
            alive.add(document)
            most_alive = max(most_alive, len(alive))
            waiting.append(i)
            yield document

    BytePairTokenizer.train(documents(), 300)
    assert len(waiting) == 3000
    assert most_alive <= 4
