"""Training that stops and continues equals training that was not interrupted."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import gpt_keras as gk

VOCABULARY_SIZE = 12


class Stopped(Exception):
    """Interrupts `fit`, as a kill does: nothing is saved after it."""


class Losses(keras.callbacks.Callback):
    """Records the loss after each batch, and stops after a number of batches."""

    def __init__(self, stop_after=None):
        super().__init__()
        self.losses, self.stop_after, self.total = {}, stop_after, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.losses[self.epoch, batch] = float(logs["loss"])
        self.total += 1
        if self.total == self.stop_after:
            raise Stopped


def ids(seed, rows=40, length=7):
    return np.random.default_rng(seed).integers(0, VOCABULARY_SIZE, (rows, length)).astype("int32")


def shuffled():
    rows = ids(0)
    dataset = tf.data.Dataset.from_tensor_slices((rows[:, :-1], rows[:, 1:]))
    return dataset.shuffle(40, seed=3).batch(4)


def ours():
    tokenizer = gk.tokenizers.CharacterTokenizer("abcdefgh")
    return gk.datasets.padded(
        ["abcd", "hgfe", "aabbccdd", "h"] * 9, tokenizer, batch_size=4, seed=1
    )


def language_model(optimizer=None, dtype=None, **settings):
    config = gk.presets.get("tiny").replace(vocabulary_size=VOCABULARY_SIZE, dropout=0.1)
    model = gk.GPTCausalLM(config, dtype=dtype)
    optimizer = gk.training.adamw(1e-2) if optimizer is None else optimizer()
    model.compile(optimizer, **{"jit_compile": False, **settings})
    return model


def with_adapters():
    model = language_model()
    model.enable_lora(2)
    model.compile(gk.training.adamw(1e-2), jit_compile=False)
    return model


def classifier():
    config = gk.presets.get("tiny").replace(vocabulary_size=VOCABULARY_SIZE, dropout=0.1)
    model = gk.GPTClassifier(gk.GPT(config), num_classes=2, pad_id=0)
    model.compile(gk.training.adamw(1e-2), jit_compile=False)
    return model


def plain():
    """A Keras model without any class of this package."""
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(VOCABULARY_SIZE, 8)(inputs)
    outputs = keras.layers.Dense(VOCABULARY_SIZE)(keras.layers.Dropout(0.1)(x))
    model = keras.Model(inputs, outputs)
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def ema():
    return gk.training.adamw(1e-2, use_ema=True, ema_overwrite_frequency=3)


def accumulated():
    return gk.training.adamw(
        1e-2, warmup_steps=2, total_steps=20, gradient_accumulation_steps=3, skip_above=2.0
    )


def labeled():
    return tf.data.Dataset.from_tensor_slices((ids(0), np.arange(40) % 2)).batch(4)


# Name: the model, and the arguments of `fit`.
CASES = {
    "plain data": (language_model, lambda: {"x": shuffled()}),
    "arrays": (language_model, lambda: {"x": ids(0), "batch_size": 4}),
    "padded texts": (language_model, lambda: {"x": ours()}),
    "one iterator": (
        language_model,
        lambda: {"x": shuffled().repeat(), "steps_per_epoch": 7},
    ),
    "iterators made anew": (language_model, lambda: {"x": shuffled(), "steps_per_epoch": 5}),
    "unknown length": (
        language_model,
        lambda: {"x": shuffled().filter(lambda x, y: True)},
    ),
    "generator": (
        language_model,
        lambda: {"x": (batch for _ in range(9) for batch in shuffled()), "steps_per_epoch": 10},
    ),
    "accumulation": (lambda: language_model(accumulated), lambda: {"x": shuffled()}),
    "averages": (lambda: language_model(ema), lambda: {"x": shuffled()}),
    "muon": (lambda: language_model(lambda: gk.training.muon(1e-2)), lambda: {"x": shuffled()}),
    "several steps": (
        lambda: language_model(steps_per_execution=2),
        lambda: {"x": shuffled()},
    ),
    "loss scale": (lambda: language_model(dtype="mixed_float16"), lambda: {"x": shuffled()}),
    "bfloat16": (lambda: language_model(dtype="bfloat16"), lambda: {"x": shuffled()}),
    "validation": (
        language_model,
        lambda: {"x": shuffled(), "validation_data": (ids(5)[:, :-1], ids(5)[:, 1:])},
    ),
    "adapters": (with_adapters, lambda: {"x": shuffled()}),
    "classifier": (classifier, lambda: {"x": labeled()}),
    "plain Keras": (plain, lambda: {"x": shuffled()}),
}


def train(make_model, data, folder=None, stop_after=None, callbacks=(), epochs=3, **settings):
    keras.utils.set_random_seed(7)
    model, watch = make_model(), Losses(stop_after)
    callbacks = [watch, *callbacks]
    if folder is not None:  # in the middle of the list, where a user may put it
        callbacks.insert(1, gk.callbacks.Checkpoint(folder, **settings))
    try:
        history = model.fit(**data(), epochs=epochs, verbose=0, callbacks=callbacks).history
    except Stopped:
        history = None
    return watch.losses, history, model


def assert_equal(resumed, whole):
    losses, history, model = resumed
    assert losses == {place: whole[0][place] for place in losses}
    assert history == whole[1]
    for a, b in zip(model.variables, whole[2].variables, strict=True):
        np.testing.assert_array_equal(a, b, a.path)
    for a, b in zip(model.optimizer.variables, whole[2].optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b, a.path)


@pytest.mark.parametrize("case", CASES)
def test_continues_exactly_in_mid_epoch(case, tmp_path):
    make_model, data = CASES[case]
    size = 2 if case == "several steps" else 1
    whole = train(make_model, data)
    train(make_model, data, tmp_path, stop_after=14 // size, every_steps=4)
    resumed = train(make_model, data, tmp_path, every_steps=4)
    assert min(resumed[0]) > (0, 0)
    assert_equal(resumed, whole)
