"""Task models as SavedModels from strings to labels and probabilities."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk

TEXTS = ["hello there", "a", "the cat sat on the mat.", "", "abc " * 20]
PAIRS = [("hello", "there"), ("a" * 60, "b" * 70), ("ab", "c" * 80), ("", "x")]
CHOICES = [("hello", ["a", "bc", "d" * 70]), ("x" * 50, ["", "y" * 20, "zz"])]


def with_head(model, seed=0):
    """Spread the weights of the head alone: the backbone is shared."""
    spread_weights(model.head, seed)
    model.compile(run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def small(character_tokenizer):
    config = tiny_config(vocabulary_size=35, num_layers=1)
    return spread_weights(gk.GPTCausalLM(config, tokenizer=character_tokenizer))


def exported(model, folder):
    gk.export.saved_model(model, folder)
    return tf.saved_model.load(str(folder))


def assert_same(output, results):
    labels = [
        label.decode() if isinstance(label, bytes) else label for label in output["label"].numpy()
    ]
    assert labels == [result.label for result in results]
    expected = [list(result.probabilities.values()) for result in results]
    np.testing.assert_allclose(output["probabilities"], expected, atol=1e-5)


@pytest.fixture(scope="module")
def classifier(small):
    return with_head(gk.GPTClassifier(small, class_names=["ham", "spam", "正面"]))


@pytest.fixture(scope="module")
def folder(classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "1"
    gk.export.saved_model(classifier, folder)
    return folder


@pytest.fixture(scope="module")
def loaded(folder):
    return tf.saved_model.load(str(folder))


def test_texts_in_labels_and_probabilities_out(classifier, loaded):
    expected = classifier.classify(TEXTS)
    assert_same(loaded.classify(TEXTS), expected)
    assert_same(loaded.classify(text=TEXTS), expected)
    for signature in ("classify", "serving_default"):
        assert_same(loaded.signatures[signature](text=tf.constant(TEXTS)), expected)
    for i, text in enumerate(TEXTS):
        assert_same(loaded.classify(text), expected[i : i + 1])
        assert_same(loaded.serving_default([text]), expected[i : i + 1])
    assert [name.decode() for name in loaded.class_names().numpy()] == ["ham", "spam", "正面"]
    assert not hasattr(loaded, "_call")


def test_an_empty_batch_gives_an_empty_result(loaded):
    output = loaded.signatures["classify"](text=tf.zeros([0], tf.string))
    assert output["label"].shape == (0,)
    assert output["probabilities"].shape == (0, 3)


def test_keras_calls_it_as_a_layer(classifier, folder):
    layer = keras.layers.TFSMLayer(str(folder), call_endpoint="serving_default")
    text = keras.Input((), dtype="string")
    output = keras.Model(text, layer(text)).predict(tf.constant(["hello"]), verbose=0)
    (expected,) = classifier.classify("hello")
    assert output["label"][0].decode() == expected.label


@pytest.mark.parametrize(("layout", "pooling"), [("entailment", "last"), ("similarity", "extract")])
def test_pairs(small, tmp_path, layout, pooling):
    model = with_head(gk.GPTClassifier(small, 3, layout, pooling=pooling), seed=2)
    loaded = exported(model, tmp_path / "1")
    first, second = map(list, zip(*PAIRS))
    expected = model.classify(PAIRS)
    assert_same(loaded.classify(text=first, text_pair=second), expected)
    output = loaded.signatures["serving_default"](
        text=tf.constant(first), text_pair=tf.constant(second)
    )
    assert_same(output, expected)
    assert not hasattr(loaded, "class_names")
    with pytest.raises(tf.errors.InvalidArgumentError, match="a text for each text"):
        loaded.signatures["classify"](text=tf.constant(first), text_pair=tf.constant(second[:2]))


def test_choices(small, tmp_path):
    model = with_head(gk.GPTMultipleChoice(small), seed=2)
    loaded = exported(model, tmp_path / "1")
    contexts, answers = [context for context, _ in CHOICES], [answers for _, answers in CHOICES]
    expected = model.classify(CHOICES)
    assert_same(loaded.classify(context=contexts, answers=answers), expected)
    assert_same(loaded.classify(contexts[0], answers[:1]), expected[:1])
    with pytest.raises(tf.errors.InvalidArgumentError, match="a row for each context"):
        loaded.signatures["classify"](
            context=tf.constant(contexts[:1]), answers=tf.constant(answers)
        )


def test_extract_tokens_and_adapters(character_tokenizer, tmp_path):
    backbone = gk.GPT(tiny_config(vocabulary_size=35, num_layers=1))
    model = gk.GPTClassifier(backbone, 3, tokenizer=character_tokenizer, pooling="extract")
    model.enable_lora(2)
    spread_weights(model, seed=4)  # the factors and the head
    loaded = exported(model, tmp_path / "1")
    assert_same(loaded.classify(TEXTS), model.classify(TEXTS))


def test_a_model_without_an_end_token(tmp_path):
    tokenizer = gk.tokenizers.CharacterTokenizer("abcdefghijklmnopqrstuvwxyz ,.!?\n")
    backbone = spread_weights(gk.GPT(tiny_config(num_layers=1)))
    model = with_head(gk.GPTClassifier(backbone, 2, tokenizer=tokenizer))
    assert model.pad_id == -1
    loaded = exported(model, tmp_path / "1")
    texts = [text for text in TEXTS if text]
    assert_same(loaded.classify(texts), model.classify(texts))
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least one token"):
        loaded.classify(TEXTS)


@pytest.mark.slow
def test_chinese_byte_pairs_and_the_start_of_text(tmp_path):
    tokenizer = gk.tokenizers.BytePairTokenizer.train(
        "床前明月光，疑是地上霜。\n" * 3, 280, special_tokens=["<s>", "</s>"]
    ).with_boundaries("<s>", "</s>", adds_start_of_text=True)
    config = tiny_config(vocabulary_size=tokenizer.vocabulary_size, num_layers=1)
    causal = spread_weights(gk.GPTCausalLM(config, tokenizer=tokenizer))
    model = with_head(gk.GPTClassifier(causal, 3, "similarity"))
    loaded = exported(model, tmp_path / "1")
    pairs = [("床前明月光", "low\n"), ("疑是地上霜" * 9, ""), ("", "舉頭望明月" * 5)]
    first, second = map(list, zip(*pairs))
    assert_same(loaded.classify(first, second), model.classify(pairs))


FRESH_PROCESS = """
import json, sys
for name in ("keras", "gpt_keras", "tensorflow_text", "tokenizers"):
    sys.modules[name] = None  # importing it fails
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
output = loaded.classify(tf.constant(json.loads(sys.argv[2])))
names = [name.decode() for name in loaded.class_names().numpy()]
labels = [label.decode() for label in output["label"].numpy()]
print(json.dumps([names, labels, output["probabilities"].numpy().tolist()]))
"""


@pytest.mark.slow
def test_a_process_with_tensorflow_alone_classifies_the_same(classifier, folder):
    result = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, str(folder), json.dumps(TEXTS)],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    names, labels, probabilities = json.loads(result.stdout.splitlines()[-1])
    expected = classifier.classify(TEXTS)
    assert tuple(names) == classifier.class_names
    assert labels == [label for label, _ in expected]
    expected = [list(result.probabilities.values()) for result in expected]
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def test_what_cannot_be_exported_is_refused(small, tmp_path):
    without = gk.GPTClassifier(small.backbone, 2)
    with pytest.raises(ValueError, match="`model` must have a tokenizer to classify texts"):
        gk.export.saved_model(without, tmp_path / "1")
    with pytest.raises(ValueError, match="`logits_processors` must be empty for a task model"):
        gk.export.saved_model(
            gk.GPTClassifier(small, 2), tmp_path / "1", logits_processors=[lambda x, _: x]
        )
    with pytest.raises(ValueError, match="`model` must be a CausalLM, GPTClassifier or"):
        gk.export.saved_model(small.backbone, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


def test_the_network_alone_is_exported_by_keras(classifier, tmp_path):
    classifier.export(tmp_path / "1", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "1"))
    ids = classifier.encode(TEXTS)
    np.testing.assert_allclose(served.serve(ids), classifier(ids), atol=1e-5)
