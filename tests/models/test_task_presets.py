"""Task models in preset folders: head, adapters and class names come back."""

import json

import keras
import numpy as np
import pytest
from tiny_models import tiny_config

import gpt_keras as gk

TEXTS = ["hello there", "a", "the cat sat on the mat.", "he"]
NAMES = ["ham", "spam", "ham", "spam"]


def train(model):
    model.compile(keras.optimizers.Adam(0.05), run_eagerly=True)
    model.fit(TEXTS, NAMES, batch_size=2, shuffle=False, verbose=0)
    return model


def values(model):
    # Metrics are no part of a saved model.
    return {v.path: np.array(v) for v in model.weights}


@pytest.mark.parametrize(("form", "pooling"), [("preset", "last"), ("model.keras", "extract")])
def test_a_trained_classifier_comes_back_whole(character_tokenizer, tmp_path, pooling, form):
    backbone = gk.GPT(tiny_config(vocabulary_size=35, num_layers=1))
    model = gk.GPTClassifier(backbone, 2, dropout=0, tokenizer=character_tokenizer, pooling=pooling)
    model.enable_lora(2)
    train(model)
    path = tmp_path / form
    model.save_to_preset(path) if form == "preset" else model.save(path)
    loaded = gk.GPTClassifier.from_preset(path)
    assert type(loaded) is gk.GPTClassifier
    assert loaded.class_names == ("ham", "spam")
    assert loaded.get_config() == model.get_config()
    before, after = values(model), values(loaded)
    assert before.keys() == after.keys()
    assert any("lora_kernel_a" in name for name in before)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
    np.testing.assert_array_equal(loaded.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0))
    # Training goes on with the same weights: the adapters and the head.
    names = [variable.path for variable in loaded.trainable_variables]
    assert names == [variable.path for variable in model.trainable_variables]
    train(loaded), train(model)
    for name, value in values(model).items():
        np.testing.assert_array_equal(values(loaded)[name], value, err_msg=name)


def test_a_choice_and_a_pair_come_back(spread_model, tmp_path):
    choice = gk.GPTMultipleChoice(spread_model, dropout=0.3)
    choice.save_to_preset(tmp_path / "choice")
    loaded = gk.GPTMultipleChoice.from_preset(tmp_path / "choice")
    assert loaded.head_dropout.rate == 0.3
    example = ("ab", ["c", "def"])
    assert loaded.classify(example) == choice.classify(example)
    pair = gk.GPTClassifier(spread_model, 2, "similarity")
    pair.save_to_preset(tmp_path / "pair")
    loaded = gk.GPTClassifier.from_preset(tmp_path / "pair")
    assert loaded.layout == "similarity"
    assert loaded.classify(("ab", "c")) == pair.classify(("ab", "c"))


def test_the_wrong_class_is_refused_by_name(spread_model, tmp_path):
    gk.GPTMultipleChoice(spread_model).save_to_preset(tmp_path / "choice")
    gk.GPTClassifier(spread_model, 2).save_to_preset(tmp_path / "classifier")
    spread_model.backbone.save(tmp_path / "gpt.keras")
    for load, name, message in (
        (
            gk.GPTClassifier,
            "choice",
            "holds a GPTMultipleChoice, not a GPTClassifier or a CausalLM",
        ),
        (gk.GPTMultipleChoice, "classifier", "holds a GPTClassifier, not a GPTMultipleChoice or"),
        (gk.GPTClassifier, "gpt.keras", "holds a GPT, not a GPTClassifier or a CausalLM"),
        (gk.CausalLM, "classifier", "holds a GPTClassifier, not a CausalLM"),
        (gk.GPTCausalLM, "choice", "holds a GPTMultipleChoice, not a GPTCausalLM"),
    ):
        with pytest.raises(ValueError, match=message):
            load.from_preset(tmp_path / name)
    with pytest.raises(ValueError, match=r"trained GPTClassifier: leave out 3, dropout=0\.2"):
        gk.GPTClassifier.from_preset(tmp_path / "classifier", 3, dropout=0.2)
    with pytest.raises(ValueError, match="give a new or an empty directory"):
        gk.GPTClassifier(spread_model, 2).save_to_preset(tmp_path / "classifier")


def test_a_causal_model_gets_a_new_head(spread_model, tmp_path):
    spread_model.save_to_preset(tmp_path / "model")
    model = gk.GPTClassifier.from_preset(tmp_path / "model", class_names=["a", "b", "c"])
    assert (model.pooling, model.num_classes, model.vocabulary_size) == ("last", 3, 32)
    ids = np.arange(9)[None]
    np.testing.assert_array_equal(model.backbone(ids), spread_model(ids))
    old = gk.GPTClassifier.from_preset(tmp_path / "model", 2, pooling="extract")
    assert (old.vocabulary_size, old.special_ids) == (35, (32, 33, 34))
    with pytest.raises(ValueError, match="`num_classes`"):
        gk.GPTClassifier.from_preset(tmp_path / "model")


def test_the_dtype_of_the_backbone_may_be_chosen(spread_model, tmp_path):
    model = gk.GPTClassifier(spread_model, 2)
    model.save_to_preset(tmp_path / "model")
    spread_model.save_to_preset(tmp_path / "causal")
    for name, arguments in (("model", ()), ("causal", (2,))):
        loaded = gk.GPTClassifier.from_preset(tmp_path / name, *arguments, dtype="bfloat16")
        assert loaded.backbone.dtype_policy.name == "bfloat16"
        assert loaded.head.dtype == "float32"
    with pytest.raises(ValueError, match="`dtype` must be None or a dtype policy"):
        gk.GPTClassifier.from_preset(tmp_path / "model", dtype="int4")


def test_models_of_before_there_was_a_choice_extract(character_tokenizer, tmp_path):
    backbone = gk.GPT(tiny_config(vocabulary_size=35, num_layers=1))
    model = gk.GPTClassifier(backbone, 2, tokenizer=character_tokenizer, pooling="extract")
    model.save_to_preset(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    fields = content["model"]["config"]
    del fields["pooling"], fields["pad_id"]
    path.write_text(json.dumps(content), encoding="utf-8")
    loaded = gk.GPTClassifier.from_preset(tmp_path / "model")
    assert (loaded.pooling, loaded.special_ids) == ("extract", (32, 33, 34))
    assert loaded.classify(TEXTS) == model.classify(TEXTS)


def test_frozen_layers_stay_bit_for_bit_while_the_head_trains(character_tokenizer):
    model = gk.GPTClassifier(gk.GPT(tiny_config(num_layers=1)), 2, tokenizer=character_tokenizer)
    spread = {v.path: np.array(v) for v in model.variables}
    model.enable_lora(2, ["value"])
    added = [v.path for v in model.variables if v.path not in spread]
    before = values(model)
    train(model)
    after = values(model)
    changed = {path for path, value in before.items() if not np.array_equal(after[path], value)}
    factors = {path for path in before if "lora_kernel" in path}
    assert factors <= set(added)
    assert len(factors) == 2 * len(model.backbone.blocks)
    assert changed == factors | {"head/kernel", "head/bias"}


def test_a_frozen_backbone_stays_bit_for_bit_too(character_tokenizer):
    model = gk.GPTClassifier(gk.GPT(tiny_config(num_layers=1)), 2, tokenizer=character_tokenizer)
    model.backbone.trainable = False
    before = values(model)
    train(model)
    changed = {
        path for path, value in values(model).items() if not np.array_equal(before[path], value)
    }
    assert changed == {"head/kernel", "head/bias"}
