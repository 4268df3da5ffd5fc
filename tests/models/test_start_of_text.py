"""A start of text that the tokenizer adds: it stands before prompts and documents, once."""

import random

import numpy as np
import pytest
import tensorflow as tf

import gpt_keras as gk
from gpt_keras.chat import ChatTemplate

START, END = 260, 261
TEXT = "hello world"


@pytest.fixture(scope="module")
def tokenizer():
    plain = gk.tokenizers.BytePairTokenizer.train(
        "hello world " * 9, 262, special_tokens=["<s>", "</s>"]
    )
    return plain.with_boundaries("<s>", "</s>", adds_start_of_text=True)


@pytest.fixture(scope="module")
def model(tokenizer):
    random.seed(1)
    config = gk.GPTConfig(
        vocabulary_size=262, max_sequence_length=32, num_layers=1, num_heads=2, hidden_dim=16
    )
    model = gk.GPTCausalLM(config, tokenizer=tokenizer)
    for weight in model.trainable_weights:  # far from uniform, so that the start matters
        weight.assign(weight * 20)
    return model


@pytest.fixture(scope="module")
def ids(tokenizer):
    return tokenizer.encode(TEXT)


SETTINGS = {"max_new_tokens": 6, "temperature": 0.0}


def test_generate_and_stream(model, tokenizer, ids):
    expected = model.generate([START, *ids], **SETTINGS)[1:]
    assert expected != model.generate(ids, **SETTINGS)  # else the test would show nothing
    text = tokenizer.decode(expected)
    assert text.startswith(TEXT)
    assert model.generate(TEXT, **SETTINGS) == text
    assert model.generate([TEXT], **SETTINGS) == [text]
    assert TEXT + "".join(model.stream(TEXT, **SETTINGS)) == text
    (found,) = model.generate_with_scores(TEXT, **SETTINGS)[:1]
    assert found.text == text
    assert found.token_ids == expected[len(ids) :]
    cut = text[len(TEXT) + 1]
    before = text[len(TEXT) :].split(cut)[0]
    assert model.generate(TEXT, stop=cut, **SETTINGS) == TEXT + before
    assert model.generate(tf.constant([TEXT]), **SETTINGS) == [text]
    assert model.generate(tf.constant(TEXT), **SETTINGS) == text
    dataset = tf.data.Dataset.from_tensors([TEXT])
    assert model.generate(dataset, **SETTINGS) == [text]


def test_a_prompt_without_text(model, tokenizer):
    expected = model.generate([START], **SETTINGS)[1:]
    assert model.generate("", **SETTINGS) == tokenizer.decode(expected)


@pytest.mark.slow
def test_a_prompt_that_is_kept(model):
    cache = model.cache_prompt(TEXT)
    assert model.generate(TEXT, prompt_cache=cache, **SETTINGS) == model.generate(TEXT, **SETTINGS)


def log_probabilities(model, ids):
    logits = np.array(model(np.array([ids])))[0, :-1].astype(np.float64)
    logits -= np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return logits[np.arange(len(ids) - 1), ids[1:]]


def test_score_and_perplexity(model, ids):
    expected = log_probabilities(model, [START, *ids, END])
    np.testing.assert_allclose(model.score(TEXT), expected[:-1], atol=1e-4)
    # Ids that begin with the start of text get no second one.
    np.testing.assert_allclose(model.score([START, *ids]), expected[:-1], atol=1e-4)
    after = model.score(" again", prompts=TEXT)
    again = model.tokenizer.encode(" again")
    whole = log_probabilities(model, [START, *ids, *again])
    np.testing.assert_allclose(after, whole[len(ids) :], atol=1e-4)
    for documents in ([TEXT], [ids], [[START, *ids]]):
        result = gk.evaluation.perplexity(model, documents)
        assert result.num_tokens == len(ids) + 1
        np.testing.assert_allclose(result.loss, -expected.mean(), rtol=1e-5)
        np.testing.assert_allclose(
            result.bits_per_character, -expected.sum() / np.log(2) / len(TEXT), rtol=1e-5
        )


def test_an_n_gram_model_has_its_own_beginning(tokenizer):
    model = gk.NGramLM(2, tokenizer).fit([TEXT])
    assert model.generate("hello", temperature=0) == TEXT
    result = gk.evaluation.perplexity(model, [TEXT])
    assert result.perplexity == pytest.approx(model.perplexity([TEXT]))


def test_padded(tokenizer, ids):
    data = gk.datasets.padded([TEXT, ""], tokenizer, sequence_length=None, batch_size=2)
    inputs, targets, weight = (part.numpy().tolist() for part in next(iter(data)))
    assert inputs[0] == [START, *ids]
    assert targets[0] == [*ids, END]
    assert (inputs[1][0], targets[1][0], weight[1]) == (START, END, [1.0] + [0.0] * len(ids))


def test_language_modeling(tokenizer, ids, tmp_path):
    long = "hello world " * 20_000  # of several pieces
    rows = [tokenizer.encode(text) for text in (TEXT, long)]
    stream = [START, *rows[0], END, START, *rows[1], END]
    data, _ = gk.datasets.language_modeling(
        [TEXT, long],
        tokenizer,
        sequence_length=len(stream) - 1,
        batch_size=1,
        validation_fraction=0,
        cache_dir=tmp_path,
    )
    inputs, targets = next(iter(data))
    assert inputs.numpy()[0].tolist() == stream[:-1]
    assert targets.numpy()[0].tolist() == stream[1:]


def test_chat_templates_that_write_it_get_one(tokenizer):
    template = ChatTemplate(
        "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}",
        {"bos_token": "<s>", "eos_token": "</s>"},
    )
    ids = template.encode([{"role": "user", "content": TEXT}], tokenizer)
    assert ids == [START, *tokenizer.encode(TEXT), END]


@pytest.mark.slow
def test_saved_forms(model, tokenizer, tmp_path):
    expected = model.generate(TEXT, **SETTINGS)
    model.save(tmp_path / "model.keras")
    model.save_to_preset(tmp_path / "preset")
    for source in (tmp_path / "model.keras", tmp_path / "preset"):
        loaded = gk.GPTCausalLM.from_preset(source)
        assert loaded.tokenizer == tokenizer
        assert loaded.tokenizer.adds_start_of_text
    assert loaded.generate(TEXT, **SETTINGS) == expected
    gk.export.saved_model(model, tmp_path / "served", jit_compile=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    found = served.generate(
        text=tf.constant([TEXT, ""]), max_new_tokens=6, temperature=0.0, stop=["\0"]
    )["text"].numpy()
    assert [text.decode() for text in found] == model.generate([TEXT, ""], stop="\0", **SETTINGS)
