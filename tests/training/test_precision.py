"""Short floats and what goes with them, against training in float32."""

import keras
import numpy as np
import pytest

import gpt_keras as gk

TEXT = "\n".join(gk.datasets.corpora.load("shakespeare"))[:60_000]


def final_loss(dtype, tmp_path, jit_compile=True):
    """Validation loss after 150 steps on the beginning of a play, of a model of one layer."""
    keras.utils.set_random_seed(0)  # also the order of the batches
    tokenizer = gk.tokenizers.CharacterTokenizer.train(TEXT)
    train, validation = gk.datasets.language_modeling(
        TEXT, tokenizer, sequence_length=32, batch_size=16, cache_dir=tmp_path
    )
    config = gk.GPTConfig(
        vocabulary_size=tokenizer.vocabulary_size,
        max_sequence_length=32,
        num_layers=1,
        num_heads=2,
        hidden_dim=32,
    )
    model = gk.GPTCausalLM(config, dtype=dtype)
    # At a larger rate, losses differ by more than the dtype makes of them.
    optimizer = gk.training.adamw(3e-3, warmup_steps=10, total_steps=150)
    model.compile(optimizer, weighted_metrics=[], jit_compile=jit_compile)
    model.fit(train.repeat(), steps_per_epoch=150, verbose=0)
    return model, model.evaluate(validation, verbose=0)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return final_loss("float32", tmp_path_factory.mktemp("ids"), jit_compile=False)[1]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_learns_as_much(dtype, plain, tmp_path):
    model, loss = final_loss(dtype, tmp_path)
    assert plain < 2.8  # it learned something: at first it is above 4
    assert loss == pytest.approx(plain, rel=0.01)
    assert all(v.dtype == "float32" for v in model.trainable_variables)
    is_scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert is_scaled == (dtype == "mixed_float16")


@pytest.mark.slow
def test_a_moving_average_in_fit_is_validated_and_kept(tmp_path):
    ids = np.random.default_rng(0).integers(8, size=(64, 9)).astype("int32")
    config = gk.GPTConfig(
        vocabulary_size=8, max_sequence_length=8, num_layers=1, num_heads=2, hidden_dim=16
    )
    model = gk.GPTCausalLM(config)
    optimizer = gk.training.adamw(1e-2, warmup_steps=0, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, weighted_metrics=[], jit_compile=False)
    x, y = ids[:, :-1], ids[:, 1:]
    history = model.fit(
        x,
        y,
        validation_data=(x, y),
        epochs=2,
        batch_size=8,
        verbose=0,
        callbacks=[keras.callbacks.SwapEMAWeights()],
    ).history
    # After training the model has the average, with which it was validated.
    assert model.evaluate(x, y, verbose=0) == pytest.approx(history["val_loss"][-1], rel=1e-4)


@pytest.fixture
def floatx(request):
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(request.param)
    keras.config.set_dtype_policy(request.param)  # in a new process it follows floatx
    yield request.param
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


@pytest.mark.parametrize("floatx", ["bfloat16", "float16", "float64"], indirect=True)
def test_training_follows_keras_s_floatx(floatx):
    ids = np.random.default_rng(0).integers(29, size=(4, 9))
    config = gk.GPTConfig(
        vocabulary_size=300, max_sequence_length=8, num_layers=1, num_heads=2, hidden_dim=8
    )
    model = gk.GPTCausalLM(config)
    assert {v.dtype for v in model.trainable_variables} == {floatx}
    # The squares of AdamW underflow in float16. XLA has no range of int16; bfloat16 no 257.
    optimizer = gk.training.adamw(1e-3, warmup_steps=0)
    if floatx == "float16":
        optimizer = keras.optimizers.SGD(0.1)
    model.compile(optimizer, jit_compile=floatx == "bfloat16")
    x, y = ids[:, :-1] + 270, ids[:, 1:] + 270
    perplexity = model.fit(x, y, epochs=2, verbose=0).history["perplexity"]
    assert perplexity[0] == pytest.approx(300, rel=0.1)
    assert perplexity[1] < perplexity[0]
    classifier = gk.GPTClassifier(
        model, 2, special_ids=(297, 298, 299), language_modeling_weight=0.5
    )
    classifier.compile(gk.training.muon(1e-3), run_eagerly=True)
    assert np.isfinite(float(classifier.train_on_batch(x, np.array([0, 1, 0, 1]))[0]))


@pytest.mark.parametrize("floatx", ["bfloat16", "float16", "float64"], indirect=True)
def test_experts_and_heads_follow_keras_s_floatx(floatx):
    """The router and the head are float32, and so are their gradients, beside the others."""
    ids = np.random.default_rng(0).integers(29, size=(4, 9))
    config = gk.GPTConfig(
        vocabulary_size=32,
        max_sequence_length=9,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        num_experts=3,
    )
    model = gk.GPTCausalLM(config)
    assert {v.dtype for v in model.trainable_variables} == {floatx, "float32"}
    model.compile(gk.training.adamw(1e-3, warmup_steps=0), run_eagerly=True)
    losses = {"experts": model.train_on_batch(ids)[0]}
    settings = {"special_ids": (29, 30, 31), "language_modeling_weight": 0.5}
    classifier = gk.GPTClassifier(model, 2, **settings)
    choice = gk.GPTMultipleChoice(model, **settings)
    for task, x in ((classifier, ids), (choice, ids.reshape(4, 3, 3))):
        task.compile(gk.training.adamw(1e-3, warmup_steps=0), run_eagerly=True)
        before = np.array(task.head.kernel)
        losses[task.name] = task.train_on_batch(x, np.array([0, 1, 0, 1]))[0]
        assert np.any(np.array(task.head.kernel) != before)
    assert np.isfinite([float(loss) for loss in losses.values()]).all(), losses
