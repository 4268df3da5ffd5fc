"""Training that stops and continues equals training that was not interrupted."""

import shutil

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
        ["abcd", "hgfe", "aabbccdd", "h"] * 9, tokenizer, sequence_length=6, batch_size=4, seed=1
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


def dpo():
    """DPO of an adapter: the loss needs the base model's log-probabilities."""
    tokenizer = gk.tokenizers.CharacterTokenizer("0123456789+= no", end_of_text=True)
    config = gk.presets.get("tiny").replace(vocabulary_size=tokenizer.vocabulary_size)
    model = gk.GPTCausalLM(config, tokenizer=tokenizer)
    model.enable_lora(2)
    found = gk.finetuning.DPO(model, beta=0.1)
    found.compile(gk.training.adamw(1e-2), jit_compile=False)
    return found


def preferences():
    pairs = [{"prompt": f"{a} + 1 =", "chosen": f"{a + 1}", "rejected": "no"} for a in range(40)]
    found = gk.datasets.preferences(pairs, dpo().model, validation_fraction=0)
    return found.train.batches(4, seed=0)


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
    "xla": (lambda: language_model(accumulated, jit_compile=True), lambda: {"x": shuffled()}),
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
    "preferences": (dpo, lambda: {"x": preferences()}),
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
        if folder is not None:
            callbacks[1]._folder.wait()  # a real kill may come earlier
    return watch.losses, history, model


def assert_equal(resumed, whole):
    losses, history, model = resumed
    assert losses == {place: whole[0][place] for place in losses}
    assert history == whole[1]
    for a, b in zip(model.variables, whole[2].variables, strict=True):
        np.testing.assert_array_equal(a, b, a.path)
    for a, b in zip(model.optimizer.variables, whole[2].optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b, a.path)


FAST = ("one iterator", "accumulation", "plain Keras")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in FAST else pytest.mark.slow) for c in CASES]
)
def test_continues_exactly_in_mid_epoch(case, tmp_path):
    make_model, data = CASES[case]
    size = 2 if case == "several steps" else 1
    whole = train(make_model, data)
    train(make_model, data, tmp_path, stop_after=14 // size, every_steps=4)
    resumed = train(make_model, data, tmp_path, every_steps=4)
    assert min(resumed[0]) > (0, 0)
    assert_equal(resumed, whole)


# Callbacks with a state, and the end of a training


class Counted(keras.callbacks.Callback):
    """A user's callback that takes part in checkpoints."""

    def __init__(self):
        super().__init__()
        self.sums = np.zeros(2)

    def on_train_batch_end(self, batch, logs=None):
        self.sums += [1, batch]

    def get_state(self):
        return {"sums": self.sums}

    def set_state(self, state):
        self.sums = np.array(state["sums"])


def stateful_callbacks():
    return [
        gk.callbacks.LossWatch(print_fn=lambda _: None),
        keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=0, min_delta=10),
        keras.callbacks.EarlyStopping("loss", patience=2, min_delta=10, restore_best_weights=True),
        Counted(),
    ]


@pytest.mark.parametrize("stop_after", [14, 25])
def test_callbacks_continue_with_their_state(tmp_path, stop_after):
    def fit(folder=None, stop_after=None):
        callbacks = stateful_callbacks()
        found = train(plain_language_model, data, folder, stop_after, callbacks, epochs=9)
        return found, callbacks

    def plain_language_model():
        return language_model(lambda: keras.optimizers.Adam(1e-3))

    def data():
        return {"x": shuffled()}

    whole, expected = fit()
    fit(tmp_path, stop_after)
    resumed, callbacks = fit(tmp_path)
    assert_equal(resumed, whole)
    assert len(whole[1]["loss"]) == 3  # EarlyStopping ended it
    watch, plateau, stopping, counted = callbacks
    assert watch._mean == expected[0]._mean
    assert plateau.best == expected[1].best
    assert plateau.wait == expected[1].wait
    assert stopping.stopped_epoch == expected[2].stopped_epoch == 2
    np.testing.assert_array_equal(counted.sums, expected[3].sums)


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", [11, 14])  # the newest checkpoint is that of batch 10
def test_swapped_averages(tmp_path, stop_after):
    def fit(folder=None, stop_after=None):
        def data():
            return {"x": shuffled(), "validation_data": shuffled()}

        def make_model():
            return language_model(lambda: gk.training.adamw(1e-2, use_ema=True))

        swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
        return train(make_model, data, folder, stop_after, [swap])

    whole = fit()
    fit(tmp_path, stop_after)
    assert_equal(fit(tmp_path), whole)


def test_a_training_that_has_ended_is_not_repeated(tmp_path):
    def data():
        return {"x": shuffled()}

    whole = train(language_model, data, tmp_path, epochs=2)
    again = train(language_model, data, tmp_path, epochs=2)
    assert again[0] == {}
    assert again[1] == whole[1]
    longer = train(language_model, data, tmp_path, epochs=3)
    assert_equal(longer, train(language_model, data, epochs=3))


def test_keeps_the_newest_and_the_best(tmp_path):
    def data():
        return {"x": shuffled(), "validation_data": shuffled()}

    checkpoint = gk.callbacks.Checkpoint(tmp_path, every_steps=4, keep=2, keep_best="val_loss")
    values = iter([3.0, 1.0, 2.0, 4.0])

    class Values(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = next(values)
            weights.append([np.array(w) for w in self.model.get_weights()])

    weights = []
    model = language_model()
    model.fit(**data(), epochs=4, verbose=0, callbacks=[checkpoint, Values()])
    found = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert found == ["checkpoint-00000020", "checkpoint-00000036", "checkpoint-00000040"]
    other = language_model()
    assert checkpoint.restore_weights(other, "best") == 20
    for a, b in zip(other.get_weights(), weights[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert checkpoint.restore_weights(other) == 40


# What goes wrong


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first") / "run"
    train(language_model, lambda: {"x": shuffled()}, folder, stop_after=14, every_steps=4)
    return folder


@pytest.fixture
def interrupted(first_run, tmp_path):
    """A folder with the checkpoints 8, 10 and 12 of a training that was interrupted."""
    return shutil.copytree(first_run, tmp_path / "run")


def other_rows():
    rows = ids(1)
    dataset = tf.data.Dataset.from_tensor_slices((rows[:, :-1], rows[:, 1:]))
    return dataset.shuffle(40, seed=3).batch(4)


def no_seed():
    rows = ids(0)
    dataset = tf.data.Dataset.from_tensor_slices((rows[:, :-1], rows[:, 1:]))
    return dataset.shuffle(40, seed=np.random.randint(1, 10**6)).batch(4)


def wider():
    config = gk.presets.get("tiny").replace(
        vocabulary_size=VOCABULARY_SIZE, hidden_dim=32, dropout=0.1
    )
    model = gk.GPTCausalLM(config)
    model.compile(gk.training.adamw(1e-2), jit_compile=False)
    return model


@pytest.mark.parametrize(
    ("make_model", "x", "message"),
    [
        (language_model, other_rows, "the data changed .* differs"),
        (language_model, lambda: no_seed().skip(1), "the data changed .* another order"),
        (language_model, lambda: shuffled().take(1), "the data changed .* differs|fewer than"),
        (language_model, lambda: shuffled().unbatch().batch(5), "the data changed"),
        (
            language_model,
            lambda: shuffled().map(lambda x, y: (x, y, tf.ones_like(x))),
            "the batches changed .*int32 .*now",
        ),
        (wider, shuffled, r"the model or its optimizer changed \(now .*32.* before .*16"),
        (
            lambda: language_model(lambda: gk.training.muon(1e-2)),
            shuffled,
            "the model or its optimizer changed",
        ),
    ],
    ids=["rows", "order", "fewer", "batch size", "weights", "model", "optimizer"],
)
def test_refuses_another_training(interrupted, make_model, x, message):
    with pytest.raises(ValueError, match="Cannot continue the training in") as error:
        train(make_model, lambda: {"x": x()}, interrupted)
    assert error.match("changed")
    # The folder is as before, and the right training continues.
    assert len(list(interrupted.glob("checkpoint-*"))) == 3


@pytest.mark.parametrize("name", ["arrays.npz", "state.json", "sha256.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "changed"])
def test_falls_back_to_the_checkpoint_before(interrupted, name, damage):
    file = interrupted / "checkpoint-00000012" / name
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        half = len(content) // 2
        changed = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        file.write_bytes(content[:half] if damage == "cut" else changed)
    checkpoint = gk.callbacks.Checkpoint(interrupted)
    model = language_model()
    with pytest.warns(UserWarning, match="damaged.* The checkpoint before it is used"):
        model.fit(shuffled(), epochs=1, verbose=0, callbacks=[checkpoint])
    assert checkpoint.resumed_from == 10


def test_only_damaged_checkpoints_are_an_error(interrupted):
    for file in interrupted.glob("checkpoint-*/arrays.npz"):
        file.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(ValueError, match="holds only damaged checkpoints"),
    ):
        train(language_model, lambda: {"x": shuffled()}, interrupted)


def test_a_full_disk_does_not_end_the_training(tmp_path, monkeypatch):
    calls = []

    def full(*args, **kwargs):
        calls.append(args)
        raise OSError(28, "No space left on device")

    def data():
        return {"x": shuffled()}

    train(language_model, data, tmp_path, stop_after=5, every_steps=4)
    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(UserWarning, match="could not be written .*No space left") as warned:
        found = train(language_model, data, tmp_path, epochs=1)
    assert len(calls) == 1
    assert sum("No space left" in str(warning.message) for warning in warned) == 1
    assert found[1]["loss"]
    assert [path.name for path in tmp_path.glob("*check*")] == ["checkpoint-00000004"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every_steps": 0}, "`every_steps` must be an integer of at least 1, got 0"),
        ({"every_minutes": -1}, "`every_minutes` must be"),
        ({"keep": 0}, "`keep` must be an integer of at least 1, got 0"),
        ({"keep_best": 3}, "`keep_best` must be a name such as 'val_loss', got 3"),
    ],
)
def test_wrong_arguments(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        gk.callbacks.Checkpoint(tmp_path, **settings)


def test_an_unknown_value_for_the_best(tmp_path):
    with pytest.raises(ValueError, match=r"`keep_best` must be one of .*loss.*, got 'val_los'"):
        train(language_model, lambda: {"x": shuffled()}, tmp_path, keep_best="val_los")


def test_no_checkpoint_to_restore(tmp_path):
    checkpoint = gk.callbacks.Checkpoint(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no newest checkpoint"):
        checkpoint.restore_weights(language_model())
    with pytest.raises(ValueError, match="`which` must be 'newest' or 'best'"):
        checkpoint.restore_weights(language_model(), "last")


def test_restored_weights_must_fit(interrupted):
    with pytest.raises(ValueError, match="`model` differs from the checkpoint"):
        gk.callbacks.Checkpoint(interrupted).restore_weights(wider())


# What a review found


def plain_data():
    return {"x": shuffled()}


def lazily_built():
    model = keras.Sequential(
        [keras.layers.Embedding(VOCABULARY_SIZE, 8), keras.layers.Dense(VOCABULARY_SIZE)]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


class Undescribed(keras.optimizers.schedules.LearningRateSchedule):
    """A user's schedule without `get_config`."""

    def __call__(self, step):
        return 0.01 / (1 + keras.ops.cast(step, "float32"))


def with_a_schedule():
    model = plain()
    model.compile(
        keras.optimizers.Adam(Undescribed()),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def with_none():
    return {"x": shuffled().map(lambda x, y: (x, y, None))}


def halved(epoch, rate):
    return rate / 2


class SetsTheRate(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.model.optimizer.learning_rate = 0.003


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", [13, 25])
@pytest.mark.parametrize(
    ("make_model", "data", "callbacks"),
    [
        (plain, plain_data, lambda: [keras.callbacks.LearningRateScheduler(halved)]),
        (plain, plain_data, lambda: [SetsTheRate()]),
        (lazily_built, plain_data, list),
        (with_a_schedule, plain_data, list),
        (plain, with_none, list),
    ],
    ids=["scheduler", "sets the rate", "built late", "schedule", "none"],
)
def test_plain_keras_continues_exactly(tmp_path, make_model, data, callbacks, stop_after):
    whole = train(make_model, data, callbacks=callbacks())
    train(make_model, data, tmp_path, stop_after, callbacks(), every_steps=4)
    assert_equal(train(make_model, data, tmp_path, callbacks=callbacks()), whole)


@pytest.mark.slow
def test_a_checkpoint_after_the_last_batch_of_an_epoch(tmp_path):
    class InValidation(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            raise Stopped

    def data():
        return {"x": shuffled(), "validation_data": shuffled()}

    whole = train(plain, data)
    train(plain, data, tmp_path, callbacks=[InValidation()], every_steps=5)
    assert_equal(train(plain, data, tmp_path), whole)


@pytest.mark.slow
def test_the_best_weights_of_a_training_that_has_ended(tmp_path):
    def fit(folder=None):
        stopping = keras.callbacks.EarlyStopping(
            "loss", patience=1, min_delta=10, restore_best_weights=True
        )
        return train(plain, plain_data, folder, callbacks=[stopping])[2].get_weights()

    expected = fit()
    for _ in range(2):
        for a, b in zip(fit(tmp_path), expected, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_failed_write_keeps_the_checkpoint_of_the_same_number(tmp_path, monkeypatch):
    real = np.savez

    def full(path, **arrays):
        if len(list(tmp_path.glob("checkpoint-*"))):
            raise OSError(28, "No space left on device")
        real(path, **arrays)

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(UserWarning, match="could not be written"):
        train(plain, plain_data, tmp_path, epochs=1, every_steps=10, keep=1)
    assert [path.name for path in tmp_path.glob("*check*")] == ["checkpoint-00000010"]
    monkeypatch.undo()
    assert_equal(train(plain, plain_data, tmp_path), train(plain, plain_data))


@pytest.mark.slow
def test_the_best_is_not_needed_in_every_epoch(tmp_path):
    def data():
        return {"x": shuffled(), "validation_data": shuffled(), "validation_freq": 2}

    train(plain, data, tmp_path, epochs=4, keep_best="val_loss", keep=1)
    assert len(list(tmp_path.glob("checkpoint-*"))) in (1, 2)


def test_damaged_checkpoints_are_set_aside(interrupted):
    (interrupted / "checkpoint-00000012" / "arrays.npz").unlink()
    checkpoint = gk.callbacks.Checkpoint(interrupted, every_steps=1, keep=1)
    with pytest.warns(UserWarning, match="damaged"):
        language_model().fit(shuffled(), epochs=2, verbose=0, callbacks=[checkpoint])
    assert sorted(path.name for path in interrupted.glob("*check*")) == [
        "checkpoint-00000020",
        "damaged-checkpoint-00000012",
    ]
