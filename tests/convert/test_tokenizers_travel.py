"""Tokenizers to Hugging Face folders and GGUF files and back, with the ends of their texts."""

import io
import json

import gguf
import numpy as np
import pytest
import tensorflow as tf

import gpt_keras as gk
from gpt_keras.tokenizers.added_tokens import AddedToken

START, END = 260, 261


def model_with(tokenizer, **changes):
    config = gk.GPTConfig(
        vocabulary_size=tokenizer.vocabulary_size,
        max_sequence_length=16,
        num_layers=1,
        num_heads=1,
        hidden_dim=4,
    )
    return gk.GPTCausalLM(config.replace(**changes), tokenizer=tokenizer)


@pytest.fixture(scope="module")
def plain():
    return gk.tokenizers.BytePairTokenizer.train(
        "hello world " * 9, 262, special_tokens=["<s>", "</s>"]
    )


@pytest.fixture(params=[True, False], ids=["adds", "does not add"])
def tokenizer(plain, request):
    return plain.with_boundaries("<s>", "</s>", adds_start_of_text=request.param)


def read(folder, name):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_to_hugging_face_and_back(tokenizer, tmp_path):
    gk.convert.to_huggingface(model_with(tokenizer), tmp_path / "new")
    config = read(tmp_path / "new", "tokenizer_config.json")
    assert (config["bos_token"], config["eos_token"]) == ("<s>", "</s>")
    assert config["add_bos_token"] == tokenizer.adds_start_of_text
    for file in ("config.json", "generation_config.json"):
        settings = read(tmp_path / "new", file)
        assert (settings["bos_token_id"], settings["eos_token_id"]) == (START, END)
    assert gk.GPTCausalLM.from_preset(tmp_path / "new").tokenizer == tokenizer


def test_to_gguf_and_back(tokenizer, tmp_path):
    gk.convert.to_gguf(model_with(tokenizer), tmp_path / "model.gguf")
    fields = gguf.GGUFReader(tmp_path / "model.gguf").fields
    names = ("bos_token_id", "eos_token_id", "add_bos_token")
    assert [fields[f"tokenizer.ggml.{name}"].contents() for name in names] == [
        START,
        END,
        tokenizer.adds_start_of_text,
    ]
    assert gk.GPTCausalLM.from_preset(tmp_path / "model.gguf").tokenizer == tokenizer


def test_a_tokenizer_without_a_start_gets_none(plain, tmp_path):
    gk.convert.to_huggingface(model_with(plain), tmp_path / "new")
    assert "bos_token" not in read(tmp_path / "new", "tokenizer_config.json")
    assert read(tmp_path / "new", "config.json")["bos_token_id"] is None
    gk.convert.to_gguf(model_with(plain), tmp_path / "model.gguf")
    for source in ("new", "model.gguf"):
        assert gk.GPTCausalLM.from_preset(tmp_path / source).tokenizer == plain


def test_the_end_that_a_model_declares_is_in_its_training_data(plain, tmp_path):
    gk.convert.to_huggingface(model_with(plain), tmp_path / "new")
    (tmp_path / "new" / "tokenizer_config.json").unlink()
    for name in ("config.json", "generation_config.json"):
        changed = read(tmp_path / "new", name) | {"eos_token_id": START}
        (tmp_path / "new" / name).write_text(json.dumps(changed))
    model = gk.GPTCausalLM.from_preset(tmp_path / "new")
    assert model.end_token_ids == (START,)
    assert model.tokenizer.end_of_text_id == START
    ids = plain.encode("hello")
    data = gk.datasets.padded(["hello"], model.tokenizer, sequence_length=None, batch_size=1)
    assert next(iter(data))[1].numpy().tolist() == [[*ids[1:], START]]
    logits = np.array(model(np.array([[START, *ids]])))[0, :-1].astype(np.float64)
    logits -= np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    expected = logits[np.arange(len(ids)), ids]
    np.testing.assert_allclose(model.score("hello"), expected, atol=1e-4)


@pytest.fixture(scope="module")
def pieces():
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["hello world the cat"] * 50 + ["a  b   c d"] * 20),
        model_writer=model,
        vocab_size=290,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()), model.getvalue()


TEXTS = ["hello world", " the  cat", "詩", ""]


def test_a_sentencepiece_model_in_a_hugging_face_folder(pieces, tmp_path):
    pytest.importorskip("tensorflow_text")
    reference, data = pieces
    tokenizer = gk.tokenizers.SentencePieceTokenizer(data).with_added_tokens(
        [AddedToken(290, "<|im_end|>", rstrip=True)]
    )
    tokenizer = tokenizer.with_boundaries(end_of_text="<|im_end|>", adds_start_of_text=True)
    gk.convert.to_huggingface(model_with(tokenizer), tmp_path / "new")
    assert (tmp_path / "new" / "tokenizer.model").read_bytes() == data
    config = read(tmp_path / "new", "tokenizer_config.json")
    assert config["tokenizer_class"] == "LlamaTokenizer"
    assert (config["bos_token"], config["eos_token"]) == ("<s>", "<|im_end|>")
    back = gk.GPTCausalLM.from_preset(tmp_path / "new").tokenizer
    assert back == tokenizer
    assert back.encode(TEXTS) == reference.encode(TEXTS)


@pytest.mark.parametrize("prefix", ["prepend", "never"])
def test_sentencepieces_tokens_in_both_formats(pieces, prefix, tmp_path):
    reference, _ = pieces
    ids = range(reference.vocab_size())
    tokenizer = gk.tokenizers.MetaspaceTokenizer.from_scores(
        [reference.id_to_piece(i) for i in ids] + ["<|im_end|>", "\n\n"],
        [reference.get_score(i) for i in ids] + [0.0, 0.0],
        {"<unk>": 0, "<s>": 1, "</s>": 2, "<|im_end|>": 290},
        {"\n\n": 291},
        prefix,
    ).with_boundaries("<s>", "<|im_end|>", adds_start_of_text=True)
    model = model_with(tokenizer, vocabulary_size=300)
    gk.convert.to_huggingface(model, tmp_path / "new")
    assert gk.GPTCausalLM.from_preset(tmp_path / "new").tokenizer == tokenizer
    gk.convert.to_gguf(model, tmp_path / "model.gguf")
    back = gk.GPTCausalLM.from_preset(tmp_path / "model.gguf").tokenizer
    assert (back.start_of_text_id, back.end_of_text_id, back.adds_start_of_text) == (1, 290, True)
    assert back.special_tokens == tokenizer.special_tokens
    texts = [*TEXTS, "a\n\nb<|im_end|>"]
    assert back.encode(texts, "all") == tokenizer.encode(texts, "all")
    assert back.in_graph()(tf.constant(texts)).to_list() == back.encode(texts)


def test_tokens_that_do_not_make_their_merges_are_no_gguf(pieces, tmp_path):
    reference, _ = pieces
    tokens = [reference.id_to_piece(i) for i in range(reference.vocab_size())]
    tokenizer = gk.tokenizers.MetaspaceTokenizer.from_scores(
        tokens, [-float(i) for i in range(len(tokens))], {"<s>": 1}, {}
    )
    content = json.loads(tokenizer.to_json())
    del content["model"]["merges"][3]
    tokenizer = gk.tokenizers.MetaspaceTokenizer.from_json(json.dumps(content))
    with pytest.raises(ValueError, match="whose merges follow from its tokens"):
        gk.convert.to_gguf(model_with(tokenizer), tmp_path / "model.gguf")


def test_a_padding_token_that_the_model_lacks(plain, tmp_path):
    gk.convert.to_huggingface(model_with(plain), tmp_path / "new")
    plain.with_added_tokens([AddedToken(262, "[PAD]")]).save(tmp_path / "new")
    with pytest.warns(UserWarning, match=r"has 263 ids, more than the model's 262.*\[PAD\]"):
        model = gk.GPTCausalLM.from_preset(tmp_path / "new")
    assert model.tokenizer == plain


def test_a_vocabulary_that_the_model_lacks(plain, tmp_path):
    gk.convert.to_huggingface(model_with(plain), tmp_path / "new")
    gk.tokenizers.BytePairTokenizer.train("hello world other " * 9, 270).save(tmp_path / "new")
    with pytest.warns(UserWarning, match=r"takes token ids only; its tokenizer cannot be used"):
        model = gk.GPTCausalLM.from_preset(tmp_path / "new")
    assert model.tokenizer is None
