import sys

import numpy as np
import pytest
from tiny_models import tiny_config

import gpt_keras as gk


def events(folder):
    """By tag the steps and the values that a directory's event files hold."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorflow import make_ndarray

    found = {}
    for file in folder.glob("events*"):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, make_ndarray(value.tensor)))
    return found


def test_what_it_shows(character_tokenizer, tmp_path):
    model = gk.GPTCausalLM(tiny_config(), tokenizer=character_tokenizer)
    model.compile(gk.training.adamw(1e-3, warmup_steps=4), jit_compile=False)
    ids = np.random.default_rng(0).integers(32, size=(24, 13)).astype("int32")
    samples = gk.callbacks.SampleText("the ", max_new_tokens=3, print_fn=lambda text: None)
    norms = []

    class Norms(gk.callbacks.Throughput):
        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            norms.append(float(self.model.optimizer.gradient_norm))

    board = gk.callbacks.TensorBoard(
        tmp_path, every=2, samples=samples, attention_text="the cat", update_freq="epoch"
    )
    history = model.fit(
        ids[:, :-1],
        ids[:, 1:],
        validation_data=(ids[:, :-1], ids[:, 1:]),
        batch_size=4,
        epochs=2,
        verbose=0,
        callbacks=[samples, Norms(), board],
    ).history

    found = events(tmp_path / "train")
    assert [step for step, _ in found["batch/gradient_norm"]] == [2, 4, 6, 8, 10, 12]
    values = [float(value) for _, value in found["batch/gradient_norm"]]
    np.testing.assert_allclose(values, norms[1::2], rtol=1e-6)
    rates = [float(value) for _, value in found["batch/learning_rate"]]
    assert rates[0] < rates[1] == pytest.approx(1e-3)
    assert len(found["batch/tokens_per_second"]) >= 5
    assert [text for _, text in samples.samples] == [
        value.item().decode().removeprefix("    ") for _, value in found["sample"]
    ]
    assert {"attention/layer_0", "attention/layer_1"} <= set(found)
    picture = found["attention/layer_0"][0][1][2]  # width, height, then the pictures
    assert picture.startswith(b"\x89PNG")
    validation = events(tmp_path / "validation")
    losses = [float(value) for _, value in validation["epoch_loss"]]
    np.testing.assert_allclose(losses, history["val_loss"], rtol=1e-6)


def test_without_tensorboard_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'gpt_keras\[tensorboard\]'"):
        gk.callbacks.TensorBoard(tmp_path)


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"every.*0"):
        gk.callbacks.TensorBoard(tmp_path, every=0)
