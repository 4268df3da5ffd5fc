import json
import random
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from reused_models import restored
from tiny_models import tiny_config

import gpt_keras as gk

TEXTS = ["the cat sat.", "a dog ran away!", "who?", "the end is near, they say."] * 2


@pytest.fixture
def model(character_tokenizer):
    return gk.GPTCausalLM(tiny_config(num_layers=1), tokenizer=character_tokenizer)


@pytest.fixture(scope="module")
def traced(character_tokenizer):
    model = gk.GPTCausalLM(tiny_config(num_layers=1), tokenizer=character_tokenizer)
    model.compile(jit_compile=False)
    return model


@pytest.fixture
def compiled(traced):
    with restored(traced):
        yield traced


def arrays(rows=8, length=12):
    token_ids = np.random.default_rng(0).integers(0, 32, (rows, length + 1)).astype("int32")
    return token_ids[:, :-1], token_ids[:, 1:]


# Training


def test_compile_has_good_defaults(model):
    model.compile()
    assert isinstance(model.optimizer, gk.training.AdamW)
    assert model.optimizer.global_clipnorm == 1.0
    assert isinstance(model.loss, gk.training.CrossEntropy)
    assert model.jit_compile is True
    assert {"loss", "perplexity", "accuracy"} == set(model.fit(*arrays(), verbose=0).history)


def test_compile_can_be_overridden(model):
    model.compile(
        "sgd",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[],
        metrics=["sparse_categorical_accuracy"],
        jit_compile=False,
    )
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert model.jit_compile is False
    history = model.fit(*arrays(), verbose=0).history
    assert {"loss", "sparse_categorical_accuracy"} == set(history)


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        "SparseCategoricalCrossentropy",
        keras.losses.sparse_categorical_crossentropy,
        keras.losses.SparseCategoricalCrossentropy(),
        keras.losses.CategoricalCrossentropy(),
    ],
)
def test_a_loss_on_probabilities_is_refused(model, loss):
    with pytest.raises(ValueError, match=r"`loss`=.*expects probabilities.*from_logits=True"):
        model.compile(loss=loss)


def test_another_loss_is_let_through(model):
    model.compile(loss=lambda y_true, y_pred: keras.ops.mean(y_pred, axis=-1), run_eagerly=True)
    assert np.isfinite(model.fit(*arrays(), verbose=0).history["loss"][0])


def test_fits_our_datasets(model, character_tokenizer):
    text = "the quick brown fox jumps over the lazy dog. " * 60
    train, validation = gk.datasets.language_modeling(
        text, character_tokenizer, sequence_length=24, batch_size=8
    )
    model.compile(gk.training.adamw(1e-2, warmup_steps=5), jit_compile=False)
    history = model.fit(train, validation_data=validation, epochs=3, verbose=0).history
    assert history["val_loss"][-1] < history["val_loss"][0]
    assert history["val_perplexity"][-1] == pytest.approx(np.exp(history["val_loss"][-1]), rel=0.05)


def test_fits_strings(model):
    optimizer = gk.training.adamw(1e-2, warmup_steps=5)
    model.compile(optimizer, weighted_metrics=[], jit_compile=False)
    history = model.fit(TEXTS, validation_data=TEXTS[:2], epochs=4, batch_size=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert len(history["val_loss"]) == 4
    assert model.evaluate(TEXTS, verbose=0, return_dict=True)["loss"] < history["loss"][0]


@pytest.mark.slow
def test_steps_per_execution_learns_the_same(character_tokenizer):
    x, y = arrays(32)
    losses = []
    for settings in ({"run_eagerly": True}, {"steps_per_execution": 4, "jit_compile": False}):
        random.seed(3)
        model = gk.GPTCausalLM(tiny_config(num_layers=1), tokenizer=character_tokenizer)
        model.compile(**settings)
        losses.append(model.fit(x, y, batch_size=4, shuffle=False, verbose=0).history["loss"][0])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_early_stopping_and_checkpoints(model, tmp_path):
    model.compile(keras.optimizers.SGD(0.0), jit_compile=False)  # learns nothing, so it stops
    best = tmp_path / "best.keras"
    history = model.fit(
        *arrays(),
        validation_data=arrays(4),
        epochs=9,
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping(patience=1),
            keras.callbacks.ModelCheckpoint(best, save_best_only=True),
            keras.callbacks.ModelCheckpoint(
                tmp_path / "each.{epoch}.weights.h5", save_weights_only=True
            ),
        ],
    )
    assert len(history.epoch) == 2
    assert sorted(path.name for path in tmp_path.glob("*")) == [
        "best.keras",
        "each.1.weights.h5",
        "each.2.weights.h5",
        *(["token_cache"] if (tmp_path / "token_cache").exists() else []),
    ]
    loaded = keras.saving.load_model(best)
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])


def test_predict_gives_the_logits_of_call(spread_model):
    x, _ = arrays(5)
    np.testing.assert_allclose(
        spread_model.predict(x, batch_size=2, verbose=0), spread_model(x), atol=1e-5
    )


def test_clone_is_a_fresh_model_of_the_same_shape(spread_model):
    clone = keras.models.clone_model(spread_model)
    assert type(clone) is gk.GPTCausalLM
    assert clone.config == spread_model.config
    clone.set_weights(spread_model.get_weights())
    x, _ = arrays(1)
    np.testing.assert_array_equal(clone(x), spread_model(x))
    text = clone.generate("the ", max_new_tokens=8, seed=1)
    assert text == spread_model.generate("the ", max_new_tokens=8, seed=1)


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        (lambda m: m.fit(np.full((2, 4), 32), np.zeros((2, 4), int)), r"\[0, 32\).*to 32"),
        (lambda m: m.fit(np.zeros((2, 4), int), np.full((2, 4), -2)), r"from -2"),
        (lambda m: m.fit(np.zeros((2, 49), int), np.zeros((2, 49), int)), "49 tokens.*=48"),
        (lambda m: m.evaluate(np.zeros((2, 4)), np.zeros((2, 4))), "integers, got float64"),
        (lambda m: m.predict(np.full((2, 4), 99)), "to 99"),
        (lambda m: m.predict(["a text"]), "for texts use `generate`"),
        (lambda m: m.fit(TEXTS, np.zeros(8)), "`y` must be None"),
        (
            lambda m: m.fit(
                tf.data.Dataset.from_tensors((np.full((2, 4), 32), np.zeros((2, 4), int)))
            ),
            "to 32",
        ),
        (lambda m: m.fit([]), "must hold token ids or texts"),
        (lambda m: m.fit(None), "must hold token ids or texts"),
        (lambda m: m.fit(np.zeros(4, int), np.zeros(4, int)), r"\(batch, length\)"),
        (lambda m: m.fit([[1, 2], [3]]), "`x` must be an array or lists of one length"),
        (
            lambda m: m.fit(*arrays(), validation_data=(np.full((2, 4), 32), np.zeros((2, 4)))),
            "to 32",
        ),
    ],
)
def test_bad_data_is_refused_before_it_is_compiled(compiled, verb, message):
    with pytest.raises(ValueError, match=message):
        verb(compiled)
    assert compiled.optimizer.iterations == 0


def test_lists_of_ids_are_arrays(compiled):
    model = compiled
    x, y = arrays(2)
    expected = model.evaluate(x, y, verbose=0)
    assert model.evaluate(x.tolist(), y.tolist(), verbose=0) == pytest.approx(expected)
    np.testing.assert_array_equal(model.predict(x.tolist(), verbose=0), model.predict(x, verbose=0))


def test_a_later_batch_that_is_wrong_stops_the_training(compiled):
    x, y = arrays(8)
    x[5, 2] = 700  # in the second batch of four
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    with pytest.raises(ValueError, match=r"Token ids must be in \[0, 32\).* to 700\.$"):
        compiled.fit(data, verbose=0)


@pytest.mark.filterwarnings("ignore:Your input ran out")
def test_data_that_can_be_read_once_is_read_once(compiled):
    x, y = arrays(8)
    batches = iter([(x[:4], y[:4]), (x[4:], y[4:])])
    spec = tf.TensorSpec((None, 12), "int32")
    data = tf.data.Dataset.from_generator(lambda: batches, output_signature=(spec, spec))
    seen = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(batch)
    )
    compiled.fit(data, verbose=0, callbacks=[count])
    assert next(batches, None) is None
    assert seen[:2] == [0, 1]


def test_validation_texts_come_in_batches_of_the_same_size(compiled, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        keras.Model,
        "fit",
        lambda self, x, *_, **settings: sizes.extend(
            data.element_spec[0].shape[0] for data in (x, settings["validation_data"])
        ),
    )
    compiled.fit(TEXTS, validation_data=TEXTS, batch_size=2)
    assert sizes == [2, 2]


def test_mixed_float16_scales_the_loss():
    model = gk.GPTCausalLM(tiny_config(num_layers=1), dtype="mixed_float16")
    model.compile()
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def test_a_users_own_loss_may_have_any_name(model):
    def smoothed_cross_entropy(y_true, y_pred):
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)

    model.compile(loss=smoothed_cross_entropy)
    with pytest.raises(ValueError, match="expects probabilities"):
        model.compile(loss=["sparse_categorical_crossentropy"])


def test_running_eagerly_needs_no_other_argument(model, recwarn):
    model.compile(run_eagerly=True)
    assert not [w for w in recwarn if "jit_compile" in str(w.message)]


def test_wrong_parts_are_refused():
    with pytest.raises(ValueError, match=r"tokenizer.*'gpt2'"):
        gk.GPTCausalLM(tiny_config(), tokenizer="gpt2")
    with pytest.raises(ValueError, match=r"backbone.*keras.Model"):
        gk.CausalLM(tiny_config())


def test_texts_need_a_tokenizer():
    model = gk.GPTCausalLM(tiny_config())
    model.compile(jit_compile=False)
    for verb in (model.fit, model.evaluate, model.generate):
        with pytest.raises(ValueError, match="need a tokenizer"):
            verb(["a text"])


def test_a_tokenizer_that_is_too_large_is_refused(character_tokenizer):
    with pytest.raises(ValueError, match=r"32 ids.*vocabulary_size=20"):
        gk.GPTCausalLM(tiny_config(vocabulary_size=20), tokenizer=character_tokenizer)


@pytest.mark.parametrize(
    "metrics", [["accuracy"], [keras.metrics.SparseCategoricalAccuracy(name="accuracy")], None]
)
def test_one_accuracy_is_shown(model, metrics):
    model.compile(metrics=metrics, run_eagerly=True)
    logs = model.test_on_batch(*arrays(2), return_dict=True)
    assert sorted(logs) == ["accuracy", "loss", "perplexity"]


# Saving


@pytest.mark.slow
def test_keras_file_holds_weights_tokenizer_and_optimizer(model, tmp_path):
    optimizer = gk.training.adamw(1e-2, total_steps=50, warmup_steps=3)
    model.compile(optimizer, weighted_metrics=[], jit_compile=False)
    model.fit(*arrays(), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.tokenizer == model.tokenizer
    assert gk.CausalLM.from_preset(tmp_path / "model.keras").tokenizer == model.tokenizer
    assert loaded.config == model.config
    text = model.generate("the ", max_new_tokens=20, seed=4)
    assert loaded.generate("the ", max_new_tokens=20, seed=4) == text
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert "characters" not in archive.read("config.json").decode()
    # Training goes on as if nothing had happened, decay exclusions and moments included.
    assert loaded.optimizer.iterations == model.optimizer.iterations
    losses = [m.fit(*arrays(16), shuffle=False, verbose=0).history["loss"] for m in (model, loaded)]
    assert losses[0] == losses[1]
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-7)


def test_frozen_layers_and_the_optimizer_come_back(model, tmp_path, recwarn):
    model.backbone.trainable = False
    model.backbone.blocks[0].attention.trainable = True  # hidden below a frozen backbone
    classifier = gk.GPTClassifier(
        gk.GPT(tiny_config(num_layers=1)), 2, tokenizer=None, special_ids=(29, 30, 31)
    )
    classifier.backbone.trainable = False
    classifier.compile(jit_compile=False)
    classifier.train_on_batch(np.zeros((2, 4), int), np.array([0, 1]))
    for original in (model, classifier, model.backbone):
        original.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        paths = [v.path for v in original.trainable_variables]
        assert [v.path for v in loaded.trainable_variables] == paths
    classifier.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [v.path for v in loaded.trainable_variables] == ["head/kernel", "head/bias"]
    assert int(loaded.optimizer.iterations) == 1
    for ours, theirs in zip(
        classifier.optimizer.variables, loaded.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert not [w for w in recwarn if "Skipping" in str(w.message)]
    model.save_to_preset(tmp_path / "preset")
    loaded = gk.CausalLM.from_preset(tmp_path / "preset")
    (block,) = loaded.backbone.blocks
    flags = [layer.trainable for layer in (loaded.backbone, block, block.attention)]
    assert flags == [False, False, True]


def test_a_copy_by_its_config_keeps_the_tokenizer(model, character_tokenizer):
    backbone = gk.GPT(tiny_config(num_layers=1, vocabulary_size=35))
    classifier = gk.GPTClassifier(backbone, 2, tokenizer=character_tokenizer)
    for original in (model, classifier):
        copies = (
            keras.models.clone_model(original),
            keras.models.model_from_json(original.to_json()),
        )
        assert [copy.tokenizer for copy in copies] == [character_tokenizer] * 2


def test_mixed_precision_comes_back(character_tokenizer, tmp_path):
    model = gk.GPTCausalLM(tiny_config(), tokenizer=character_tokenizer, dtype="mixed_bfloat16")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.backbone.dtype_policy.name == "mixed_bfloat16"
    np.testing.assert_array_equal(loaded(arrays(1)[0]), model(arrays(1)[0]))


def test_preset_folder_round_trip(spread_model, tmp_path):
    spread_model.save_to_preset(tmp_path / "preset")
    names = sorted(path.name for path in (tmp_path / "preset").iterdir())
    assert names == ["config.json", "model.weights.h5", "tokenizer.json"]
    config = json.loads((tmp_path / "preset" / "config.json").read_text(encoding="utf-8"))
    assert config["model"]["config"]["config"]["hidden_dim"] == 16
    loaded = gk.GPTCausalLM.from_preset(tmp_path / "preset")
    assert loaded.tokenizer == spread_model.tokenizer
    np.testing.assert_array_equal(loaded(arrays(1)[0]), spread_model(arrays(1)[0]))


def test_existing_folders_and_files_are_kept(spread_model, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("three years of work")
    for write in (
        spread_model.save_to_preset,
        spread_model.export,
        lambda path: gk.export.saved_model(spread_model, path),
    ):
        with pytest.raises(ValueError, match="full' exists already"):
            write(tmp_path / "full")
    (tmp_path / "model.keras").write_text("mine")
    with pytest.raises(ValueError, match="exists already and `overwrite` is False"):
        spread_model.save(tmp_path / "model.keras", overwrite=False)
    with pytest.raises(ValueError, match=r"must end in .keras"):
        spread_model.save(tmp_path / "model.h5")
    assert (tmp_path / "full" / "thesis.txt").read_text() == "three years of work"
    assert (tmp_path / "model.keras").read_text() == "mine"


def test_a_failed_save_leaves_nothing_and_keeps_what_was_there(model, tmp_path, monkeypatch):
    model.save(tmp_path / "model.keras")
    before = (tmp_path / "model.keras").read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(type(model.tokenizer), "save", fail)
    with pytest.raises(OSError, match="disk full"):
        model.save(tmp_path / "model.keras")
    with pytest.raises(OSError, match="disk full"):
        model.save_to_preset(tmp_path / "preset")
    assert (tmp_path / "model.keras").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


@pytest.mark.filterwarnings("ignore:Skipping nested container")
@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("config.json", lambda data: data[: len(data) // 2], "config.json' does not describe"),
        ("config.json", lambda data: b"{}", "config.json' does not describe"),
        (
            "config.json",
            lambda data: data.replace(b'"num_heads": 2', b'"num_heads": 3'),
            "num_head",
        ),
        (
            "config.json",
            lambda data: data.replace(b": 16", b": 32"),
            "model.weights.h5' is damaged",
        ),
        ("tokenizer.json", lambda data: data[: len(data) // 2], "tokenizer.json"),
        ("model.weights.h5", lambda data: data[: len(data) // 2], "model.weights.h5' is damaged"),
        ("model.weights.h5", lambda data: b"", "model.weights.h5' is damaged"),
        ("model.weights.h5", lambda data: None, "lacks model.weights.h5"),
    ],
)
def test_damaged_presets_are_named(spread_model, tmp_path, name, damage, message):
    spread_model.save_to_preset(tmp_path / "preset")
    path = tmp_path / "preset" / name
    data = damage(path.read_bytes())
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        gk.GPTCausalLM.from_preset(tmp_path / "preset")


def test_a_preset_of_another_class_is_refused(tmp_path):
    gk.CausalLM(gk.GPT(tiny_config())).save_to_preset(tmp_path / "preset")
    assert type(gk.CausalLM.from_preset(tmp_path / "preset")) is gk.CausalLM
    with pytest.raises(ValueError, match="holds a CausalLM, not a GPTCausalLM"):
        gk.GPTCausalLM.from_preset(tmp_path / "preset")


def test_a_truncated_keras_file_is_refused(spread_model, tmp_path):
    path = tmp_path / "model.keras"
    spread_model.save(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model\.keras' is damaged"):
        gk.CausalLM.from_preset(path)
    with pytest.raises(ValueError, match=r"model\.keras"):
        keras.saving.load_model(path)
