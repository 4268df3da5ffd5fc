import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers, pre_tokenizers

from gpt_keras.tokenizers.in_graph.bert_characters import character_tables
from gpt_keras.tokenizers.in_graph.bert_word_split import BertWordSplitter

# Marks that stay, and are sorted; marks that are removed; those of them that marks are not sorted
# across; what is decomposed; what is removed, blank, punctuation or Chinese.
MARKS = "\u302e\ua9c0\u1b44\u1dfb\u0301\u0327\u0941\u0903\U0001d165\U0001e000"
CHARACTERS = "aAbt\u00e9\u00c5\uac01\U0001d15e\ufffd\x00\xad \n\x85.$\u8a69\uf900"


@pytest.fixture(scope="module")
def split():
    return tf.function(BertWordSplitter(), input_signature=[tf.TensorSpec([None], tf.string)])


def words_of_the_engine(text):
    normalized = normalizers.BertNormalizer(lowercase=True).normalize_str(text)
    words = pre_tokenizers.BertPreTokenizer().pre_tokenize_str(normalized)
    return [word.encode() for word, _ in words]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(MARKS + CHARACTERS, max_size=20), min_size=1, max_size=4))
def test_words_of_any_text(split, texts):
    assert split(tf.constant(texts)).to_list() == [words_of_the_engine(text) for text in texts]


def assert_same_words(split, code_points):
    for begin in range(0, len(code_points), 2000):
        characters = map(chr, code_points[begin : begin + 2000])
        text = " ".join(f"a{c}b {c}{c} \u302e{c}\ua9c0" for c in characters)
        assert split(tf.constant([text])).to_list() == [words_of_the_engine(text)]


def test_words_of_many_characters(split):
    assert_same_words(split, [*range(0x800), *range(0x800, 0xD800, 61), 0xFFFD, 0x10FFFF])


@pytest.mark.slow
def test_words_of_all_characters(split):
    # Hardly any character lies beyond.
    assert_same_words(split, [*range(0xD800), *range(0xE000, 0x20000), *range(0xE0000, 0xE1000)])
    assert_same_words(split, [*range(0x20000, 0x110000, 5), *range(0xFFFFE, 0x110000, 0xFFFF)])


def test_marks_are_sorted_as_unicode_says(split):
    # All marks that stay, each with each, compared with the engine's decomposition.
    tables = character_tables()
    marks = [chr(c) for c in np.flatnonzero(tables.order) if tables.row[c] == 0]
    assert {"\u302e", "\ua9c0"} <= set(marks)
    texts = [f"{first}{second}" for first in marks for second in marks]
    expected = [normalizers.NFD().normalize_str(text).encode() for text in texts]
    assert split(tf.constant([" ".join(texts)])).to_list() == [expected]
