import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_keras.tokenizers.visible import display_width, visible


@given(st.text())
def test_pieces_joined_are_the_text(gpt2, text):
    ids = gpt2.encode(text)
    pieces = gpt2.pieces(ids)
    assert len(pieces) == len(ids)
    assert b"".join(pieces) == text.encode()


def test_pieces_of_characters_and_special_tokens(characters):
    assert characters.pieces(characters.encode("a\n")) == [b"a", b"\n"]
    assert characters.pieces([characters.end_of_text_id]) == [b"<|endoftext|>"]
    assert characters.pieces([]) == []
    with pytest.raises(ValueError, match="`ids` must be from 0"):
        characters.pieces([characters.vocabulary_size])


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        (b"", ""),
        (b"a b\n\t\r", "a␣b⏎⇥␍"),
        ("詩".encode(), "詩"),
        ("詩".encode()[:2], "‹E8A9›"),
        (b"\xa9a\xff\xfe", "‹A9›a‹FFFE›"),
        (b"\0\xc2\xa0\xe2\x80\x8b", "‹U+0000›‹U+00A0›‹U+200B›"),
        ("e\u0301".encode(), "e\u0301"),
        ("\u0301".encode(), "◌\u0301"),
    ],
)
def test_what_is_shown(piece, expected):
    assert visible(piece) == expected


@given(st.binary())
def test_all_is_seen(piece):
    shown = visible(piece)
    assert bool(shown) == bool(piece)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"}


def test_width_on_a_terminal():
    assert display_width("") == 0
    assert display_width("abc,") == 4
    assert display_width("山水，") == 6
    assert display_width("e\u0301") == 1
