"""Low-rank adapters of models: what is adapted, trained, saved and merged."""

import keras
import numpy as np
import pytest
from tiny_models import tiny_config

import gpt_keras as gk

WEIGHTS_ONLY = keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)
IDS = np.random.default_rng(0).integers(0, 32, (8, 9)).astype("int32")
X, Y = IDS[:, :-1], IDS[:, 1:]


def make_model(**changes):
    return gk.GPTCausalLM(tiny_config(num_layers=2, **changes))


def train(model, steps=2, learning_rate=0.1):
    model.compile(keras.optimizers.Adam(learning_rate), jit_compile=False)
    model.fit(X, Y, batch_size=4, epochs=steps, shuffle=False, verbose=0)
    return model


def adapted(rank=2, **settings):
    model = make_model()
    model.enable_lora(rank, **settings)
    return train(model)


def values(model):
    return {variable.path: np.array(variable) for variable in model.variables}


def test_query_and_value_are_adapted_and_all_else_stays_bit_for_bit():
    model = make_model()
    before = values(model)
    model.enable_lora(2)
    assert len(model.trainable_variables) == 2 * 2 * 2
    train(model)
    after = values(model)
    for path, value in before.items():
        np.testing.assert_array_equal(after[path], value, err_msg=path)
    factors = {path for path in after if "lora_kernel" in path}
    assert len(factors) == 8
    assert all(np.abs(after[path]).max() > 0 for path in factors)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["query"], ["block_0/attention/query", "block_1/attention/query"]),
        ([r"block_1/.*(key|up)$"], ["block_1/attention/key", "block_1/feed_forward/up"]),
        (["down", "block_0/attention/output"], None),
    ],
)
def test_targets_are_names_and_expressions(names, expected):
    model = make_model()
    model.enable_lora(2, names)
    paths = [path.removeprefix("gpt/") for path in gk.finetuning.trainable_report(model)["layers"]]
    if expected is None:
        expected = [
            "block_0/attention/output",
            "block_0/feed_forward/down",
            "block_1/feed_forward/down",
        ]
    assert sorted(paths) == sorted(expected)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["querry"], r"\(query, key, value, output, up, down\), but 'querry' matches none"),
        ([], "at least one entry"),
        ("query", "must be a list"),
        (["final_norm"], "matches none"),
    ],
)
def test_targets_that_match_nothing_are_refused(names, message):
    model = make_model()
    with pytest.raises(ValueError, match=message):
        model.enable_lora(2, names)
    assert len(model.trainable_variables) == len(model.variables)


def test_the_report_counts():
    model = make_model()
    model.enable_lora(2, ["query"])
    report = gk.finetuning.trainable_report(model)
    width = model.backbone.hidden_dim
    assert report["trainable"] == 2 * (width * 2 + 2 * width)
    assert report["parameters"] == model.count_params()
    assert report["share"] == report["trainable"] / report["parameters"]


def test_a_compiled_model_must_be_compiled_again():
    model = train(make_model())
    for change in (lambda: model.enable_lora(2), model.merge_adapter):
        with pytest.warns(UserWarning, match="compile the model again"):
            change()
        with pytest.raises(ValueError, match="compile"):
            model.fit(X, Y, verbose=0)
        train(model)


def test_generation_follows_the_adapter():
    model = make_model()
    settings = {"max_new_tokens": 8, "temperature": 0}
    plain = model.generate([1, 2, 3], **settings)
    model.enable_lora(4, ["query", "key", "value", "output", "up", "down"])
    assert model.generate([1, 2, 3], **settings) == plain  # B is zero
    train(model, 5)
    with_adapter = model.generate([1, 2, 3], **settings)
    assert with_adapter != plain
    logits = model.predict(X, verbose=0)
    with pytest.warns(UserWarning, match="compile"):
        model.merge_adapter()
    merged = model.predict(X, verbose=0)
    np.testing.assert_allclose(merged, logits, atol=1e-5)
    assert model.generate([1, 2, 3], **settings) == with_adapter


def test_removed_is_the_base_model():
    model = make_model()
    logits = model.predict(X, verbose=0)
    model.enable_lora(2)
    train(model)
    assert np.abs(model.predict(X, verbose=0) - logits).max() > 1e-3
    with pytest.warns(UserWarning, match="compile"):
        model.remove_adapter()
    np.testing.assert_array_equal(model.predict(X, verbose=0), logits)
    with pytest.raises(ValueError, match="no LoRA adapter"):
        model.remove_adapter()


@pytest.mark.parametrize("form", ["keras", "preset"])
def test_training_goes_on_bit_for_bit_after_saving(form, tmp_path):
    model = adapted(rank=2, lora_alpha=8)
    if form == "keras":
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    else:
        model.save_to_preset(tmp_path / "model")
        loaded = gk.CausalLM.from_preset(tmp_path / "model")
    before, after = values(model), values(loaded)
    assert before.keys() == after.keys()
    for path, value in before.items():
        np.testing.assert_array_equal(after[path], value, err_msg=path)
    assert len(loaded.trainable_variables) == 8
    if form == "preset":  # it has no optimizer
        train(model), train(loaded)
    else:
        for one in (model, loaded):
            one.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    after = values(loaded)
    for path, value in values(model).items():
        np.testing.assert_array_equal(after[path], value, err_msg=path)


def test_a_file_with_an_adapter_needs_a_model_with_one(tmp_path):
    model, plain = adapted(), make_model()
    model.save_weights(tmp_path / "adapted.weights.h5")
    with pytest.raises(ValueError, match="call `enable_lora` before"):
        plain.load_weights(tmp_path / "adapted.weights.h5")


def test_int8_base(tmp_path):
    model = make_model()
    model.quantize(config=WEIGHTS_ONLY)
    kernel = model.backbone.blocks[0].attention.query._kernel
    before = np.array(kernel)
    model.enable_lora(2)
    train(model)
    np.testing.assert_array_equal(kernel, before)
    logits = model.predict(X, verbose=0)
    model.save_to_preset(tmp_path / "model")
    loaded = gk.CausalLM.from_preset(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), logits)
    loaded.merge_adapter()
    assert loaded.backbone.blocks[0].attention.query._kernel.dtype == "int8"
    difference = np.abs(loaded.predict(X, verbose=0) - logits).max()
    print("int8, merged and quantized again:", difference)
    assert 0 < difference < 0.2 * np.abs(logits).max()


def test_the_head_of_a_task_model_stays_trainable(tmp_path):
    model = gk.GPTClassifier(gk.GPT(tiny_config()), 2, special_ids=(0, 1, 2))
    model.enable_lora(2)
    names = {variable.path.split("/")[0] for variable in model.trainable_variables}
    assert any(variable.path.endswith("head/kernel") for variable in model.trainable_variables)
    assert len(model.trainable_variables) == 2 + 2 * 2 * len(model.backbone.blocks), names
    model.save(tmp_path / "classifier.keras")
    loaded = keras.saving.load_model(tmp_path / "classifier.keras")
    assert len(loaded.trainable_variables) == len(model.trainable_variables)


def test_a_network_of_your_own_is_adapted_and_saved(tmp_path):
    ids = keras.Input((None,), dtype="int32")
    embedding = keras.layers.ReversibleEmbedding(32, 16)
    x = gk.layers.TransformerBlock(num_heads=2, name="block")(embedding(ids))
    model = gk.CausalLM(keras.Model(ids, embedding(x, reverse=True)))
    model.enable_lora(2)
    train(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    assert len(loaded.trainable_variables) == 4
