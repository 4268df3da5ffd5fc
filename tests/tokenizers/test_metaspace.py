"""SentencePiece's byte-pair encoding in a `tokenizer.json`: ids and text are the engine's."""

import io
import json
import pickle

import pytest
import strange_texts
import tensorflow as tf
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

import gpt_keras.tokenizers as tokenizers
from gpt_keras.tokenizers import MetaspaceTokenizer

REPLACE = normalizers.Replace(" ", "▁")
STEPS = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
STRIP = decoders.Strip(" ", 1, 0)

# How tokenizer.json files write spaces: Llama 2 and TinyLlama; Mistral; transformers 5; Gemma.
FORMS = {
    "prepend": (normalizers.Sequence([normalizers.Prepend("▁"), REPLACE]), None, [*STEPS, STRIP]),
    "first": (None, pre_tokenizers.Metaspace("▁", "first", False), [*STEPS, STRIP]),
    "first, split": (None, pre_tokenizers.Metaspace("▁", "first", True), [*STEPS, STRIP]),
    "always": (None, pre_tokenizers.Metaspace("▁", "always", True), [*STEPS, STRIP]),
    "never": (None, pre_tokenizers.Metaspace("▁", "never", False), STEPS),
    "gemma": (REPLACE, pre_tokenizers.Split(" ", "merged_with_previous"), STEPS),
    "gemma, plain": (REPLACE, None, STEPS),
}

# Added tokens that are not special. Merges make the last one, too, and it decodes to spaces, as
# Gemma's does.
ALWAYS_FOUND = ("<unused>", "\n\n", "▁▁")

TEXTS = [
    "",
    " ",
    "   ",
    "Hello world",
    " Hello  world  ",
    "▁a ▁▁ b▁",
    "the\nthe\t the \r\n",
    "詩山龘 a👋🏽 e\u0301\0",
    "<s>the</s> the<s>  <pad>the",
    "<s>",
    "the<unused> the<unused>\n\n the",
    "thethethe the the",
]


def vocabulary_and_merges(text, crossing):
    """Of a trained model; tokens of one that is not split go on after a space."""
    engine = Engine(models.BPE(byte_fallback=True))
    engine.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always", split=not crossing)
    trainer = trainers.BpeTrainer(vocab_size=700, show_progress=False, special_tokens=["<unk>"])
    engine.train_from_iterator(text.split("\n"), trainer)
    model = json.loads(engine.to_str())["model"]
    special = ["<unk>", "<s>", "</s>", "<pad>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens = dict.fromkeys([*special, *model["vocab"], *ALWAYS_FOUND])
    return {token: i for i, token in enumerate(tokens)}, [tuple(m) for m in model["merges"]]


@pytest.fixture(scope="session")
def trained_models(plays):
    # Few characters, so that many texts need bytes.
    text = plays[0][:20_000].replace("q", "")
    return {crossing: vocabulary_and_merges(text, crossing) for crossing in (False, True)}


def new_engine(model, form):
    vocabulary, merges = model
    engine = Engine(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    engine.normalizer, engine.pre_tokenizer, steps = FORMS[form]
    engine.decoder = decoders.Sequence(steps)
    for token in ("<unk>", "<s>", "</s>", "<pad>", *ALWAYS_FOUND):
        special = token not in ALWAYS_FOUND
        engine.add_tokens([AddedToken(token, special=special, normalized=False)])
    return engine


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


@pytest.mark.parametrize("crossing", [False, True], ids=["words", "crossing"])
def test_ids_and_text_are_the_engines(trained_models, form, crossing, tmp_path, plays):
    engine = new_engine(trained_models[crossing], form)
    engine.save(str(tmp_path / "tokenizer.json"))
    tokenizer = tokenizers.load(tmp_path)
    assert isinstance(tokenizer, MetaspaceTokenizer)
    assert tokenizer.special_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2, "<pad>": 3}
    assert tokenizer.end_of_text_id == 2
    texts = [*TEXTS, *strange_texts.draw(50, 3), plays[0][: 300 if crossing else 3000]]
    all_special = [encoding.ids for encoding in engine.encode_batch(texts)]
    assert tokenizer.encode(texts, "all") == all_special
    engine.encode_special_tokens = True
    ordinary = [encoding.ids for encoding in engine.encode_batch(texts)]
    assert tokenizer.encode(texts) == ordinary
    assert any(i < 260 for row in ordinary for i in row)  # bytes are among them
    decoded = [engine.decode(row, skip_special_tokens=False) for row in all_special]
    assert tokenizer.decode(all_special) == decoded

    strings = tf.constant(texts)
    layer = tokenizer.in_graph()
    assert layer(strings).to_list() == ordinary
    assert tokenizer.in_graph("all")(strings).to_list() == all_special
    ragged = tf.ragged.constant(all_special, tf.int32)
    assert layer.detokenize(ragged).numpy().tolist() == [text.encode() for text in decoded]
    # Piece by piece.
    for row, text in zip(ordinary, tokenizer.decode(ordinary), strict=True):
        decoder = tokenizer.stream_decoder()
        assert "".join(decoder.decode([i]) for i in row) + decoder.finish() == text


def test_long_texts_are_cut_where_nothing_changes(trained_models, form, plays):
    tokenizer = MetaspaceTokenizer(new_engine(trained_models[False], form))
    engine = new_engine(trained_models[False], form)
    text = plays[0][:60_000]
    assert tokenizer.encode(text) == engine.encode(text).ids
    content = json.loads(engine.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["special"]]
    tokenizer = MetaspaceTokenizer.from_json(json.dumps(content))
    engine = Engine.from_str(json.dumps(content))
    assert tokenizer.encode(text) == engine.encode(text).ids
    cut = tokenizer.safe_cut(text)
    assert (cut > 0) == (form != "prepend")
    halves = tokenizer.encode([text[:cut], text[cut:]])
    assert halves[0] + halves[1] == tokenizer.encode(text)
    assert tokenizer.safe_cut("  a") == tokenizer.safe_cut("a") == 0
    crossing = MetaspaceTokenizer(new_engine(trained_models[True], form))
    assert crossing.safe_cut(text) == 0


def test_copies_are_equal(trained_models, tmp_path):
    tokenizer = MetaspaceTokenizer(new_engine(trained_models[False], "first"))
    assert tokenizers.load(tokenizer.save(tmp_path)) == tokenizer
    assert pickle.loads(pickle.dumps(tokenizer)) == tokenizer


def test_half_a_character(trained_models):
    tokenizer = MetaspaceTokenizer(new_engine(trained_models[False], "first"))
    ids = tokenizer.encode("詩")[1:]
    assert [tokenizer.ends_inside_character(ids[:n]) for n in (0, 1, 2, 3)] == [
        *(False, True, True, False)
    ]
    assert tokenizer.decode(ids[:2]) == "\ufffd"
    layer = tokenizer.in_graph()
    rest = tf.constant([""])
    shown = []
    for i in [*ids, *tokenizer.encode("the")]:
        text, rest = layer.detokenize_stream([[i]], rest)
        shown.append(text[0].numpy().decode())
    assert "".join(shown) == "詩 the"


def test_what_cannot_be_put_in_a_graph_is_still_read(trained_models):
    engine = new_engine(trained_models[False], "gemma, plain")
    engine.normalizer = normalizers.Sequence([normalizers.NFKC(), REPLACE])
    tokenizer = MetaspaceTokenizer(engine)
    expected = new_engine(trained_models[False], "gemma, plain").encode("fi the").ids
    assert tokenizer.encode("ﬁ the") == expected
    with pytest.raises(ValueError, match="no normalization except writing spaces"):
        tokenizer.in_graph()


def test_other_kinds_are_refused(trained_models):
    engine = new_engine(trained_models[False], "first")
    engine.decoder = decoders.Sequence([*STEPS, decoders.Strip(" ", 0, 1)])
    with pytest.raises(ValueError, match="must be BPE with spaces written as '▁'"):
        MetaspaceTokenizer(engine)
    with pytest.raises(ValueError, match="must be BPE with spaces written as '▁'"):
        MetaspaceTokenizer(Engine(models.WordLevel({"a": 0}, unk_token="a")))


def test_pieces_with_scores_are_sentencepieces(plays):
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(plays[0][:30_000].split("\n")),
        model_writer=model,
        vocab_size=800,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=2,
    )
    reference = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(reference.vocab_size())
    tokenizer = MetaspaceTokenizer.from_scores(
        [reference.id_to_piece(i) for i in ids],
        [reference.get_score(i) for i in ids],
        {"<s>": 1, "</s>": 2},
        {},
        prefix="prepend",
    )
    texts = [*TEXTS[:-2], *strange_texts.draw(50, 3), plays[0][30_000:33_000]]
    assert tokenizer.encode(texts) == reference.encode(texts)
    assert tokenizer.in_graph()(tf.constant(texts)).to_list() == reference.encode(texts)
