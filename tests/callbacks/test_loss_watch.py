import keras
import numpy as np
import pytest
from reused_models import restored
from tiny_models import tiny_config, with_a_bad_token

import gpt_keras as gk


def data(bad=()):
    """Eight batches of two rows; those in `bad` have the token 31."""
    rows = np.random.default_rng(0).integers(31, size=(16, 13)).astype("int32")
    for batch in bad:
        rows[2 * batch, 5] = 31
    return rows[:, :-1], rows[:, 1:]


def fit(model, bad=(), epochs=1, **settings):
    x, y = data(bad)
    messages = []
    watch = gk.callbacks.LossWatch(print_fn=messages.append, **settings)
    history = model.fit(
        x,
        y,
        batch_size=2,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[watch],
    )
    return watch, messages, history.history


def new_model(jit_compile=True, **settings):
    model = gk.GPTCausalLM(tiny_config(num_layers=1, tie_embeddings=False))
    model.compile(gk.training.adamw(1e-3, warmup_steps=0, **settings), jit_compile=jit_compile)
    return with_a_bad_token(model, 31)


@pytest.fixture(scope="module")
def compiled():
    return new_model()


@pytest.fixture
def model(compiled):
    with restored(compiled):
        yield compiled


def test_nothing_happens_where_all_is_well(model):
    watch, messages, history = fit(model, stop_above=2.0)
    assert (watch.incidents, messages) == ([], [])
    assert np.isfinite(history["loss"]).all()


def test_training_stops_at_a_loss_that_is_not_finite(model):
    watch, messages, _ = fit(model, bad=[5], epochs=3)
    (incident,) = watch.incidents
    assert (incident["step"], incident["epoch"], incident["batch"]) == (6, 0, 5)
    assert incident["action"] == "stopped"
    assert not np.isfinite(incident["loss"])
    assert int(model.optimizer.iterations) == 6
    assert "step 6 (epoch 0, batch 5)" in messages[0]
    assert "training stops" in messages[0]


def test_a_batch_that_was_skipped_counts_nowhere():
    model = new_model(jit_compile=False, skip_above=10.0)
    watch, messages, history = fit(model, bad=[5], epochs=2)
    assert [(i["epoch"], i["batch"], i["action"]) for i in watch.incidents] == [
        (0, 5, "skipped"),
        (1, 5, "skipped"),
    ]
    assert [i["step"] for i in watch.incidents] == [6, 14]
    assert np.isfinite(history["loss"]).all()
    assert np.isfinite(history["perplexity"]).all()
    assert int(model.optimizer.iterations) == 14
    assert "the batch was skipped" in messages[0]


def test_training_stops_where_the_loss_leaps(model):
    class Breaks(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 4:  # now the model is sure of what is wrong
                embeddings = self.model.backbone.token_embedding.reverse_embeddings
                embeddings.assign(1000 * embeddings)

    x, y = data()
    watch = gk.callbacks.LossWatch(stop_above=1.5, print_fn=lambda text: None)
    model.fit(x, y, batch_size=2, shuffle=False, verbose=0, callbacks=[Breaks(), watch])
    (incident,) = watch.incidents
    assert (incident["step"], incident["action"]) == (5, "stopped")
    assert incident["loss"] > 1.5 * np.log(32)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"stop_above.*0.9"):
        gk.callbacks.LossWatch(stop_above=0.9)
    model = gk.GPTCausalLM(tiny_config(num_layers=1))
    model.compile(weighted_metrics=[], run_eagerly=True)
    with pytest.raises(ValueError, match="Perplexity"):
        fit(model)
