"""Ids equal those of tiktoken and of Hugging Face's engine, in Python and in the graph."""

import functools
import json
import unicodedata

import numpy as np
import pytest
import regex
import strange_texts
import tensorflow as tf
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, pre_tokenizers

from gpt_keras.tokenizers import BytePairTokenizer
from gpt_keras.tokenizers.byte_level import byte_characters
from gpt_keras.tokenizers.byte_pair import GPT2_MERGES
from gpt_keras.tokenizers.engine import PIECE_CHARACTERS
from gpt_keras.tokenizers.in_graph.unicode_classes import (
    _NEW_LETTERS,
    LETTER,
    NUMBER,
    SPACE,
    character_classes,
    single_digits,
    unicode_version,
)

GPT2_EXPRESSION = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
# Every code point but the surrogates.
CODE_POINTS = [*range(0xD800), *range(0xE000, 0x110000)]
TRICKY = [
    "",
    " ",
    "\n",
    "Hello world",
    "it's  don't 'tis ''s we'll 've\n\n 've x's's  ",
    "'s's'S 're\n're \n 're.'re 'r 'l '",
    "  a\n b \n\n c!! 's  ",
    "a \u3000b\xa0 c\x85d\x1ce\x00f",
    "你好，世界 12३ ½ x²",
    "a" * 100,
    "<|endoftext|>",
    "👋🏽 e\u0301 \U0001f468\u200d\U0001f469",
]


def gpt2_tokens():
    """The published merges as tokens, in the order of their ids."""
    lines = GPT2_MERGES.read_text(encoding="utf-8").split("\n")[1:-1]
    return [*sorted(byte_characters()), *(line.replace(" ", "") for line in lines)]


def ranks():
    byte_of = {character: byte for byte, character in enumerate(byte_characters())}
    return {bytes(map(byte_of.get, token)): i for i, token in enumerate(gpt2_tokens())}


@pytest.fixture(scope="session")
def openai():
    """Tiktoken's engine, as OpenAI uses it."""
    return tiktoken.Encoding(
        "gpt2",
        pat_str=GPT2_EXPRESSION,
        mergeable_ranks=ranks(),
        special_tokens={"<|endoftext|>": 50256},
    )


def engine(pre_tokenizer):
    """Hugging Face's engine, as their documentation puts one together."""
    merges = [tuple(line.split()) for line in GPT2_MERGES.read_text("utf-8").split("\n")[1:-1]]
    whole = Engine(models.BPE({token: i for i, token in enumerate(gpt2_tokens())}, merges))
    whole.pre_tokenizer = pre_tokenizer
    whole.decoder = decoders.ByteLevel()
    return whole


@pytest.fixture(scope="session")
def hugging_face():
    return engine(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True))


@functools.cache
def tiktoken_classes():
    """What `character_classes` tells, of tiktoken: it drops what its expression does not match."""
    classes = np.zeros(0x110000, np.uint8)
    text = "".join(map(chr, CODE_POINTS))
    for expression, value in ((r"\p{L}", LETTER), (r"\p{N}", NUMBER), (r"\s", SPACE)):
        every_byte = {bytes([byte]): byte for byte in range(256)}
        found = tiktoken.Encoding(
            expression, pat_str=expression, mergeable_ranks=every_byte, special_tokens={}
        )
        matches = found.decode(found.encode_ordinary(text))
        classes[np.frombuffer(matches.encode("utf-32-le"), np.uint32)] = value
    return classes


def classes_of_all():
    classes = character_classes()
    return np.pad(classes, (0, 0x110000 - len(classes)))


@functools.cache
def differing():
    """Characters that are of one class in tiktoken's Unicode version and another in ours."""
    return frozenset(map(chr, np.flatnonzero(tiktoken_classes() != classes_of_all())))


def assert_exact(gpt2, function, openai, hugging_face, texts, with_hugging_face=True):
    ids = gpt2.encode(texts)
    in_graph = function(tf.constant(texts, tf.string))
    assert in_graph.to_list() == ids
    if with_hugging_face:
        assert [encoding.ids for encoding in hugging_face.encode_batch_fast(texts)] == ids
    # Versions of Unicode may differ; then texts with the new characters have other words.
    comparable = [i for i, text in enumerate(texts) if differing().isdisjoint(text)]
    # One by one: threads of `encode_ordinary_batch` take longer than short texts.
    expected = [openai.encode_ordinary(texts[i]) for i in comparable]
    assert expected == [ids[i] for i in comparable]
    assert gpt2.decode(ids) == texts


@pytest.fixture(scope="session")
def check(gpt2, gpt2_function, openai, hugging_face):
    return functools.partial(assert_exact, gpt2, gpt2_function, openai, hugging_face)


def test_the_engine_is_put_together_as_hugging_face_documents_it(gpt2, hugging_face):
    """What `encode` gives for a text without a special token is then what this engine gives."""
    ours, theirs = json.loads(gpt2.to_json()), json.loads(hugging_face.to_str())
    assert [token["content"] for token in ours.pop("added_tokens")] == ["<|endoftext|>"]
    assert theirs.pop("added_tokens") == []
    assert ours["model"]["vocab"].pop("<|endoftext|>", 50256) == 50256
    assert ours == theirs


def test_tricky_texts(check):
    check(TRICKY)
    for text in TRICKY:
        check([text])


def test_bundled_corpora(check, plays, poems):
    check([*plays, *poems])


def in_contexts(code_points):
    """A character alone; and next to letters, digits, marks, blanks, line ends and itself."""
    alone = [chr(c) for c in code_points]
    marks = [f"a{c}b1{c}2!{c}? {c} {c}{c}\n{c}'s'{c}  {c}\xa0{c}" for c in alone]
    return alone, ["".join(marks[i : i + 50]) for i in range(0, len(marks), 50)]


def test_code_points_in_every_context(check):
    some = [*range(0x400), *range(0x400, 0xD800, 43), *range(0xE000, 0x110000, 1499)]
    some += [0x1680, *range(0x2000, 0x2070), 0x3000, 0xFEFF]
    for texts in in_contexts(some):
        check(texts)


@pytest.mark.slow
@pytest.mark.parametrize("plane", range(17))
def test_every_code_point_in_every_context(check, plane):
    code_points = [c for c in CODE_POINTS if c >> 16 == plane]
    assert len(code_points) == 0x10000 - (0x800 if plane == 0 else 0)
    for texts in in_contexts(code_points):
        assert all(len(text) <= PIECE_CHARACTERS for text in texts)
        # `encode` itself is a call of an engine with the same settings.
        check(texts, with_hugging_face=False)


@settings(deadline=None, max_examples=40)
@given(st.lists(strange_texts.texts(), min_size=1, max_size=20))
@example(["'s", "a'S", " 's", "\n's", "1'll", ".'re"])
def test_texts_that_hypothesis_makes(check, texts):
    check(texts)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.text(alphabet="'stmdrvel aA1. \n\t\xa0詩", max_size=20), min_size=1, max_size=20)
)
def test_texts_full_of_borders(check, texts):
    check(texts)


def test_strange_texts(check):
    check(strange_texts.draw(500, seed=0))


@pytest.mark.slow
def test_100_000_strange_texts(check):
    number = 0
    for seed in range(1, 101):
        texts = strange_texts.draw(1000, seed)
        check(texts)
        number += len(texts)
    assert number == 100_000


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(st.lists(strange_texts.texts(), min_size=100, max_size=200))
def test_many_texts_that_hypothesis_makes(check, texts):
    check(texts)


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "👍\udbff", "\udc00\ud800"])
def test_lone_surrogates_are_refused(gpt2, text):
    for texts in (text, [text], ["fine", text, "fine"], [*["a"] * 100, text]):
        with pytest.raises(
            ValueError, match=r"`text` must be valid Unicode, but .* lone surrogate"
        ):
            gpt2.encode(texts)


def bytes_that_are_not_utf8():
    """Mutations of three and four byte characters, overlong forms, surrogates, beyond U+10FFFF."""
    yield from (bytes([first, second]) for first in range(256) for second in range(256))
    edges = [
        0x41,
        0x7F,
        0x80,
        0x8F,
        0x90,
        0x9F,
        0xA0,
        0xBF,
        0xC0,
        0xC2,
        0xE0,
        0xED,
        0xF0,
        0xF4,
        0xFF,
    ]
    for character in "é詩\u0800\ud7ff\ue000\uffff👍\U00010000\U0010ffff":
        whole = character.encode()
        for length in range(len(whole)):
            yield whole[:length] + b"a" + whole[length:]
            yield whole[:length] + whole + whole[length:]
            for edge in edges:
                yield whole[:length] + bytes([edge]) + whole[length + 1 :]
                yield whole[:length] + bytes([edge]) + whole[length:] + whole
    yield from (b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xc1\xbf", b"\xf0\x8f\xbf\xbf")
    yield from ("\ud800".encode(errors="surrogatepass") + b"\xed\xbf\xbf", b"\xf4\x90\x80\x80")
    yield from (b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xff\xfe", b"\xef\xbb\xbf")


def test_bytes_that_are_not_utf8_are_read_as_python_reads_them(gpt2, gpt2_function):
    strings = [bytes([byte]) for byte in range(256)] + sorted(set(bytes_that_are_not_utf8()))
    assert len(strings) > 66_000
    expected = gpt2.encode([string.decode("utf-8", "replace") for string in strings])
    assert gpt2_function(tf.constant(strings)).to_list() == expected


@settings(deadline=None, max_examples=100)
@given(st.lists(st.binary(max_size=20), min_size=1, max_size=20))
def test_any_bytes_are_read_as_python_reads_them(gpt2, gpt2_function, gpt2_layer, strings):
    texts = [string.decode("utf-8", "replace") for string in strings]
    ids = gpt2_function(tf.constant(strings, tf.string))
    assert ids.to_list() == gpt2.encode(texts)
    assert gpt2_layer.detokenize(ids).numpy().tolist() == [text.encode() for text in texts]


@pytest.fixture(scope="session")
def single_digit_split():
    """SmolLM's split: single digits first, then GPT-2's."""
    other = engine(
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    )
    tokenizer = BytePairTokenizer.from_json(other.to_str())
    return tokenizer, tf.function(tokenizer.in_graph()), other


def assert_exact_with_single_digits(split, texts):
    tokenizer, layer, other = split
    ids = tokenizer.encode(texts)
    assert layer(tf.constant(texts)).to_list() == ids
    assert [encoding.ids for encoding in other.encode_batch_fast(texts)] == ids
    assert tokenizer.decode(ids) == texts


def test_single_digits(single_digit_split):
    texts = ["12 345's 6.7  8\n9a1 '1's ١٢٣ ½²", *TRICKY, *strange_texts.draw(500, seed=101)]
    assert_exact_with_single_digits(single_digit_split, texts)
    numbers = np.flatnonzero(character_classes() == NUMBER)
    assert set(numbers) <= set(np.flatnonzero(single_digits()))
    for texts in in_contexts(map(int, numbers)):
        assert_exact_with_single_digits(single_digit_split, texts)


def test_single_digits_of_the_later_unicode_version(single_digit_split):
    digits = np.flatnonzero(single_digits())
    newer = [int(c) for c in digits if classes_of_all()[c] != NUMBER]
    # Where both parts of the engine know the same numbers, any will do.
    for texts in in_contexts(newer or digits[-10:].tolist()):
        assert_exact_with_single_digits(single_digit_split, texts)


@pytest.mark.slow
def test_single_digits_are_the_characters_that_the_engine_cuts_off():
    cut = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str
    are_cut = [c for c in CODE_POINTS if len(cut(f"a{chr(c)}a")) == 3]
    assert are_cut == np.flatnonzero(single_digits()).tolist()


def test_classes_are_those_of_one_unicode_version():
    versions = list(_NEW_LETTERS)
    classes = classes_of_all()
    known = [classes[_NEW_LETTERS[version]] == LETTER for version in versions]
    assert known == [float(version) <= float(unicode_version()) for version in versions]


def test_letters_came_with_the_version_that_is_said():
    # Python and the regex package know a version each, and its letters.
    here = float(".".join(unicodedata.unidata_version.split(".")[:2]))
    for version, letter in _NEW_LETTERS.items():
        assert (unicodedata.category(chr(letter))[0] == "L") == (float(version) <= here)
        assert unicodedata.ucd_3_2_0.category(chr(letter)) == "Cn"
    known = [bool(regex.match(r"\p{L}", chr(letter))) for letter in _NEW_LETTERS.values()]
    assert known == sorted(known, reverse=True)


def test_classes_of_assigned_characters_are_those_of_others():
    # Where both know a character, they agree on its class.
    classes, others = classes_of_all(), tiktoken_classes()
    both = (classes > 0) & (others > 0)
    assert (classes == others)[both].all()
    assert both.sum() > 130_000
    spaces = "".join(map(chr, np.flatnonzero(classes == SPACE)))
    assert spaces == strange_texts.WHITE_SPACE
