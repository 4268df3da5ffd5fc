import numpy as np
import pytest

import gpt_keras as gk
from gpt_keras.convert import word_vectors

DIM = 3


def vector(seed):
    return np.round(np.random.default_rng(seed).normal(size=DIM), 4)


def write(path, words, header=False, end="\n"):
    lines = [f"{word} " + " ".join(map(str, vector(i))) for i, word in enumerate(words)]
    if header:
        lines.insert(0, f"{len(words)} {DIM}")
    path.write_bytes((end.join(lines) + end).encode())
    return path


def initial(tokenizer, more=0):
    size = (tokenizer.vocabulary_size + more, DIM)
    return np.random.default_rng(7).normal(size=size).astype("float32")


@pytest.fixture(scope="module")
def tokenizer():
    text = "the cat sat on the mat, the Cat THE 詩詩詩 " * 20
    return gk.tokenizers.BytePairTokenizer.train([text], 290)


@pytest.mark.parametrize(("header", "end"), [(False, "\n"), (True, "\n"), (True, " \n")])
def test_tokens_get_the_vectors_of_their_words(tmp_path, tokenizer, header, end):
    words = ["unknown", "the", "cat", ". . .", "Cat", "詩", "a"]
    path = write(tmp_path / "vectors.txt", words, header, end)
    start = initial(tokenizer, more=2)
    before = start.copy()
    result = word_vectors(path, tokenizer, start, corpus=["the Cat sat"])
    np.testing.assert_array_equal(start, before)
    assert result.matrix.dtype == np.float32
    assert result.matrix.shape == start.shape

    def row(text):
        (token,) = tokenizer.encode(text)
        return result.matrix[token]

    np.testing.assert_allclose(row(" the"), vector(1), rtol=1e-6)
    np.testing.assert_allclose(row("the"), vector(1), rtol=1e-6)
    np.testing.assert_allclose(row(" cat"), vector(2), rtol=1e-6)
    np.testing.assert_allclose(row(" Cat"), vector(4), rtol=1e-6)  # not that of "cat"
    np.testing.assert_allclose(row(" THE"), vector(1), rtol=1e-6)  # the file has no capitals of it
    np.testing.assert_allclose(row("A"), vector(6), rtol=1e-6)
    # All others are as they were.
    for token in range(tokenizer.vocabulary_size):
        word = tokenizer.decode([token]).removeprefix(" ")
        is_there = word in words or word.lower() in words
        assert result.found[token] == is_there, word
        if not is_there:
            np.testing.assert_array_equal(result.matrix[token], before[token])
    assert not result.found[-2:].any()
    assert result.token_coverage == result.found.sum() / tokenizer.vocabulary_size
    ids = tokenizer.encode("the Cat sat")
    assert result.corpus_coverage == np.mean(result.found[ids])
    assert 0 < result.corpus_coverage < 1


def test_they_go_into_a_model(tmp_path):
    tokenizer = gk.tokenizers.CharacterTokenizer("abc", end_of_text=True)
    path = write(tmp_path / "vectors.txt", ["a", "c", "<|endoftext|>"])
    lstm = gk.LSTMBackbone(tokenizer.vocabulary_size, num_layers=1, hidden_dim=DIM)
    embeddings = lstm.token_embedding.embeddings
    before = np.array(embeddings)
    result = word_vectors(path, tokenizer, before)
    assert result.found.tolist() == [True, False, True, False]
    assert result.token_coverage == 0.5
    assert result.corpus_coverage is None
    embeddings.assign(result.matrix)
    np.testing.assert_allclose(
        lstm.token_embedding(np.array([0, 1, 2])), [vector(0), before[1], vector(1)], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a 1 2 3\nb 1 2\n", "line 2: it must have a word and 3 numbers .* has 3 fields: 'b 1 2'"),
        ("a 1 2 3\nb 1 2 3 4\n", "line 2: .* 5 fields"),
        ("z 1 2 3 4\n", "line 1: .* 5 fields"),
        ("a 1 2 3\n\n", "line 2: .* 1 fields: ''"),
        ("a 1 2 x\n", "line 1: could not convert string to float: b'x'"),
        ("z 1 2 3\na 1 nan 3\n", "line 2: a number is not finite"),
        ("a 1 2 3\nb 1 2 3\na 4 5 6\n", "line 3: the word 'a' is already on line 1"),
        ("3 3\na 1 2 3\n", "line 1: it announces 3 vectors, but there are 1"),
        ("1 4\na 1 2 3 4\n", "line 1: the vectors have 4 dimensions, and `initial` has 3"),
        ("", "holds no vector"),
        ("0 3\n", "holds no vector"),
    ],
)
def test_broken_files(tmp_path, content, message):
    tokenizer = gk.tokenizers.CharacterTokenizer("abc")
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        word_vectors(path, tokenizer, initial(tokenizer))


def test_bad_arguments(tmp_path):
    tokenizer = gk.tokenizers.CharacterTokenizer("abc")
    with pytest.raises(ValueError, match=r"no file .*nowhere\.txt"):
        word_vectors(tmp_path / "nowhere.txt", tokenizer, initial(tokenizer))
    path = write(tmp_path / "vectors.txt", ["a"])
    with pytest.raises(ValueError, match=r"at least 3 rows.*\(2, 3\)"):
        word_vectors(path, tokenizer, np.zeros((2, 3)))


def test_words_that_are_not_utf8_are_passed_over(tmp_path):
    tokenizer = gk.tokenizers.CharacterTokenizer("abc")
    path = tmp_path / "vectors.txt"
    path.write_bytes(b"\xff\xfe 1 2 3\nb 4 5 6\n")
    result = word_vectors(path, tokenizer, initial(tokenizer))
    np.testing.assert_array_equal(result.matrix[1], [4, 5, 6])
    assert result.found.tolist() == [False, True, False]
