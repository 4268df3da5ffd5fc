import copy
import hashlib
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Engine
from tokenizers import models, pre_tokenizers

from gpt_keras.tokenizers import BytePairTokenizer
from gpt_keras.tokenizers.byte_pair import GPT2_MERGES, byte_characters

# Ids that others published: transformers' documentation, the tests of gpt-3-encoder, OpenAI's
# GPT-2 examples.
KNOWN = {
    "": [],
    " ": [220],
    "Hello world": [15496, 995],
    "Hello, my dog is cute": [15496, 11, 616, 3290, 318, 13779],
    "indivisible": [521, 452, 12843],
    "hello 👋 world 🌍": [31373, 50169, 233, 995, 12520, 234, 235],
    "This is an example sentence to try encoding out on!": [
        *(1212, 318, 281, 1672, 6827, 284, 1949, 21004, 503, 319, 0)
    ],
}


@pytest.mark.parametrize("text", KNOWN)
def test_gpt2_gives_the_published_ids(gpt2, text):
    assert gpt2.encode(text) == KNOWN[text]
    assert gpt2.decode(KNOWN[text]) == text


def test_gpt2_vocabulary_is_the_published_file(gpt2):
    vocabulary = Engine.from_str(gpt2.to_json()).get_vocab(with_added_tokens=True)
    assert gpt2.vocabulary_size == len(vocabulary) == 50257
    # encoder.json of the same package as the merges, its keys sorted.
    digest = hashlib.sha256(json.dumps(vocabulary, sort_keys=True).encode()).hexdigest()
    assert digest == "855ec41a9d90094ebb1189ee8082e915505cf2dfe0691a4f39da9c020f9476b2"


def test_the_merges_are_in_the_provenance():
    provenance = (GPT2_MERGES.parent / "PROVENANCE.md").read_text(encoding="utf-8")
    assert hashlib.sha256(GPT2_MERGES.read_bytes()).hexdigest() in provenance


def test_end_of_text_is_an_id_but_not_a_text(gpt2):
    assert gpt2.end_of_text_id == 50256
    assert gpt2.special_tokens == {"<|endoftext|>": 50256}
    assert gpt2.decode([15496, 50256]) == "Hello<|endoftext|>"
    ids = gpt2.encode("Hello<|endoftext|>")
    assert ids == [15496, 27, 91, 437, 1659, 5239, 91, 29]
    assert gpt2.decode(ids) == "Hello<|endoftext|>"


def test_byte_characters_are_distinct_and_visible():
    table = byte_characters()
    assert len(set(table)) == 256
    assert not any(character.isspace() for character in table)
    assert set(table) == set(pre_tokenizers.ByteLevel.alphabet())


@settings(deadline=None, max_examples=200)
@given(st.text())
def test_every_text_comes_back(trained, text):
    assert trained.decode(trained.encode(text)) == text


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(), max_size=5))
def test_a_batch_is_each_text_by_itself(trained, texts):
    batch = trained.encode(texts)
    assert batch == [trained.encode(text) for text in texts]
    assert trained.decode(batch) == texts or not texts


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="a'sre \n\t\x1c\x85\u3000詩1.", max_size=30), st.text(max_size=5))
def test_a_safe_cut_changes_nothing(gpt2, text, following):
    cut = gpt2.safe_cut(text)
    assert 0 <= cut <= len(text)
    whole = gpt2.encode(text + following)
    assert gpt2.encode(text[:cut]) + gpt2.encode((text + following)[cut:]) == whole


def test_long_texts_are_the_same_as_in_one_piece(gpt2, plays, poems):
    engine = Engine.from_str(gpt2.to_json())
    for text in (plays[0], "\n".join(poems), "word" * 10_000, " \n" * 20_000, "a " * 20_000):
        assert gpt2.encode(text) == engine.encode(text).ids


def test_the_worked_example_of_byte_pair_encoding():
    # https://en.wikipedia.org/wiki/Byte_pair_encoding: aaabdaaabac is XdXac after three merges.
    tokenizer = BytePairTokenizer.train("aaabdaaabac", 256 + 3, special_tokens=())
    a, c, d = (tokenizer.encode(letter)[0] for letter in "acd")
    assert tokenizer.encode("aaabdaaabac") == [258, d, 258, a, c]
    assert tokenizer.decode([258]) == "aaab"
    assert tokenizer.end_of_text_id is None


def test_train_lays_out_ids_as_gpt2(trained, gpt2):
    assert trained.vocabulary_size == 512
    assert trained.end_of_text_id == 511
    assert [trained.decode([i]) for i in range(94)] == [gpt2.decode([i]) for i in range(94)]
    assert trained.decode([256]) in {" t", "th", "he", " a"}  # most frequent in English


def test_train_is_deterministic_and_takes_texts_files_and_generators(plays, tmp_path):
    texts = [play[:20_000] for play in plays[:3]]
    tokenizer = BytePairTokenizer.train(texts, 400)
    for i, text in enumerate(texts):
        (tmp_path / f"{i}.txt").write_bytes(text.encode())
    files = sorted(tmp_path.iterdir())
    for same in (texts, (text for text in texts), tmp_path, files, [texts[0], *files[1:]]):
        assert BytePairTokenizer.train(same, 400) == tokenizer
    assert BytePairTokenizer.train(texts[:2], 400) != tokenizer


def test_train_on_little_text_gives_fewer_tokens():
    tokenizer = BytePairTokenizer.train("ab ab", 1000)
    assert 257 < tokenizer.vocabulary_size < 265
    assert tokenizer.end_of_text_id == tokenizer.vocabulary_size - 1


def test_min_frequency():
    merged = BytePairTokenizer.train("xy", 300, min_frequency=1)
    assert len(merged.encode("xy")) == 1
    assert len(BytePairTokenizer.train("xy", 300).encode("xy")) == 2


def test_special_tokens_of_ones_own():
    tokenizer = BytePairTokenizer.train("a", 258, special_tokens=("<|user|>", "<|endoftext|>"))
    assert tokenizer.special_tokens == {"<|user|>": 256, "<|endoftext|>": 257}
    assert max(tokenizer.encode("<|user|>")) < 256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary_size": 256}, "`vocabulary_size` must be at least 257 .* got 256"),
        ({"vocabulary_size": 300, "min_frequency": 0}, "`min_frequency` must be .* got 0"),
        ({"vocabulary_size": 300, "special_tokens": ["a", "a"]}, "`special_tokens` must be"),
        ({"vocabulary_size": 300, "special_tokens": "<e>"}, "must be a list of strings"),
        (
            {"vocabulary_size": 300, "special_tokens": ["a"]},
            "must not be in the vocabulary already",
        ),
        ({"vocabulary_size": "300"}, "vocabulary_size.*'300'"),
        ({"vocabulary_size": 2**70}, "vocabulary_size.*below"),
        ({"vocabulary_size": 300, "corpus": ""}, "holds no text"),
        ({"vocabulary_size": 300, "corpus": [3]}, "got 3 of type int as number 0"),
        ({"vocabulary_size": 300, "corpus": 3}, "of type int"),
    ],
)
def test_train_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        BytePairTokenizer.train(**{"corpus": "text"} | arguments)


def test_decode_takes_lists_arrays_and_batches(gpt2):
    ids = [15496, 995]
    for one in (ids, tuple(ids), np.array(ids, np.uint16), iter(ids)):
        assert gpt2.decode(one) == "Hello world"
    for batch in ([ids, []], [np.array(ids), []]):
        assert gpt2.decode(batch) == ["Hello world", ""]
    assert gpt2.decode(np.array([ids, ids])) == ["Hello world"] * 2
    assert gpt2.decode([]) == ""


def test_decode_of_half_a_character_has_a_replacement_character(gpt2):
    ids = gpt2.encode("詩")
    assert len(ids) > 1
    assert gpt2.decode(ids[:-1]) == "\ufffd"


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([50257], "`ids` must be from 0 to 50256 .* got 50257"),
        ([[0], [-1]], "got -1"),
        ([1.5], "must be integers"),
        (3, "must be a sequence"),
        ("text", "must be a sequence"),
        (np.zeros((1, 1, 1), int), "1 or 2 dimensions"),
    ],
)
def test_decode_refuses(gpt2, ids, message):
    with pytest.raises(ValueError, match=message):
        gpt2.decode(ids)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"bytes", "`text` must be a string or several"),
        (None, "`text` must be a string or several"),
        (["a", 3], "`text` must hold strings, got 3 of type int as number 1"),
    ],
)
def test_encode_refuses(gpt2, text, message):
    with pytest.raises(ValueError, match=message):
        gpt2.encode(text)


def test_copies_are_equal_and_treat_special_tokens_the_same(trained):
    for same in (pickle.loads(pickle.dumps(trained)), copy.deepcopy(trained)):
        assert same == trained
        assert hash(same) == hash(trained)
        assert same.encode("<|endoftext|>") == trained.encode("<|endoftext|>")


def test_an_engine_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="must be byte-level BPE"):
        BytePairTokenizer(Engine(models.WordLevel({"a": 0}, unk_token="a")))


def test_the_encoder_for_corpora_gives_the_same_ids(gpt2, trained, characters, poems):
    for tokenizer in (gpt2, trained, characters):
        encode = tokenizer.corpus_encoder()
        for texts in (poems[:20], ["", poems[0], ""], []):
            rows = encode(texts)
            assert [row.tolist() for row in rows] == tokenizer.encode(texts)


def test_a_special_token_written_like_a_merged_one_changes_nothing():
    tokenizer = BytePairTokenizer.train("詩 詩 詩 詩", 260, special_tokens=["詩"])
    assert tokenizer.encode("詩 詩") == [257, 258]
    assert tokenizer.in_graph()(["詩 詩"]).to_list() == [[257, 258]]
    assert tokenizer.in_graph(["詩"])(["詩 詩"]).to_list() == [tokenizer.encode("詩 詩", ["詩"])]


def test_without_merges_every_byte_is_a_token():
    tokenizer = BytePairTokenizer.train("ab", 257)
    assert tokenizer.in_graph()(["ab"]).to_list() == [tokenizer.encode("ab")]
