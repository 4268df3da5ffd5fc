"""Every source of batches: the same loss, the same checks."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk

IDS = np.random.default_rng(0).integers(0, 29, (4, 5)).astype("int32")
X, Y = IDS[:, :-1], IDS[:, 1:]  # as many rows as tokens: weights of rows could pass for weights
ROWS = np.array([1.0, 0.0, 2.0, 0.5], "float32")
TOKENS = np.random.default_rng(1).random(X.shape).astype("float32")
CLASSES = {int(token): 0.1 * token + 0.1 for token in range(25)}  # the others count 1


@pytest.fixture(scope="module")
def model():
    model = spread_weights(gk.CausalLM(gk.GPT(tiny_config(num_layers=1))))
    model.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    return model


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.parts


def unknown(*parts):
    """A dataset that knows nothing of its batches but their dtypes."""
    spec = tuple(tf.TensorSpec(None, part.dtype) for part in parts)
    return tf.data.Dataset.from_generator(lambda: iter([parts] * 2), output_signature=spec)


SOURCES = {
    "generator": lambda *parts: (parts for _ in range(2)),
    "PyDataset": Batches,
    "dataset": lambda *parts: tf.data.Dataset.from_tensors(parts),
    "unknown dataset": unknown,
}


def losses_of(model):
    logits = np.array(model(X), np.float64)
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -np.take_along_axis(log_probabilities, Y[..., None], -1)[..., 0]


@pytest.mark.parametrize(
    ("weights", "class_weight"), [(None, None), (ROWS, None), (TOKENS, None), (None, CLASSES)]
)
@pytest.mark.filterwarnings("ignore:Your input ran out")
def test_the_loss_is_the_weighted_mean_over_tokens_whatever_the_source(
    model, weights, class_weight
):
    losses = losses_of(model)
    expected_weights = np.ones_like(losses)
    if class_weight is not None:
        expected_weights = np.vectorize(lambda token: CLASSES.get(token, 1.0))(Y)
    elif weights is not None:
        expected_weights = weights.reshape(4, -1) * np.ones_like(losses)
    expected = (losses * expected_weights).sum() / expected_weights.sum()
    perplexity = pytest.approx(np.exp(expected), rel=1e-4)
    expected = pytest.approx(expected, rel=1e-4)

    parts = (X, Y) if weights is None else (X, Y, weights)
    for name, make in SOURCES.items():
        history = model.fit(make(*parts), class_weight=class_weight, verbose=0).history
        assert history["loss"][0] == expected, name
        assert history["perplexity"][0] == perplexity, name
        if class_weight is None:
            assert model.evaluate(make(*parts), verbose=0)[0] == expected, name
    arrays = {"sample_weight": weights, "class_weight": class_weight}
    assert model.fit(X, Y, **arrays, verbose=0).history["loss"][0] == expected
    assert model.train_on_batch(X, Y, **arrays)[0] == expected
    if class_weight is None:
        assert model.test_on_batch(X, Y, sample_weight=weights)[0] == expected


@pytest.mark.parametrize("loss", ["keras", "mine"])
def test_weights_of_rows_count_in_other_losses_too(loss):
    model = spread_weights(gk.CausalLM(gk.GPT(tiny_config(num_layers=1))))
    expected = losses_of(model)
    if loss == "keras":
        function = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    else:

        def function(y_true, y_pred):
            return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)

    model.compile(keras.optimizers.SGD(0.0), loss=function, jit_compile=False)
    loss = model.test_on_batch(X, Y, sample_weight=ROWS)[0]
    # Keras's mean divides by the number of tokens.
    assert loss == pytest.approx((expected * ROWS[:, None]).mean(), rel=1e-4)


@pytest.mark.filterwarnings("ignore:Your input ran out")
def test_ids_without_targets_are_shifted(model):
    expected = pytest.approx(losses_of(model).mean(), rel=1e-4)
    assert model.fit(IDS, verbose=0, validation_data=IDS).history["val_loss"][0] == expected
    assert model.evaluate(IDS.tolist(), verbose=0)[0] == expected
    assert model.train_on_batch(IDS)[0] == expected
    for name, make in SOURCES.items():
        source = make(IDS) if name != "unknown dataset" else unknown(IDS).map(lambda ids: ids)
        assert model.evaluate(source, verbose=0)[0] == expected, name
    weights = np.concatenate([np.full((4, 1), 9, "float32"), TOKENS], axis=1)
    weighted = (losses_of(model) * TOKENS).sum() / TOKENS.sum()
    # The first id of a row is no target, and its weight counts nowhere.
    assert model.evaluate(IDS, sample_weight=weights, verbose=0)[0] == pytest.approx(weighted, 1e-4)
    long = np.zeros((1, 49), int)
    assert np.isfinite(model.evaluate(long, verbose=0)[0])  # 48 positions
    with pytest.raises(ValueError, match="Sequences of 49 tokens"):
        model.evaluate(np.zeros((1, 50), int), verbose=0)


NAN = np.array([1, 1, np.nan, 1], "float32")
BAD = {
    "Token ids must be in \\[0, 32\\).* got ids from 0 to 32": (np.where(X[1, 1] == X, 32, 0), Y),
    "Token ids must be in \\[0, 32\\).* got ids from -1 to -1": (X, np.full_like(Y, -1)),
    "Sequences of 49 tokens are longer": (np.zeros((2, 49), int), np.zeros((2, 49), int)),
    r"must be finite numbers of the shape \(4,\) or \(4, 4\); got": (X, Y, ROWS[:3]),
    r"must be finite numbers of the shape .*; got": (X, Y, NAN),
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_batch_is_refused_whatever_the_source(model, message):
    for make in SOURCES.values():
        with pytest.raises(ValueError, match=rf"^{message}.*|^`sample_weight`.*{message}"):
            model.evaluate(make(*BAD[message]), verbose=0)
    for on_batch in (model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match=message):
            on_batch(*BAD[message])


def test_fit_checks_the_batches_of_training_and_of_validation(model):
    message, parts = next(iter(BAD.items()))
    for make in SOURCES.values():
        with pytest.raises(ValueError, match=rf"^{message}"):
            model.fit(make(*parts), verbose=0)
        with pytest.raises(ValueError, match=rf"^{message}"):
            model.fit(X, Y, validation_data=make(*parts), verbose=0)


def test_a_later_batch_of_a_generator_is_refused_under_xla():
    model = gk.CausalLM(gk.GPT(tiny_config(num_layers=1)))
    model.compile()
    batches = [(X, Y)] * 3 + [(X, np.where(Y[2, 2] == Y, 700, Y))]
    with pytest.raises(ValueError, match=r"^Token ids must be in \[0, 32\).* to 700\.$"):
        model.fit(iter(batches), verbose=0)
    assert int(model.optimizer.iterations) == 3


def test_nothing_is_taken_from_a_source_before_training(model):
    batches = iter([(X, Y)] * 3)
    spec = (tf.TensorSpec((None, None), "int32"),) * 2
    data = tf.data.Dataset.from_generator(lambda: batches, output_signature=spec)
    data = data.apply(tf.data.experimental.assert_cardinality(3))
    seen = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(batch)
    )
    model.fit(data, verbose=0, callbacks=[count])
    assert len(seen) == 3


@pytest.mark.filterwarnings("ignore:Your input ran out")
def test_a_generator_validates(model):
    expected = pytest.approx([losses_of(model).mean()], rel=1e-4)
    for batches in ([(X, Y)], [(X, Y)] * 3):
        assert (
            model.fit(X, Y, validation_data=iter(batches), verbose=0).history["val_loss"]
            == expected
        )


INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.fixture(scope="module")
def large_vocabulary():
    """A model whose number of ids overflows 8 and 16 bits."""
    config = tiny_config(num_layers=1, vocabulary_size=70000, hidden_dim=4)
    model = spread_weights(gk.CausalLM(gk.GPT(config)))
    model.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    return model


@pytest.mark.filterwarnings("ignore:Your input ran out")
@pytest.mark.parametrize("dtype", ["int8", "uint16", "uint64"])
def test_integers_of_any_width_train_on_every_path(large_vocabulary, dtype):
    model, x, y = large_vocabulary, X.astype(dtype), Y.astype(dtype)
    expected = pytest.approx(losses_of(model).mean(), rel=1e-4)
    assert model.evaluate(x, y, verbose=0)[0] == expected
    for name, make in SOURCES.items():
        assert model.evaluate(make(x, y), verbose=0)[0] == expected, name
    logits = model.predict(X, verbose=0)
    np.testing.assert_array_equal(model.predict(x, verbose=0), logits)
    np.testing.assert_array_equal(model.predict(SOURCES["dataset"](x), verbose=0), logits)
    np.testing.assert_array_equal(model.predict_on_batch(x), logits)
    np.testing.assert_allclose(model(x), logits, atol=1e-4)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_every_integer_type_is_a_prompt(large_vocabulary, dtype):
    settings = {"max_new_tokens": 2, "temperature": 0}
    expected = large_vocabulary.generate(X[0].tolist(), **settings)
    assert large_vocabulary.generate(X[0].astype(dtype), **settings) == expected


@pytest.mark.slow
def test_xla_trains_on_small_integers():
    model = spread_weights(gk.CausalLM(gk.GPT(tiny_config(num_layers=1))))
    expected = pytest.approx(losses_of(model).mean(), rel=1e-4)
    model.compile(keras.optimizers.SGD(0.0))
    for dtype in ("uint8", "uint64"):
        assert model.train_on_batch(X.astype(dtype), Y.astype(dtype))[0] == expected


@pytest.mark.parametrize("kind", ["classifier", "choice"])
@pytest.mark.filterwarnings("ignore:Your input ran out")
def test_batches_of_a_task_are_checked_whatever_the_source(kind):
    backbone = gk.GPT(tiny_config(num_layers=1))
    if kind == "classifier":
        model, x = gk.GPTClassifier(backbone, 3, dropout=0, special_ids=(29, 30, 31)), X
    else:
        model, x = (
            gk.GPTMultipleChoice(backbone, dropout=0, special_ids=(29, 30, 31)),
            IDS[:, :3, None],
        )
    model.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    y = np.array([0, 2, 1, 2])
    expected = pytest.approx(model.evaluate(x, y, sample_weight=ROWS, verbose=0)[0], rel=1e-4)
    bad = {"Token ids must be in.* to 99": (np.full_like(x, 99), y), "0 to 2; got": (x, y + 1)}
    for name, make in SOURCES.items():
        if name == "unknown dataset":  # the number of choices must be known
            continue
        assert model.evaluate(make(x, y, ROWS), verbose=0)[0] == expected, name
        for message, parts in bad.items():
            with pytest.raises(ValueError, match=message):
                model.fit(make(*parts), verbose=0)
    assert model.test_on_batch(x, y, sample_weight=ROWS)[0] == expected
    assert model.train_on_batch(x, y, sample_weight=ROWS)[0] == expected
