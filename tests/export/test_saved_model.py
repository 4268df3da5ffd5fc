import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tiny_models import tiny_config

import gpt_keras as gk

PROMPTS = ["hello there", "a", "the cat sat on the mat, and"]
SETTINGS = [
    {"temperature": 0.0, "top_k": None, "top_p": None},
    {"temperature": 1.0, "top_k": None, "top_p": None},
    {"temperature": 0.8, "top_k": 7, "top_p": 0.9},
]


def as_inputs(settings, **more):
    """The settings of `generate` as the SavedModel takes them: 0 and 1 for off."""
    inputs = {**settings, **more}
    inputs["top_k"] = inputs["top_k"] or 0
    inputs["top_p"] = inputs["top_p"] or 1.0
    return inputs


@pytest.fixture(scope="module")
def exported(spread_model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("export") / "1"
    gk.export.saved_model(spread_model, directory)
    return directory


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_texts_equal_those_of_generate(spread_model, loaded, settings):
    for prompts in (PROMPTS, PROMPTS[:1]):
        expected = spread_model.generate(prompts, max_new_tokens=18, seed=11, **settings)
        output = loaded.generate(
            text=tf.constant(prompts), **as_inputs(settings, max_new_tokens=18, seed=11)
        )
        assert [text.decode() for text in output["text"].numpy()] == expected


def test_signatures_serve_the_same(spread_model, loaded):
    assert set(loaded.signatures) == {"serving_default", "generate", "logits"}
    inputs = as_inputs(SETTINGS[2], max_new_tokens=18, seed=11)
    dtypes = {"max_new_tokens": "int32", "top_k": "int32", "seed": "int64"}
    tensors = {key: tf.constant(v, dtypes.get(key, "float32")) for key, v in inputs.items()}
    output = loaded.signatures["serving_default"](text=tf.constant(PROMPTS), **tensors)
    expected = spread_model.generate(PROMPTS, max_new_tokens=18, seed=11, **SETTINGS[2])
    assert [text.decode() for text in output["text"].numpy()] == expected
    token_ids = np.arange(12, dtype="int32").reshape(2, 6)
    logits = loaded.signatures["logits"](token_ids=tf.constant(token_ids))["logits"]
    np.testing.assert_allclose(logits, spread_model(token_ids), atol=1e-5)


def test_generation_stops_where_the_context_is_full(spread_model, loaded):
    inputs = as_inputs(SETTINGS[1], max_new_tokens=500, seed=1)
    output = loaded.generate(text=tf.constant(["hello"]), **inputs)["text"].numpy()[0].decode()
    assert output == spread_model.generate("hello", max_new_tokens=500, seed=1)


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        ("hi", {"temperature": -1.0}, "temperature must be at least 0"),
        ("hi", {"top_p": 0.0}, r"top_p must be in \(0, 1]"),
        ("hi", {"top_p": 1.5}, r"top_p must be in \(0, 1]"),
        ("hi", {"top_k": -1}, "top_k must be at least 0"),
        ("hi", {"max_new_tokens": 0}, "max_new_tokens is below 1"),
        ("h" * 48, {}, "leaves no room"),
        ("", {}, "text must not be empty"),
    ],
)
def test_bad_requests_end_in_an_error(loaded, text, changes, message):
    inputs = {**as_inputs(SETTINGS[0], max_new_tokens=3, seed=0), **changes}
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        loaded.generate(text=tf.constant([text]), **inputs)


FRESH_PROCESS = """
import json, sys
for name in ("keras", "gpt_keras", "tensorflow_text", "tokenizers"):
    sys.modules[name] = None  # importing it fails
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
inputs = json.loads(sys.argv[2])
output = loaded.generate(text=tf.constant(inputs.pop("text")), **inputs)
print(json.dumps([text.decode() for text in output["text"].numpy()]))
"""


@pytest.mark.slow
def test_a_process_with_tensorflow_alone_gives_the_same_text(spread_model, exported):
    inputs = as_inputs(SETTINGS[2], max_new_tokens=18, seed=11, text=PROMPTS)
    result = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, str(exported), json.dumps(inputs)],
        capture_output=True,
        text=True,
        check=True,
        cwd=exported,
    )
    expected = spread_model.generate(PROMPTS, max_new_tokens=18, seed=11, **SETTINGS[2])
    assert json.loads(result.stdout.splitlines()[-1]) == expected


@pytest.mark.slow
def test_without_xla_the_text_is_the_same(spread_model, tmp_path):
    gk.export.saved_model(spread_model, tmp_path / "1", jit_compile=False)
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    output = loaded.generate(
        text=tf.constant(PROMPTS), **as_inputs(SETTINGS[2], max_new_tokens=18, seed=11)
    )
    expected = spread_model.generate(PROMPTS, max_new_tokens=18, seed=11, **SETTINGS[2])
    assert [text.decode() for text in output["text"].numpy()] == expected


@pytest.mark.slow
def test_a_byte_pair_model_exports_chinese(tmp_path):
    poems = gk.datasets.corpora.load("tang_poems")[:40]
    tokenizer = gk.tokenizers.BytePairTokenizer.train(poems, 400)
    model = gk.GPTCausalLM(
        tiny_config(vocabulary_size=tokenizer.vocabulary_size), tokenizer=tokenizer
    )
    model.export(tmp_path / "1")
    prompt = poems[0][:6]
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    output = loaded.generate(
        text=tf.constant([prompt]), **as_inputs(SETTINGS[1], max_new_tokens=20, seed=3)
    )
    # Random weights give bytes that are no characters; `decode` shows U+FFFD in their place.
    text = output["text"].numpy()[0].decode("utf-8", errors="replace")
    assert text == model.generate(prompt, max_new_tokens=20, seed=3)
    assert text.startswith(prompt)


def test_without_a_tokenizer_logits_are_exported(tmp_path):
    model = gk.GPTCausalLM(tiny_config(num_layers=1))
    model.export(tmp_path / "1")
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    assert set(loaded.signatures) == {"serving_default", "logits"}
    token_ids = tf.constant([[1, 2, 3]])
    np.testing.assert_allclose(loaded.logits(token_ids)["logits"], model(token_ids), atol=1e-5)


def test_a_failed_export_leaves_nothing(spread_model, tmp_path, monkeypatch):
    def fail(module, path, **kwargs):
        (tmp_path / path / "half").write_text("written")
        raise OSError("disk full")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        gk.export.saved_model(spread_model, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []
