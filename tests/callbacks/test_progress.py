import keras
import numpy as np
import pytest
import tensorflow as tf
from reused_models import restored
from tiny_models import tiny_config

import gpt_keras as gk
from gpt_keras.callbacks.progress import perplexity_of


def new_model(character_tokenizer, **settings):
    model = gk.GPTCausalLM(tiny_config(num_layers=1), tokenizer=character_tokenizer)
    model.compile("sgd", **settings)
    return model


@pytest.fixture(scope="module")
def compiled(character_tokenizer):
    return new_model(character_tokenizer, jit_compile=False)


@pytest.fixture
def model(compiled):
    with restored(compiled):
        yield compiled


def data(batches=6):
    token_ids = np.random.default_rng(0).integers(0, 32, (batches * 4, 13)).astype("int32")
    return tf.data.Dataset.from_tensor_slices((token_ids[:, :-1], token_ids[:, 1:])).batch(4)


def test_samples_are_shown_at_the_end_of_each_epoch(model):
    shown = []
    callback = gk.callbacks.SampleText("the ", max_new_tokens=5, print_fn=shown.append)
    model.fit(data(), epochs=2, verbose=0, callbacks=[callback])
    assert [step for step, _ in callback.samples] == [6, 12]
    assert all(text.startswith("the ") for _, text in callback.samples)
    assert "after 12 batches" in shown[1]
    assert callback.samples[1][1] in shown[1]
    # The last sample is what the trained model says with the same settings.
    assert callback.samples[1][1] == model.generate("the ", max_new_tokens=5, seed=0)


@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_samples_are_shown_every_so_many_batches(model, character_tokenizer, steps_per_execution):
    if steps_per_execution > 1:
        settings = {"steps_per_execution": steps_per_execution, "weighted_metrics": []}
        model = new_model(character_tokenizer, jit_compile=False, **settings)
    callback = gk.callbacks.SampleText(
        "the ", every=3, max_new_tokens=2, print_fn=lambda text: None
    )
    model.fit(data(), epochs=2, verbose=0, callbacks=[callback])
    assert [step for step, _ in callback.samples] == [3, 6, 9, 12]


def test_sample_text_is_checked_before_training(model):
    for callback in (
        gk.callbacks.SampleText("ÄÖ"),
        gk.callbacks.SampleText("a", temperature=-1),
    ):
        with pytest.raises(ValueError, match=r"Ä|temperature"):
            model.fit(data(), verbose=0, callbacks=[callback])
    assert model.optimizer.iterations == 0


def test_sample_text_refuses_bad_arguments():
    with pytest.raises(ValueError, match=r"prompt.*''"):
        gk.callbacks.SampleText("")
    with pytest.raises(ValueError, match=r"every.*0"):
        gk.callbacks.SampleText("a", every=0)


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


def test_throughput_counts_tokens_and_seconds_of_batches(model, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("gpt_keras.callbacks.progress.time", clock)
    throughput = gk.callbacks.Throughput()
    seen = []

    class Tick(keras.callbacks.Callback):
        """Makes each batch last 2 s, the first one 100 s, and what lies between batches 50 s."""

        def on_train_batch_begin(self, batch, logs=None):
            clock.now += 50

        def on_train_batch_end(self, batch, logs=None):
            clock.now += 100 if batch == 0 and not seen else 2
            seen.append(batch)

    class Read(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.rates = []

        def on_train_batch_end(self, batch, logs=None):
            self.rates.append(logs.get("tokens_per_second"))

    read = Read()
    history = model.fit(
        data(), epochs=2, verbose=0, validation_data=data(1), callbacks=[Tick(), throughput, read]
    )
    # 4 x 12 tokens a batch in 2 s, without the first batch.
    assert read.rates == [None] + [24.0] * 11
    assert history.history["tokens_per_second"] == [24.0, 24.0]


def test_throughput_does_not_count_padding(character_tokenizer):
    model = new_model(character_tokenizer, run_eagerly=True)
    texts = ["abc"] * 8  # three letters and an end: three targets in rows of 47
    throughput = gk.callbacks.Throughput()
    history = model.fit(texts, epochs=2, batch_size=4, verbose=0, callbacks=[throughput]).history
    assert len(history["tokens_per_second"]) == 2
    assert perplexity_of(model).count == 8 * 3


def test_throughput_needs_the_perplexity_metric(character_tokenizer):
    model = new_model(character_tokenizer, weighted_metrics=[], run_eagerly=True)
    with pytest.raises(ValueError, match=r"compiled without it.*Perplexity\(\)"):
        model.fit(data(), verbose=0, callbacks=[gk.callbacks.Throughput()])
