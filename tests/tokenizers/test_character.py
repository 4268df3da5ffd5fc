import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_keras.tokenizers import CharacterTokenizer


def test_ids_are_the_places_of_the_characters():
    tokenizer = CharacterTokenizer("cab")
    assert tokenizer.encode("abc") == [1, 2, 0]
    assert tokenizer.decode([1, 2, 0]) == "abc"
    assert tokenizer.vocabulary_size == 3
    assert tokenizer.end_of_text_id is None


def test_train_takes_the_distinct_characters_sorted(tmp_path):
    (tmp_path / "a.txt").write_text("xyz詩", encoding="utf-8")
    assert CharacterTokenizer.train("hello").characters == "ehlo"
    assert CharacterTokenizer.train(["b", "a", tmp_path]).characters == "abxyz詩"
    with pytest.raises(ValueError, match="holds no text"):
        CharacterTokenizer.train([])


def test_end_of_text_is_the_last_id_and_no_text():
    tokenizer = CharacterTokenizer.train("<|endoftext|>", end_of_text=True)
    assert tokenizer.end_of_text_id == tokenizer.vocabulary_size - 1
    assert tokenizer.decode([tokenizer.end_of_text_id]) == "<|endoftext|>"
    assert tokenizer.end_of_text_id not in tokenizer.encode("<|endoftext|>")


@given(st.text(alphabet="abc詩\n"))
def test_every_text_comes_back(text):
    tokenizer = CharacterTokenizer("abc詩\n")
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_unknown_characters_are_named():
    tokenizer = CharacterTokenizer("abc")
    with pytest.raises(ValueError, match=r"does not know: \['x', 'é'\]"):
        tokenizer.encode(["ab", "éxa"])
    with pytest.raises(ValueError, match=r"must be from 0 to 2 .* got 3"):
        tokenizer.decode([3])


@pytest.mark.parametrize("characters", ["", "aba", ["ab"], "\ud800"])
def test_characters_that_are_refused(characters):
    with pytest.raises(ValueError, match="`characters` must"):
        CharacterTokenizer(characters)


def test_content_decides_equality():
    assert CharacterTokenizer("ab") == CharacterTokenizer(["a", "b"])
    assert CharacterTokenizer("ab") != CharacterTokenizer("ba")
    assert CharacterTokenizer("ab") != CharacterTokenizer("ab", end_of_text=True)
    assert CharacterTokenizer("ab").digest() != CharacterTokenizer("ba").digest()
    assert CharacterTokenizer("ab") != "ab"
