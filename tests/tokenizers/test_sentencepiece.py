"""Ids and text are those of the sentencepiece package, in Python, in a graph and in a server."""

import copy
import functools
import io
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpt_keras.tokenizers as tokenizers
from gpt_keras.tokenizers import SentencePieceTokenizer
from gpt_keras.tokenizers.sentencepiece_model import parse

sentencepiece = pytest.importorskip("sentencepiece")
pytest.importorskip("tensorflow_text")
import tensorflow as tf  # noqa: E402

# How models differ in what happens to spaces; Llama's are `byte_pair`, T5's are `plain`.
KINDS = {
    "unigram": dict(model_type="unigram", byte_fallback=True, vocab_size=1900),
    "byte_pair": dict(
        model_type="bpe",
        byte_fallback=True,
        vocab_size=1900,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["<sep>"],
        control_symbols=["<|im_start|>"],
    ),
    "plain": dict(model_type="unigram", vocab_size=1700, normalization_rule_name="nmt_nfkc_cf"),
    "no_prefix": dict(
        model_type="bpe",
        byte_fallback=True,
        vocab_size=1900,
        add_dummy_prefix=False,
        eos_piece="<eos>",
    ),
    "untouched": dict(
        model_type="bpe",
        byte_fallback=True,
        vocab_size=1900,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        eos_id=-1,
    ),
    "suffix": dict(
        model_type="bpe", byte_fallback=True, vocab_size=1900, treat_whitespace_as_suffix=True
    ),
}

TRICKY = [
    "",
    " ",
    "Hello world",
    "  Hello   world  ",
    "a\n\tb",
    "a\0b\0",
    "詩山龘 a",
    "１２ ﬁ Ａ",
    "\ufeffa\u3000b\u200b",
    "<s>a</s><sep><unk><0xE8>",
    "▁a ▁ ⁇ ",
    "👋🏽 e\u0301",
]


def assert_same(tokenizer, reference, layer, texts):
    """All that can be compared on texts."""
    ids = reference.encode(texts)
    decoded = reference.decode(ids)
    assert tokenizer.encode(texts) == ids
    assert tokenizer.decode(ids) == decoded
    in_graph = layer(tf.constant(texts, tf.string, shape=[len(texts)]))
    assert (in_graph.dtype, in_graph.row_splits.dtype) == (tf.int32, tf.int64)
    assert in_graph.to_list() == ids
    assert layer.detokenize(in_graph).numpy().tolist() == [text.encode() for text in decoded]
    return ids


@pytest.fixture(scope="session")
def models(plays, poems):
    lines = [*plays[0][:60_000].split("\n"), *"\n".join(poems[:200]).split("\n")]

    def train(options):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            character_coverage=0.98,
            hard_vocab_limit=False,
            num_threads=1,
            minloglevel=2,
            **options,
        )
        return model.getvalue()

    return {name: train(options) for name, options in KINDS.items()}


@pytest.fixture(scope="session")
def trained_pieces(models):
    """For each kind the tokenizer, the package's own, and the layer."""
    everything = {}
    for name, model in models.items():
        tokenizer = SentencePieceTokenizer(model)
        reference = sentencepiece.SentencePieceProcessor(model_proto=model)
        everything[name] = tokenizer, reference, tokenizer.in_graph()
    return everything


@pytest.fixture(scope="session", params=KINDS)
def three(request, trained_pieces):
    return trained_pieces[request.param]


@pytest.fixture(scope="session")
def llama(trained_pieces):
    """The kind that Llama's is."""
    return trained_pieces["byte_pair"][0]


def test_tricky_texts(three):
    assert_same(*three, TRICKY)
    for text in TRICKY:
        assert_same(*three, [text])


def test_bundled_corpora(three, plays, poems):
    assert_same(*three, [plays[1][:50_000], *plays[2][:20_000].split("\n"), *poems[-50:]])


@settings(deadline=None, max_examples=20)
@given(texts=st.lists(st.text(), max_size=4))
def test_any_text(three, texts):
    assert_same(*three, texts)


@settings(deadline=None, max_examples=20)
@given(texts=st.lists(st.text(alphabet=" ▁\n\u3000the詩龘<sep>", max_size=12), max_size=4))
def test_text_full_of_spaces(three, texts):
    assert_same(*three, texts)


@functools.cache
def whole_characters(reference):
    """Ids, except those of bytes that are no characters, where the number of U+FFFD differs."""
    pieces = [reference.id_to_piece(i) for i in range(reference.get_piece_size())]
    ids = [i for i in range(len(pieces)) if not reference.is_byte(i) or pieces[i] < "<0x80>"]
    spaces = [i for i in ids if "▁" in pieces[i] or reference.is_control(i)]
    return st.one_of(st.sampled_from(spaces), st.sampled_from(ids))


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_ids_decode_alike(three, data):
    tokenizer, reference, layer = three
    ids = data.draw(st.lists(whole_characters(reference), max_size=8))
    expected = reference.decode(ids)
    assert tokenizer.decode(ids) == expected
    rows = tf.ragged.constant([ids, [], ids], tf.int32)
    assert layer.detokenize(rows).numpy().tolist() == [expected.encode(), b"", expected.encode()]
    decoder = tokenizer.stream_decoder()
    assert "".join([decoder.decode([i]) for i in ids]) + decoder.finish() == expected


def test_sizes_and_special_tokens(three):
    tokenizer, reference, _ = three
    assert tokenizer.vocabulary_size == reference.get_piece_size()
    control = [i for i in range(reference.get_piece_size()) if reference.is_control(i)]
    assert tokenizer.special_tokens == {reference.id_to_piece(i): i for i in control}
    assert tokenizer.end_of_text_id == (reference.eos_id() if reference.eos_id() >= 0 else None)


def test_special_tokens_of_each_kind(trained_pieces):
    ends = {name: three[0].end_of_text_id for name, three in trained_pieces.items()}
    assert ends["untouched"] is None
    assert ends["no_prefix"] == trained_pieces["no_prefix"][0].special_tokens["<eos>"]
    assert set(trained_pieces["byte_pair"][0].special_tokens) == {"<s>", "</s>", "<|im_start|>"}


def test_special_tokens_on_request(three):
    tokenizer, reference, _ = three
    name, i = list(tokenizer.special_tokens.items())[-1]
    text = f"one{name}  two{name}{name}"
    assert i not in tokenizer.encode(text)
    ids = tokenizer.encode(text, allowed_special="all")
    assert ids == [*reference.encode("one"), i, *reference.encode("  two"), i, i]
    layer = tokenizer.in_graph(allowed_special=[name])
    assert layer([text, "", name]).to_list() == [ids, [], [i]]
    assert layer([text, "", name]).to_list() == tokenizer.encode([text, "", name], [name])


def test_encode_padded(three):
    tokenizer, reference, layer = three
    texts = ["the king", "", "詩 of a long, long line"]
    end = tokenizer.end_of_text_id is not None
    token_ids, mask = tokenizer.encode_padded(texts, 6, append_end_of_text=end)
    for row, keep, text in zip(token_ids, mask, texts):
        expected = [*reference.encode(text), *[tokenizer.end_of_text_id] * end][:6]
        assert row[keep].tolist() == expected
    again = layer.encode_padded(texts, 6, append_end_of_text=end)
    np.testing.assert_array_equal(again.token_ids, token_ids)
    np.testing.assert_array_equal(again.mask, mask)


def test_a_character_of_byte_pieces_never_comes_out_in_halves(llama):
    ids = llama.encode("a龘 b")
    assert llama.pieces(ids) == [b" a", b"\xe9", b"\xbe", b"\x98", b" ", b"b"] or len(ids) > 4
    decoder = llama.stream_decoder()
    shown = [decoder.decode([i]) for i in ids]
    assert "".join(shown) == "a龘 b"
    assert shown.count("龘") == 1
    assert "\ufffd" not in "".join(shown)
    half = ids[: llama.pieces(ids).index(b"\x98")]
    assert llama.ends_inside_character(half)
    assert not llama.ends_inside_character(ids)
    decoder = llama.stream_decoder()
    assert decoder.decode(half) == "a"
    assert decoder.finish() == "\ufffd"


@settings(deadline=None, max_examples=20)
@given(text=st.text(alphabet=" a詩龘👋\n▁", max_size=12))
def test_streams_join_to_the_text(three, text):
    tokenizer, _, _ = three
    ids = tokenizer.encode(text)
    decoder = tokenizer.stream_decoder()
    shown = [decoder.decode([i]) for i in ids]
    assert "".join(shown) + decoder.finish() == tokenizer.decode(ids)
    if "⁇" not in tokenizer.decode(ids):
        assert not any("\ufffd" in piece for piece in shown)


def test_a_stream_in_a_graph_keeps_the_space_of_the_first_word(three):
    tokenizer, _, layer = three
    ids = tokenizer.encode("Hello 龘 詩 world")
    rest, joined = tf.constant([""]), b""
    for i in ids:
        piece, rest = layer.detokenize_stream([[i]], rest)
        joined += piece.numpy()[0]
        assert "\ufffd" not in joined.decode()
    assert joined == b"".join(tokenizer.pieces(ids))
    assert not rest.numpy()[0]


def test_pieces_are_those_of_the_package(three):
    tokenizer, reference, _ = three
    text = "Hello  詩 world"
    ids = tokenizer.encode(text)
    expected = [piece.replace("▁", " ").encode() for piece in reference.encode(text, out_type=str)]
    if "⁇" not in reference.decode(ids):
        assert tokenizer.pieces(ids) == expected
    assert b"".join(tokenizer.pieces(ids)).decode().strip() == reference.decode(ids).strip()


def test_broken_bytes_decode_as_in_every_tokenizer(llama):
    broken = llama.encode("龘")[-3:-1]
    assert llama.decode(broken) == "\ufffd"
    assert llama.in_graph().detokenize([broken]).numpy()[0] == "龘".encode()[:2]
    assert llama.in_graph()([b"a\xffb"]).to_list() == [llama.encode("a\ufffdb")]


def test_bad_text_and_ids_are_refused(llama):
    with pytest.raises(ValueError, match="lone surrogate"):
        llama.encode("a\ud800")
    for i in (-1, llama.vocabulary_size):
        with pytest.raises(ValueError, match="`ids` must be from 0"):
            llama.decode([i])
        with pytest.raises(tf.errors.InvalidArgumentError):
            llama.in_graph().detokenize([[i]])


def test_saved_copied_and_pickled_tokenizers_are_equal(llama, models, tmp_path):
    saved = tokenizers.load(llama.save(tmp_path))
    for other in (saved, pickle.loads(pickle.dumps(llama)), copy.deepcopy(llama)):
        assert other == llama
        assert other.digest() == llama.digest()
        assert other.encode("a 詩") == llama.encode("a 詩")
    assert llama != SentencePieceTokenizer(models["unigram"])


@pytest.mark.parametrize("name", ["tokenizer.model", "spiece.model"])
def test_files_of_others(name, llama, models, tmp_path):
    file = tmp_path / name
    file.write_bytes(models["byte_pair"])
    for path in (file, str(file), tmp_path):
        assert tokenizers.load(path) == llama
    assert SentencePieceTokenizer.from_file(file) == llama
    other = tokenizers.CharacterTokenizer("ab")
    other.save(tmp_path)  # a tokenizer.json comes first
    assert tokenizers.load(tmp_path) == other


def test_bad_models_are_refused(models, tmp_path):
    whole = models["unigram"]
    no_unknown = b"\n\x03\n\x01a"  # one piece, an ordinary one
    bad_byte = b"\n\x07\n\x03<z>\x18\x06"
    for bad in (b"", b"junk", b"\0", whole[5:], whole[: len(whole) // 2], whole[:-1], no_unknown):
        with pytest.raises(ValueError, match="`model` must be the bytes of a SentencePiece"):
            SentencePieceTokenizer(bad)
        file = tmp_path / "bad.model"
        file.write_bytes(bad)
        with pytest.raises(ValueError, match=r"bad\.model' is not a tokenizer file"):
            tokenizers.load(file)
    for bad in (None, "tokenizer.model"):
        with pytest.raises(ValueError, match="from_file"):
            SentencePieceTokenizer(bad)
    for bad in (bad_byte, whole + b"\x2a\x03\x12\x01a"):  # the second has a denormalizer
        with pytest.raises(ValueError, match=r"not a byte|denormalizer"):
            parse(bad)
    with pytest.raises(ValueError, match=r"no tokenizer file .*none\.model"):
        SentencePieceTokenizer.from_file(tmp_path / "none.model")


def test_without_tensorflow_text(models, llama, tmp_path, monkeypatch):
    file = llama.save(tmp_path)
    (tmp_path / "a.model").write_bytes(models["unigram"])
    monkeypatch.setitem(sys.modules, "tensorflow_text", None)
    for make in (
        lambda: SentencePieceTokenizer(models["unigram"]),
        lambda: tokenizers.load(file),
        lambda: tokenizers.load(tmp_path / "a.model"),
    ):
        with pytest.raises(ImportError, match=r"pip install 'gpt_keras\[text\]'"):
            make()


def test_in_a_tf_data_pipeline(models, llama):
    texts = ["one two", "", "three"]
    data = tf.data.Dataset.from_tensor_slices(texts).batch(2).map(llama.in_graph())
    assert [ids.to_list() for ids in data] == [llama.encode(texts[:2]), llama.encode(texts[2:])]

    def made_inside(strings):
        tokenizer = SentencePieceTokenizer(models["byte_pair"])
        assert tokenizer.encode("three") == llama.encode("three")
        return tokenizer.in_graph()(strings)

    data = tf.data.Dataset.from_tensors(["one two"]).map(made_inside)
    assert next(iter(data)).to_list() == llama.encode(["one two"])


SERVER = """
import sys
import tensorflow as tf
import tensorflow_text
module = tf.saved_model.load(sys.argv[1])
texts = tf.constant(["Hello world", "", "  it's </s> \\u8a69\\u9f98"])
flat, row_splits = module.tokenize(texts)
print(flat.numpy().tolist(), row_splits.numpy().tolist())
print([text.decode() for text in module.detokenize(flat, row_splits).numpy()])
assert "gpt_keras" not in sys.modules
"""


@pytest.mark.slow
def test_saved_model_in_a_process_of_its_own(llama, tmp_path):
    module = tf.Module()
    module.layer = llama.in_graph(allowed_special=["</s>"])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def tokenize(strings):
        ids = module.layer(strings)
        return ids.values, ids.row_splits

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.int64)])
    def detokenize(values, row_splits):
        return module.layer.detokenize(tf.RaggedTensor.from_row_splits(values, row_splits))

    module.tokenize, module.detokenize = tokenize, detokenize
    tf.saved_model.save(module, str(tmp_path / "model"))
    run = subprocess.run(
        [sys.executable, "-c", SERVER, str(tmp_path / "model")],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    texts = ["Hello world", "", "  it's </s> 詩龘"]
    ids = llama.encode(texts, ["</s>"])
    flat = [i for row in ids for i in row]
    row_splits = np.cumsum([0, *map(len, ids)]).tolist()
    assert run.stdout.strip() == f"{flat} {row_splits}\n{llama.decode(ids)}"
