"""`gpt-keras export` and `info` of task models and adapters."""

import json

import numpy as np
import pytest
import tensorflow as tf

import gpt_keras as gk


def rows_of(out):
    return {line[2:20].strip(): line[20:] for line in out.splitlines()[1:]}


def test_an_exported_classifier_takes_strings(run, classifier, tmp_path):
    code, out, err = run("export", classifier, tmp_path / "1")
    assert (code, err) == (0, "")
    assert f"wrote {tmp_path / '1' / 'saved_model.pb'} (" in out
    loaded = tf.saved_model.load(tmp_path / "1")
    texts = ["it is good", "bad", "longer than sixteen characters"]
    found = loaded.classify(texts)
    expected = gk.GPTClassifier.from_preset(classifier).classify(texts)
    assert [label.decode() for label in found["label"].numpy()] == [r.label for r in expected]
    np.testing.assert_allclose(
        found["probabilities"], [[*r.probabilities.values()] for r in expected], atol=1e-5
    )
    assert loaded.class_names().numpy().tolist() == [b"bad", b"good"]


def test_an_exported_model_of_multiple_choice(run, language_model, tmp_path):
    model = gk.GPTMultipleChoice.from_preset(language_model)
    model.save_to_preset(tmp_path / "model")
    assert run("export", tmp_path / "model", tmp_path / "1")[0] == 0
    loaded = tf.saved_model.load(tmp_path / "1")
    found = loaded.classify(["ab"], [["c", "de"]])
    (expected,) = model.classify(("ab", ["c", "de"]))
    np.testing.assert_allclose(
        found["probabilities"], [[*expected.probabilities.values()]], atol=1e-5
    )


def test_a_backbone_alone_is_not_exported(run, language_model, tmp_path):
    gk.GPTCausalLM.from_preset(language_model).backbone.save(tmp_path / "gpt.keras")
    code, _, err = run("export", tmp_path / "gpt.keras", tmp_path / "1")
    assert (code, err.count("\n")) == (2, 1)
    assert "must be a CausalLM, GPTClassifier or GPTMultipleChoice" in err


def test_info_of_a_classifier(run, classifier, language_model, tmp_path, monkeypatch):
    model = gk.GPTClassifier.from_preset(classifier)
    model.save(tmp_path / "model.keras")
    monkeypatch.setattr(gk.GPT, "__init__", None)  # no model is built
    for source in (classifier, tmp_path / "model.keras"):
        code, out, err = run("info", source)
        rows = rows_of(out)
        assert (code, err) == (0, "")
        assert rows["task"] == "GPTClassifier, classification"
        assert rows["classes"] == "2: bad, good"
        assert rows["pooling"] == "last"
        assert rows["longest text"] == "16 tokens"
        assert rows["adapters"] == "LoRA of rank 2 in query, value"
        assert rows["context"] == "48 tokens"
    assert {"task", "adapters"}.isdisjoint(rows_of(run("info", language_model)[1]))


def test_info_of_other_models_with_a_task_or_adapters(run, language_model, tmp_path):
    model = gk.GPTCausalLM.from_preset(language_model)
    gk.GPTMultipleChoice(model).save_to_preset(tmp_path / "choice")
    rows = rows_of(run("info", tmp_path / "choice")[1])
    assert rows["task"] == "GPTMultipleChoice, multiple choice"
    assert "classes" not in rows
    gk.GPTClassifier(model, 20, "entailment").save_to_preset(tmp_path / "pairs")
    rows = rows_of(run("info", tmp_path / "pairs")[1])
    assert rows["task"] == "GPTClassifier, entailment"
    assert rows["classes"] == "20: 0, 1, 2, 3, 4, 5, 6, 7, ..."
    model.enable_lora(2, ["query", "up"])
    model.save_to_preset(tmp_path / "adapted")
    rows = rows_of(run("info", tmp_path / "adapted")[1])
    assert rows["adapters"] == "LoRA of rank 2 in query, up"
    assert "task" not in rows


def test_info_of_an_adapter(run, language_model, classifier, tmp_path):
    model = gk.GPTCausalLM.from_preset(language_model)
    model.enable_lora(2, ["down"], lora_alpha=3)
    model.save_adapter(tmp_path / "adapter")
    code, out, _ = run("info", tmp_path / "adapter")
    rows = rows_of(out)
    assert (code, rows["adapter"]) == (0, "LoRA of rank 2, lora_alpha 3")
    assert rows["layers"].startswith("1: ")
    assert rows["to use it"] == f"gpt-keras generate MODEL ... --adapter {tmp_path / 'adapter'}"
    gk.GPTClassifier.from_preset(classifier).save_adapter(tmp_path / "task")
    rows = rows_of(run("info", tmp_path / "task")[1])
    assert rows["head"] == "of a task model"
    assert "to use it" not in rows


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"r": 1})])
def test_info_of_a_damaged_adapter(run, tmp_path, content):
    (tmp_path / "adapter_config.json").write_text(content)
    code, _, err = run("info", tmp_path)
    assert (code, "does not describe a LoRA adapter" in err) == (2, True)
