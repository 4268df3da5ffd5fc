"""Ids back to bytes and text: whole and bit by bit, in Python and in the graph."""

import random

import numpy as np
import pytest
import strange_texts
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from test_exactness import ranks

from gpt_keras.tokenizers.utf8 import incomplete_length, split_incomplete


@pytest.fixture(scope="session")
def token_bytes():
    """The bytes of GPT-2's ids, from the published merges."""
    return [*ranks(), b"<|endoftext|>"]


@pytest.fixture(scope="session")
def detokenize(gpt2_layer):
    signature = [tf.RaggedTensorSpec([None, None], tf.int32)]
    return tf.function(gpt2_layer.detokenize, input_signature=signature)


@pytest.fixture(scope="session")
def detokenize_stream(gpt2_layer):
    signature = [tf.RaggedTensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.string)]
    return tf.function(gpt2_layer.detokenize_stream, input_signature=signature)


def draw_ids(number, seed, token_bytes):
    """Random ids; ids of bytes, so that characters are cut and broken; and ids of texts."""
    draw = random.Random(seed)
    bytes_beyond_ascii = [i for i, token in enumerate(token_bytes[:256]) if token >= b"\x80"]
    characters = {token: i for i, token in enumerate(token_bytes[:256])}
    rows = []
    for _ in range(number):
        row = []
        for _ in range(draw.randint(0, 12)):
            kind = draw.random()
            if kind < 0.3:
                row.append(draw.randrange(len(token_bytes)))
            elif kind < 0.6:
                row.append(draw.choice(bytes_beyond_ascii))
            else:
                text = draw.choice(strange_texts.PARTS).encode()
                row += [characters[text[i : i + 1]] for i in range(len(text))]
        rows.append(row)
    return rows


# Every beginning of every character of more than one byte.
BEGINNINGS = {
    chr(c).encode()[:length]
    for c in range(0x80, 0x110000, 64)
    if not 0xD800 <= c < 0xE000
    for length in range(1, len(chr(c).encode()))
}


def split_by_definition(data):
    """What `data` settles, and the beginning of a character at its end."""
    length = max((n for n in (1, 2, 3) if data[-n:] in BEGINNINGS and n <= len(data)), default=0)
    return data[: len(data) - length], data[len(data) - length :]


def check_decoding(gpt2, detokenize, token_bytes, rows):
    expected = [b"".join(token_bytes[i] for i in row) for row in rows]
    assert detokenize(tf.ragged.constant(rows, tf.int32, 1)).numpy().tolist() == expected
    assert gpt2.decode(rows) == [data.decode("utf-8", "replace") for data in expected]


def test_decoding_of_random_ids(gpt2, detokenize, token_bytes):
    check_decoding(gpt2, detokenize, token_bytes, draw_ids(500, 0, token_bytes))
    every_id = np.arange(len(token_bytes)).tolist()
    check_decoding(gpt2, detokenize, token_bytes, [every_id[i : i + 50] for i in every_id[::50]])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, 50256), max_size=20), min_size=1, max_size=10))
def test_decoding_of_any_ids(gpt2, detokenize, token_bytes, rows):
    check_decoding(gpt2, detokenize, token_bytes, rows)


def cut_at_random(row, draw):
    """A few ids at a time; now and then none."""
    places = sorted(draw.choices(range(len(row) + 1), k=draw.randint(0, len(row) + 1)))
    return [row[start:end] for start, end in zip([0, *places], [*places, len(row)])]


@pytest.mark.parametrize("number", [200, pytest.param(5000, marks=pytest.mark.slow)])
def test_streams_in_python(gpt2, token_bytes, number):
    draw = random.Random(1)
    for row in draw_ids(number, 2, token_bytes):
        decoder, data, shown = gpt2.stream_decoder(), b"", ""
        for ids in cut_at_random(row, draw):
            data += b"".join(token_bytes[i] for i in ids)
            shown += decoder.decode(ids)
            # Nothing that is not certain: no U+FFFD for half a character.
            settled, waiting = split_by_definition(data)
            certain = settled.decode("utf-8", "replace")
            assert certain.startswith(shown)
            assert shown == certain or waiting
        assert shown + decoder.finish() == data.decode("utf-8", "replace") == gpt2.decode(row)


def test_streams_in_python_show_every_whole_character_at_once(gpt2):
    ids = gpt2.encode("a詩")
    assert gpt2.stream_decoder().decode(ids[:-1]) == "a"


@pytest.mark.parametrize("number", [200, pytest.param(5000, marks=pytest.mark.slow)])
def test_streams_in_the_graph(detokenize_stream, token_bytes, number):
    draw = random.Random(3)
    rows = draw_ids(number, 4, token_bytes)
    cut = [cut_at_random(row, draw) for row in rows]
    data, shown = [b""] * number, [""] * number
    joined, rest = [b""] * number, tf.fill([number], "")
    for step in range(max(map(len, cut))):
        ids = [pieces[step] if step < len(pieces) else [] for pieces in cut]
        texts, rest = detokenize_stream(tf.ragged.constant(ids, tf.int32, 1), rest)
        for i, text in enumerate(texts.numpy()):
            data[i] += b"".join(token_bytes[j] for j in ids[i])
            joined[i] += text
            shown[i] += text.decode("utf-8", "replace")
            assert shown[i] == split_by_definition(data[i])[0].decode("utf-8", "replace")
    whole = [b"".join(token_bytes[i] for i in row) for row in rows]
    assert [a + b for a, b in zip(joined, rest.numpy())] == whole


def test_incomplete_characters_are_told_apart_from_broken_ones():
    # All ends of three bytes, of the bytes that begin or limit a range of the Unicode Standard.
    edges = b"\x00\x41\x7f\x80\x8f\x90\x9f\xa0\xbf\xc0\xc1\xc2\xdf\xe0\xe1\xec\xed\xee\xef\xf0\xf1"
    edges += b"\xf3\xf4\xf5\xf7\xf8\xff"
    ends = [bytes([a, b, c]) for a in edges for b in edges for c in edges]
    ends += [end[:length] for end in ends[::7] for length in range(3)]
    ends += [bytes([a, b]) for a in range(256) for b in range(256)]
    complete, rest = (part.numpy().tolist() for part in split_incomplete(tf.constant(ends)))
    for end, before, after in zip(ends, complete, rest):
        assert (before, after) == split_by_definition(end)
        assert incomplete_length(end) == len(after)


def test_ids_may_be_of_any_integer_type(gpt2, gpt2_layer):
    for dtype in (np.uint16, np.int32, np.int64):
        ids = np.array([[15496, 995], [50256, 220]], dtype)
        assert gpt2.decode(ids) == ["Hello world", "<|endoftext|> "]
        found = gpt2_layer.detokenize(tf.constant(ids.astype(np.int64))).numpy().tolist()
        assert found == [b"Hello world", b"<|endoftext|> "]
