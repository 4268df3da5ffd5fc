"""Texts in any container."""

import numpy as np
import pytest
import tensorflow as tf

from gpt_keras.texts import as_list_of_texts, as_texts
from gpt_keras.tokenizers import CharacterTokenizer


class Series:
    """What a pandas Series of strings looks like from outside: an array, but no `Sequence`."""

    def __init__(self, *values):
        self._values = np.array(values, object)

    def __array__(self, dtype=None, copy=None):
        return self._values

    def __iter__(self):
        return iter(self._values)


TEXTS = ["abc", "詩 b", ""]
AS_BYTES = [text.encode() for text in TEXTS]
dataset = tf.data.Dataset.from_tensor_slices


@pytest.mark.parametrize(
    "container",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, object),
        np.array(TEXTS, np.dtypes.StringDType()),
        AS_BYTES,
        Series(*TEXTS),
        tf.constant(TEXTS),
        list(tf.constant(TEXTS)),
        (text for text in TEXTS),
        dataset(TEXTS),
        dataset(TEXTS).batch(2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_container_gives_the_same_texts(container):
    found = as_texts("texts", container)
    assert found == TEXTS
    assert all(type(text) is str for text in found)


@pytest.mark.parametrize("text", ["詩", np.str_("詩"), np.array("詩"), tf.constant("詩")])
def test_one_text(text):
    assert as_texts("text", text) == "詩"
    assert type(as_texts("text", text)) is str
    with pytest.raises(ValueError, match="`texts` must be several strings"):
        as_list_of_texts("texts", text)


@pytest.mark.parametrize("value", [[], (), np.array([]), dataset(TEXTS).take(0)])
def test_no_texts(value):
    assert as_texts("texts", value) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"abc", "`texts` must be a string or several .* got b'abc' of type bytes"),
        ({"a": 1}, "must be a string or several"),
        ({"a"}, "must be a string or several"),
        (None, "must be a string or several"),
        (np.array(3), "must be a string or several"),
        (np.array([["a"]]), r"must have one dimension, .* got shape \(1, 1\)"),
        (["a", float("nan")], "must hold strings, got nan of type float as number 1"),
        (["a", ["b"]], r"must hold strings, got \['b'\] of type list as number 1"),
        ([b"\xff"], r"must be UTF-8, got the bytes b'\\xff' as number 0"),
        (dataset([1, 2]), "must hold strings"),
        (dataset({"a": ["b"]}), "must hold strings"),
        (tf.ragged.constant([["a"], []]), "must be a string or several"),
    ],
)
def test_no_container_of_texts(value, message):
    with pytest.raises(ValueError, match=message):
        as_texts("texts", value)


def test_a_symbolic_tensor():
    @tf.function
    def encode(texts):
        as_texts("texts", texts)

    with pytest.raises(ValueError, match="`texts` must be a string or several"):
        encode(tf.constant(TEXTS))


def test_encode_takes_them():
    tokenizer = CharacterTokenizer("abc ")
    for texts in (np.array(["ab", "c"]), Series("ab", "c"), tf.constant(["ab", "c"])):
        assert tokenizer.encode(texts) == [[0, 1], [2]]
        assert tokenizer.encode_padded(texts, 2).token_ids.tolist() == [[0, 1], [2, 0]]
    assert tokenizer.encode(tf.constant("ab")) == [0, 1]
