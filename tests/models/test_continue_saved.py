"""Keras's own ways to save a training: what they restore."""

import keras
import numpy as np
import pytest

import gpt_keras as gk

IDS = np.random.default_rng(0).integers(0, 12, (24, 7)).astype("int32")


class Stopped(Exception):
    pass


class StopAfter(keras.callbacks.Callback):
    def __init__(self, num_batches):
        super().__init__()
        self.left = num_batches

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise Stopped


def new_model(**settings):
    keras.utils.set_random_seed(1)
    config = gk.presets.get("tiny").replace(vocabulary_size=12, dropout=0.2)
    model = gk.GPTCausalLM(config)
    model.compile(gk.training.adamw(1e-2, **settings), jit_compile=False)
    return model


def fit(model, epochs=2, **settings):
    settings = {"batch_size": 4, "verbose": 0, "shuffle": False, **settings}
    return model.fit(IDS, epochs=epochs, **settings).history


def assert_same_weights(a, b):
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    "settings",
    [
        {"use_ema": True, "skip_above": 3.0},
        {"gradient_accumulation_steps": 4, "warmup_steps": 2, "total_steps": 9},
    ],
    ids=["averages", "accumulation"],
)
def test_a_saved_model_continues_as_if_it_had_not_been_saved(tmp_path, settings):
    model = new_model(**settings)
    fit(model, epochs=1)  # 6 batches: in the middle of an accumulation
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert fit(loaded) == fit(model)
    assert_same_weights(loaded, model)


def test_files_of_weights_hold_the_seeds_of_dropout(tmp_path):
    model = new_model()
    fit(model, epochs=1)
    model.save_weights(tmp_path / "model.weights.h5")
    other = new_model()
    other.load_weights(tmp_path / "model.weights.h5")
    outputs = [m(IDS[:, :-1], training=True) for m in (model, other)]
    np.testing.assert_array_equal(*outputs)
    assert np.any(model(IDS[:, :-1], training=True) != outputs[0])


def test_files_without_seeds_load(tmp_path, monkeypatch):
    from gpt_keras.models import text_model

    model = new_model()
    with monkeypatch.context() as patch:  # as before the seeds were saved
        patch.setattr(text_model, "save_seeds", lambda model, store: None)
        model.save_weights(tmp_path / "model.weights.h5")
    other = new_model()
    fit(other, epochs=1)
    other.load_weights(tmp_path / "model.weights.h5")
    assert_same_weights(other, model)


def test_backup_and_restore_goes_back_to_the_last_epoch(tmp_path):
    whole = new_model()
    history = fit(whole, epochs=3)
    model = new_model()
    backup = keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
    with pytest.raises(Stopped):
        fit(model, epochs=3, callbacks=[backup, StopAfter(10)])  # in the second epoch
    model = new_model()
    again = fit(model, epochs=3, callbacks=[keras.callbacks.BackupAndRestore(tmp_path)])
    # The second and the third epoch, from the state after the first one: the data are in order.
    assert again["loss"] == history["loss"][1:]
    assert_same_weights(model, whole)


@pytest.mark.parametrize("weights_only", [False, True])
def test_model_checkpoint_keeps_the_best_epoch(tmp_path, weights_only):
    name = "best.weights.h5" if weights_only else "best.keras"
    checkpoint = keras.callbacks.ModelCheckpoint(
        tmp_path / name, monitor="loss", save_best_only=True, save_weights_only=weights_only
    )
    model = new_model()
    history = fit(model, callbacks=[checkpoint])
    assert history["loss"][1] < history["loss"][0]
    if weights_only:
        loaded = new_model()
        loaded.load_weights(tmp_path / name)
    else:
        loaded = keras.saving.load_model(tmp_path / name)
    assert_same_weights(loaded, model)
    assert loaded.optimizer.iterations == model.optimizer.iterations
    assert fit(loaded) == fit(model)
