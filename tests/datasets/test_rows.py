import itertools

import numpy as np
import pytest

from gpt_keras.datasets import padded
from gpt_keras.tokenizers import CharacterTokenizer

TOKENIZER = CharacterTokenizer("abcdefghij", end_of_text=True)
PLAIN = CharacterTokenizer("abcdefghij")
END = TOKENIZER.end_of_text_id


def arrays(data):
    return [tuple(array.tolist() for array in batch) for batch in data.as_numpy_iterator()]


def test_short_texts_are_padded_on_the_right():
    data = padded(["abc", "d"], TOKENIZER, sequence_length=4, batch_size=2)
    assert arrays(data) == [
        (
            [[0, 1, 2], [3, 0, 0]],
            [[1, 2, END], [END, 0, 0]],
            [[1, 1, 1], [1, 0, 0]],
        )
    ]


def test_long_texts_go_on_in_the_next_row():
    data = padded(["abcde"], TOKENIZER, sequence_length=2, batch_size=1)
    assert arrays(data) == [
        ([[0, 1]], [[1, 2]], [[1, 1]]),
        ([[2, 3]], [[3, 4]], [[1, 1]]),
        ([[4, 0]], [[END, 0]], [[1, 0]]),
    ]


def test_every_next_token_is_a_target_once():
    texts = ["abcdefghij"[:length] for length in range(1, 11)]
    data = padded(texts, TOKENIZER, sequence_length=3, batch_size=4, seed=1)
    pairs = [
        (i, t)
        for batch in data.as_numpy_iterator()
        for i, t, w in zip(*(array.ravel().tolist() for array in batch))
        if w
    ]
    expected = [
        pair
        for text in texts
        for ids in [[*TOKENIZER.encode(text), END]]
        for pair in itertools.pairwise(ids)
    ]
    assert sorted(pairs) == sorted(expected)


def test_the_last_batch_is_filled_up():
    for seed in (None, 0):
        data = padded(["abc"] * 5, PLAIN, sequence_length=9, batch_size=4, seed=seed)
        assert int(data.cardinality()) == 2
        assert [np.shape(part) for batch in arrays(data) for part in batch] == [(4, 2)] * 6
        _, _, weight = arrays(data)[1]
        assert weight == [[1, 1], [0, 0], [0, 0], [0, 0]]


def test_types_and_static_shapes():
    data = padded(["abcde"], PLAIN, sequence_length=3, batch_size=4)
    assert [spec.dtype.name for spec in data.element_spec] == ["int32", "int32", "float32"]
    assert all(spec.shape == (4, 3) for spec in data.element_spec)


def test_the_longest_text_gives_the_length():
    data = padded(["ab", "abcd"], TOKENIZER, sequence_length=None, batch_size=2)
    assert data.element_spec[0].shape == (2, 4)
    assert arrays(data)[0][0] == [[0, 1, 0, 0], [0, 1, 2, 3]]


def test_the_seed_decides_the_order():
    texts = [a + b for a in "abcde" for b in "fghij"]

    def epochs(seed):
        data = padded(texts, PLAIN, sequence_length=1, batch_size=1, seed=seed)
        return [arrays(data), arrays(data)]

    in_order, same = epochs(None)
    assert in_order == same
    first, second = epochs(0)
    assert [first, second] == epochs(0)
    assert first != second
    assert first != in_order
    assert sorted(first) == sorted(second) == sorted(in_order)


def test_texts_of_one_token_are_left_out_without_end_of_text():
    with pytest.warns(UserWarning, match="1 of 2 texts have fewer than 2 tokens"):
        data = padded(["a", "bc"], PLAIN, sequence_length=2, batch_size=1)
    assert arrays(data) == [([[1]], [[2]], [[1]])]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": []}, "`texts` must hold at least one string"),
        ({"texts": "abc"}, "`texts` must be several strings .*, got 'abc'"),
        ({"texts": ["a", 3]}, "got 3 of type int as number 1"),
        ({"texts": ["a.txt", "b.txt"]}, "looks like the name of a file"),
        ({"texts": ["a", ""]}, "at least 2 tokens .* longest has 1"),
        ({"texts": [""]}, "at least 2 tokens .* longest has 0"),
        ({"sequence_length": 0}, "`sequence_length` must be an integer of at least 1, got 0"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1, got 0"),
        ({"seed": 0.5}, r"`seed` must be an integer .* got 0\.5"),
    ],
)
def test_errors(changes, message):
    arguments = {"texts": ["abc"], "sequence_length": 4, "batch_size": 2} | changes
    with pytest.raises(ValueError, match=message):
        padded(tokenizer=PLAIN, **arguments)
