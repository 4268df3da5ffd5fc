import json
import os
import pickle
from pathlib import Path

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Engine

import gpt_keras.tokenizers as tokenizers
from gpt_keras.tokenizers import GPT1Tokenizer

FIXTURE = Path(__file__).parent.parent / "fixtures" / "gpt1_tokenizer.json"

# Marks and other characters that normalization changes in different ways.
MARKS = "\u302e\ua9c0\u1b44\u1dfb\u0301\u0327\u0941\u0903\U0001d165\U0001e000"
CHARACTERS = "aAbt\u00e9\u00c5\uac01\U0001d15e\ufffd\x00\xad \n\x85.$\u8a69\uf900"


@pytest.fixture(scope="module")
def fixture():
    return json.loads(FIXTURE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def small(fixture):
    merges = [tuple(merge) for merge in fixture["merges"]]
    return GPT1Tokenizer.from_vocabulary(fixture["vocabulary"], merges)


@pytest.fixture(scope="module")
def layer(small):
    return small.in_graph()


@pytest.fixture(scope="module")
def gpt1(plays):
    corpus = [plays[0], MARKS, CHARACTERS, " ".join(MARKS)]
    return GPT1Tokenizer.train(corpus, 600, special_tokens=["<|endoftext|>"])


@pytest.fixture(scope="module")
def gpt1_engine(gpt1):
    return Engine.from_str(gpt1.to_json())


@pytest.fixture(scope="module")
def gpt1_layer(gpt1):
    return gpt1.in_graph()


@pytest.fixture(scope="module")
def gpt1_function(gpt1_layer):
    return tf.function(gpt1_layer, input_signature=[tf.TensorSpec([None], tf.string)])


def test_ids_and_texts_are_those_of_transformers(small, layer, fixture):
    texts = fixture["texts"]
    assert small.encode(texts) == fixture["ids"]
    assert small.decode(fixture["ids"]) == fixture["decoded"]
    ids = layer(tf.constant(texts))
    assert (ids.dtype, ids.row_splits.dtype) == (tf.int32, tf.int64)
    assert ids.to_list() == fixture["ids"]
    strings = layer.detokenize(ids).numpy().tolist()
    assert strings == [text.encode() for text in fixture["decoded"]]
    assert layer([texts[-1]]).to_list() == [fixture["ids"][-1]]


def test_the_worked_example_of_byte_pair_encoding():
    # Sennrich et al. 2016, figure 1 of the code and its toy words; where they first merge "est"
    # with the end of the word, it is in the last character here.
    counts = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
    corpus = " ".join(word for word, count in counts.items() for _ in range(count))
    tokenizer = GPT1Tokenizer.train(corpus, 1 + 2 * 10 + 7)
    assert "".join(tokenizer.decode([i]) for i in range(11)) == "<unk>deilnorstw"
    learned = [tokenizer.decode([i]) for i in range(21, 28)]
    assert learned == ["es", "est", "lo", "ew", "new", "newest", "low"]
    assert tokenizer.encode("low") == [27]
    pieces = tokenizer.pieces(tokenizer.encode("slow slower"))
    assert pieces == [b"s", b"low ", b"s", b"lo", b"w", b"e", b"r"]


def test_train_knows_all_characters_inside_and_at_the_end_of_words():
    tokenizer = GPT1Tokenizer.train("Ab, É", 100)
    assert tokenizer.vocabulary_size == 1 + 2 * 4
    assert tokenizer.encode("AEB,") == [2 + 0, 4 + 0, 3 + 4, 1 + 4]
    assert tokenizer.decode(tokenizer.encode("ba x")) == "ba <unk>"
    assert tokenizer.end_of_text_id is None
    assert tokenizer.special_tokens == {}


def test_train_is_deterministic_and_takes_texts_files_and_generators(plays, tmp_path):
    texts = [play[:10_000] for play in plays[:3]]
    tokenizer = GPT1Tokenizer.train(texts, 300)
    assert tokenizer.vocabulary_size == 300
    for i, text in enumerate(texts):
        (tmp_path / f"{i}.txt").write_bytes(text.encode())
    files = sorted(tmp_path.iterdir())
    for same in (texts, (text for text in texts), tmp_path, files, [texts[0], *files[1:]]):
        assert GPT1Tokenizer.train(same, 300) == tokenizer
    assert GPT1Tokenizer.train(texts[:2], 300) != tokenizer


def test_min_frequency():
    assert len(GPT1Tokenizer.train("xy", 300, min_frequency=1).encode("xy")) == 1
    assert len(GPT1Tokenizer.train("xy", 300).encode("xy")) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary_size": 6}, r"at least 7 \(7 for <unk> and 3 characters .* got 6"),
        ({"vocabulary_size": 300, "min_frequency": 0}, "`min_frequency` must be .* got 0"),
        ({"vocabulary_size": 300, "special_tokens": ["a", "a"]}, "`special_tokens` must be"),
        (
            {"vocabulary_size": 300, "special_tokens": ["<unk>"]},
            "must not be in the vocabulary already",
        ),
        ({"vocabulary_size": 2**70}, "vocabulary_size.*below"),
        ({"vocabulary_size": 300, "corpus": ""}, "holds no text"),
        ({"vocabulary_size": 300, "corpus": " \n\x00"}, "holds no text"),
        ({"vocabulary_size": 300, "corpus": [3]}, "got 3 of type int as number 0"),
    ],
)
def test_train_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        GPT1Tokenizer.train(**{"corpus": "text"} | arguments)


def test_special_tokens(gpt1):
    end = gpt1.end_of_text_id
    assert gpt1.special_tokens == {"<|endoftext|>": end} == {"<|endoftext|>": 599}
    text = "Adam<|endoftext|>As"
    assert end not in gpt1.encode(text)
    ids = gpt1.encode(text, allowed_special="all")
    assert ids == [*gpt1.encode("Adam"), end, *gpt1.encode("As")]
    assert gpt1.in_graph("all")([text]).to_list() == [ids]
    assert gpt1.decode(ids) == "adam <|endoftext|>as"


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text() | st.text(MARKS + CHARACTERS, max_size=20), min_size=1, max_size=4))
def test_any_text_in_the_graph(gpt1, gpt1_layer, gpt1_function, texts):
    ids = gpt1.encode(texts)
    result = gpt1_function(tf.constant(texts))
    assert result.to_list() == ids
    strings = gpt1_layer.detokenize(result).numpy().tolist()
    assert strings == [text.encode() for text in gpt1.decode(ids)]


def test_bundled_corpora(gpt1, gpt1_layer, plays, poems):
    texts = [*plays[:2], *poems[:100]]
    assert gpt1_layer(texts).to_list() == gpt1.encode(texts)


def test_long_texts_are_the_same_as_in_one_piece(gpt1, gpt1_engine, plays):
    for text in (plays[0], "word" * 10_000, "a " * 20_000, "é\u0301" * 20_000):
        assert gpt1.encode(text) == gpt1_engine.encode(text).ids


@settings(deadline=None, max_examples=200)
@given(st.text(MARKS + CHARACTERS, max_size=20), st.text(MARKS + CHARACTERS, max_size=5))
def test_a_safe_cut_changes_nothing(gpt1, text, following):
    cut = gpt1.safe_cut(text)
    assert 0 <= cut <= len(text)
    whole = gpt1.encode(text + following)
    assert gpt1.encode(text[:cut]) + gpt1.encode((text + following)[cut:]) == whole


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, 599), max_size=4), min_size=1, max_size=5))
def test_pieces_streams_and_graph_give_the_same_text(gpt1, gpt1_layer, calls):
    ids = [i for some in calls for i in some]
    text = gpt1.decode(ids)
    assert b"".join(gpt1.pieces(ids)).decode() == text
    decoder = gpt1.stream_decoder()
    assert "".join([decoder.decode(some) for some in calls]) + decoder.finish() == text
    rest, streamed = tf.constant([b""]), b""
    for some in calls:
        one, rest = gpt1_layer.detokenize_stream(tf.constant([some], tf.int32), rest)
        assert not one.numpy()[0].endswith(b" ")
        streamed += one.numpy()[0]
    assert streamed.decode() == text


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 599), max_size=9))
def test_decode_is_that_of_the_engine(gpt1, gpt1_engine, ids):
    assert gpt1.decode(ids) == gpt1_engine.decode(ids, skip_special_tokens=False)


def test_detokenize_of_several_rows(gpt1, gpt1_layer):
    rows = [gpt1.encode("to be or"), [], gpt1.encode("not")]
    strings = gpt1_layer.detokenize(tf.ragged.constant(rows, tf.int32)).numpy().tolist()
    assert strings == [b"to be or", b"", b"not"]
    assert gpt1_layer.detokenize([rows[2]]).numpy().tolist() == [b"not"]
    assert gpt1_layer.detokenize(tf.zeros([0, 3], tf.int64)).shape == (0,)
    with pytest.raises(tf.errors.InvalidArgumentError):
        gpt1_layer.detokenize([[600]])


def test_an_empty_batch_and_invalid_utf8(gpt1, gpt1_layer):
    assert gpt1_layer(tf.constant([], tf.string)).to_list() == []
    texts = [b"to\xff be\xe8\xa9", b"\xff"]
    assert gpt1_layer(texts).to_list() == [gpt1.encode("to be"), []]


def test_padded_rows_are_the_same_in_the_graph(gpt1, gpt1_layer):
    texts = ["To be, or not to be", "that"]
    for options in ({}, {"append_end_of_text": True, "padding_side": "left"}):
        expected = gpt1.encode_padded(texts, 5, **options)
        result = gpt1_layer.encode_padded(texts, 5, **options)
        assert result.token_ids.numpy().tolist() == expected.token_ids.tolist()
        assert result.mask.numpy().tolist() == expected.mask.tolist()


def test_lone_surrogates_are_refused(gpt1):
    with pytest.raises(ValueError, match="lone surrogate"):
        gpt1.encode("a\ud800")


def test_copies_are_equal(gpt1, tmp_path):
    loaded = tokenizers.load(gpt1.save(tmp_path))
    for same in (loaded, pickle.loads(pickle.dumps(gpt1))):
        assert type(same) is GPT1Tokenizer
        assert same == gpt1
        assert same.encode("Adam<|endoftext|>") == gpt1.encode("Adam<|endoftext|>")
    engine = Engine.from_file(str(tmp_path / "tokenizer.json"))
    assert engine.encode("Adam and Eve").ids == gpt1.encode("Adam and Eve")


@pytest.mark.parametrize(
    ("vocabulary_file", "merges_file"),
    [("vocab.json", "merges.txt"), ("encoder_bpe_40000.json", "vocab_40000.bpe")],
)
def test_two_files_are_read(small, fixture, vocabulary_file, merges_file, tmp_path):
    (tmp_path / vocabulary_file).write_text(json.dumps(fixture["vocabulary"]), encoding="utf-8")
    lines = ["#version: 0.2", *map(" ".join, fixture["merges"]), "", ""]
    (tmp_path / merges_file).write_text("\n".join(lines), encoding="utf-8")
    assert tokenizers.load(tmp_path) == small


def test_a_file_of_transformers_is_read(small, tmp_path):
    # It marks <unk> as special.
    engine = Engine.from_str(small.to_json())
    engine.add_special_tokens([AddedToken("<unk>", special=True, normalized=False)])
    engine.enable_truncation(2)
    engine.save(str(tmp_path / "tokenizer.json"))
    loaded = tokenizers.load(tmp_path)
    assert loaded.special_tokens == {"<unk>": 0}
    text = "<unk> the towers"
    assert loaded.encode(text) == small.encode(text)
    assert loaded.encode(text, "all") == [0, *small.encode("the towers")]
    assert loaded.in_graph("all")([text]).to_list() == [loaded.encode(text, "all")]


def test_files_with_another_split_are_read_but_not_put_in_a_graph(small):
    engine = Engine.from_str(small.to_json())
    engine.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer = GPT1Tokenizer(engine)
    assert tokenizer.encode("naïve") != small.encode("naïve")
    assert tokenizer.safe_cut("the tower") == 0
    with pytest.raises(ValueError, match="GPT-1's split"):
        tokenizer.in_graph()


def test_a_merge_that_stands_twice_in_a_file():
    merges = [("a", "b"), ("b", "a"), ("a", "b")]
    engine = Engine(
        models.BPE(
            {"?": 0, "a": 1, "b": 2, "a</w>": 3, "b</w>": 4, "ab": 5, "ba": 6},
            merges,
            unk_token="?",
            end_of_word_suffix="</w>",
        )
    )
    engine.normalizer = normalizers.BertNormalizer(lowercase=True)
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    engine.decoder = decoders.BPEDecoder(suffix="</w>")
    tokenizer = GPT1Tokenizer(engine)
    texts = ["abab", "baba c", "aabbaab"]
    assert tokenizer.in_graph()(texts).to_list() == tokenizer.encode(texts)


@pytest.mark.parametrize(
    ("vocabulary", "merges", "message"),
    [
        ({"a": 0}, [], "must hold the token '<unk>'"),
        ({"<unk>": 0, "a": 2}, [], "the id 1 is missing"),
        ({"<unk>": 0, "a": 1}, [("a", "a")], "needs the token 'aa'"),
        ({"<unk>": 0, "a": 1, "aa": 2}, [("a", "a")] * 2, "must be distinct"),
    ],
)
def test_from_vocabulary_refuses(vocabulary, merges, message):
    with pytest.raises(ValueError, match=message):
        GPT1Tokenizer.from_vocabulary(vocabulary, merges)


def test_an_engine_of_another_kind_is_refused(trained):
    for engine in (Engine.from_str(trained.to_json()), Engine(models.WordPiece({"a": 0}))):
        with pytest.raises(ValueError, match="must be BPE with words that end in"):
            GPT1Tokenizer(engine)


DATA = Path(os.environ.get("GPT_KERAS_TEST_DATA", "nowhere")) / "gpt1"

# What OpenAIGPTTokenizer of transformers 5.23.0 gives with OpenAI's two files.
PUBLISHED = {
    "Hello world!": [3570, 1276, 267],
    "The quick brown fox jumps over the lazy dog.": [
        *(481, 2279, 2507, 8573, 11670, 715, 481, 8447, 2585, 239)
    ],
    "It's a café; don't you know?": [
        *(507, 256, 252, 246, 10717, 270, 2310, 256, 241, 512, 699, 257)
    ],
    "Attention is all you need — 2017.": [1863, 544, 589, 512, 966, 0, 4804, 9756, 239],
    "詩 naïve Ångström\n\nnew line": [0, 13391, 869, 12367, 783, 1584],
    "tokenization of indistinguishable words": [571, 2987, 26922, 498, 31341, 1254],
    "\tA\u0301 e\u0301 \xad x\u200by ½ ﬁ İstanbul ΑΣ": [*(246, 243, 9551, 342, 0, 34289, 179, 439)],
}


@pytest.mark.skipif(
    not (DATA / "encoder_bpe_40000.json").is_file() or not (DATA / "vocab_40000.bpe").is_file(),
    reason="GPT_KERAS_TEST_DATA has no gpt1/encoder_bpe_40000.json with its vocab_40000.bpe",
)
def test_the_published_vocabulary(plays):
    tokenizer = tokenizers.load(DATA)
    assert type(tokenizer) is GPT1Tokenizer
    assert tokenizer.vocabulary_size == 40478
    assert tokenizer.special_tokens == {}
    texts = list(PUBLISHED)
    assert tokenizer.encode(texts) == list(PUBLISHED.values())
    assert tokenizer.decode(PUBLISHED[texts[2]]) == "it ' s a cafe ; don ' t you know ?"
    layer = tokenizer.in_graph()
    assert layer(texts).to_list() == list(PUBLISHED.values())
    assert layer(plays[:3]).to_list() == tokenizer.encode(plays[:3])


def test_vocabulary_files_give_the_same_tokenizer(small, tmp_path):
    assert tokenizers.load(small.save_vocabulary(tmp_path)) == small
    special = GPT1Tokenizer.train("a b", 10, special_tokens=["<x>"])
    with pytest.raises(ValueError, match="<x>"):
        special.save_vocabulary(tmp_path / "other")
    assert not (tmp_path / "other").exists()
