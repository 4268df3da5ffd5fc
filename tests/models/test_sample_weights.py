import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk

ROWS = [1.0, 0.0, 2.0, 0.5]
TOKEN_IDS = np.random.default_rng(0).integers(0, 29, (4, 9)).astype("int32")
SPECIAL_IDS = (29, 30, 31)


def small():
    return gk.GPT(tiny_config(num_layers=1))


def case(kind, run_eagerly=True):
    """A model, what it is given, and the loss of each row (and token) by NumPy."""
    if kind == "causal":
        model = gk.CausalLM(small())
        x, y = TOKEN_IDS[:, :-1], TOKEN_IDS[:, 1:]
    elif kind == "classifier":
        model = gk.GPTClassifier(small(), 3, special_ids=SPECIAL_IDS)
        x, y = TOKEN_IDS, np.array([0, 2, 1, 2])
    else:
        model = gk.GPTMultipleChoice(small(), special_ids=SPECIAL_IDS)
        x, y = TOKEN_IDS.reshape(4, 3, 3), np.array([0, 2, 1, 2])
    spread_weights(model)
    model.compile(optimizer=keras.optimizers.SGD(0.0), run_eagerly=run_eagerly, jit_compile=False)
    logits = np.array(model(x), np.float64)
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return model, x, y, -np.take_along_axis(log_probabilities, y[..., None], -1)[..., 0]


def weighted_mean(kind, losses):
    weights = np.array(ROWS)
    if kind == "causal":  # the mean over the tokens, each with the weight of its row
        return (losses * weights[:, None]).sum() / weights.sum() / losses.shape[1]
    return (losses * weights).mean()  # as Keras has it


FORMS = {
    "array": np.array(ROWS),
    "list": ROWS,
    "column": np.array(ROWS)[:, None],
    "tensor": tf.constant(ROWS),
}


@pytest.mark.parametrize("kind", ["causal", "classifier", "choice"])
def test_the_weights_of_rows_in_every_form(kind):
    model, x, y, losses = case(kind)
    expected = weighted_mean(kind, losses)
    for name, weights in FORMS.items():
        loss = model.evaluate(x, y, sample_weight=weights, verbose=0)[0]
        assert loss == pytest.approx(expected, rel=1e-4), name
    for data in ((x, y, ROWS), [x, y, np.array(ROWS)]):
        history = model.fit(x, y, sample_weight=ROWS, validation_data=data, verbose=0).history
        assert history["val_loss"] == pytest.approx([expected], rel=1e-4)
        assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("kind", ["causal", "classifier", "choice"])
def test_the_weights_of_rows_in_a_dataset(kind):
    model, x, y, losses = case(kind)
    data = tf.data.Dataset.from_tensor_slices((x, y, ROWS)).batch(4)
    expected = weighted_mean(kind, losses)
    assert model.evaluate(data, verbose=0)[0] == pytest.approx(expected, rel=1e-4)
    history = model.fit(data, validation_data=data, verbose=0).history
    assert history["val_loss"] == pytest.approx([expected], rel=1e-4)
    # A dataset of which nothing is known in advance.
    spec = [tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in (x, y)]
    batches = tf.data.Dataset.from_generator(
        lambda: iter([(x, y, ROWS)]), output_signature=(*spec, tf.TensorSpec((None,), "float32"))
    )
    assert model.evaluate(batches, verbose=0)[0] == pytest.approx(expected, rel=1e-4)


def test_the_weights_of_tokens():
    model, x, y, losses = case("causal", run_eagerly=False)
    weights = np.random.default_rng(1).random(x.shape)
    expected = (losses * weights).sum() / weights.sum()
    for form in (weights, weights.tolist()):
        assert model.evaluate(x, y, sample_weight=form, verbose=0)[0] == pytest.approx(
            expected, rel=1e-4
        )
    # TensorFlow traces one function for both, whose weights must not differ in rank.
    rows = model.evaluate(x, y, sample_weight=ROWS, verbose=0)[0]
    assert rows == pytest.approx(weighted_mean("causal", losses), rel=1e-4)
    data = tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(4)
    assert model.evaluate(data, verbose=0)[0] == pytest.approx(expected, rel=1e-4)


def test_a_token_counts_the_same_in_every_batch():
    model, x, y, losses = case("causal", run_eagerly=False)
    weights = np.random.default_rng(1).random(x.shape) * [[1], [0.1], [0], [3]]
    expected = pytest.approx((losses * weights).sum() / weights.sum(), rel=1e-4)
    settings = {"sample_weight": weights, "batch_size": 3, "verbose": 0}
    assert model.evaluate(x, y, **settings)[0] == expected
    history = model.fit(x, y, validation_data=(x, y, weights), **settings).history
    assert history["loss"][0] == expected
    assert history["val_loss"][0] == expected


@pytest.mark.parametrize("kind", ["causal", "classifier", "choice"])
@pytest.mark.parametrize(
    "weights",
    [ROWS[:3], np.ones((4, 3, 1)), np.ones((4, 5)), "abc", ["a"] * 4, [1, 1, 1, np.nan], 1.0],
)
def test_weights_that_are_refused(kind, weights):
    model, x, y, _ = case(kind)
    with pytest.raises(ValueError, match=r"`sample_weight`.* shape \(4,\)"):
        model.fit(x, y, sample_weight=weights, verbose=0)
    with pytest.raises(ValueError, match=r"third part of `validation_data`.* shape \(4,\)"):
        model.fit(x, y, validation_data=(x, y, weights), verbose=0)
    assert int(model.optimizer.iterations) == 0


def test_texts_and_datasets_hold_their_own_weights(character_tokenizer):
    model = gk.CausalLM(small(), tokenizer=character_tokenizer)
    model.compile(jit_compile=False)
    dataset = tf.data.Dataset.from_tensors((TOKEN_IDS, TOKEN_IDS))
    for x in (["a", "b"], dataset):
        with pytest.raises(ValueError, match="`sample_weight` must be None where `x` is texts or"):
            model.fit(x, sample_weight=[1, 2], verbose=0)
    wrong = tf.data.Dataset.from_tensors((TOKEN_IDS, TOKEN_IDS, ROWS[:3]))
    with pytest.raises(ValueError, match=r"dataset's batches.* shape \(4,\) or \(4, 9\)"):
        model.fit(wrong, verbose=0)


def test_examples_of_text_have_weights(character_tokenizer):
    backbone = gk.GPT(tiny_config(vocabulary_size=35, num_layers=1))
    model = spread_weights(gk.GPTClassifier(backbone, 2, tokenizer=character_tokenizer))
    model.compile(jit_compile=False)
    texts, labels = ["a", "bcd"], [0, 1]
    losses = [model.evaluate([t], [y], verbose=0)[0] for t, y in zip(texts, labels, strict=True)]
    weighted = model.evaluate(texts, labels, sample_weight=[3, 1], verbose=0)[0]
    assert weighted == pytest.approx((3 * losses[0] + losses[1]) / 2, rel=1e-4)


def test_the_weights_in_a_dataset_of_labels_are_checked():
    model, x, y, _ = case("classifier")
    for weights in (ROWS[:3], [1.0, np.nan, 1.0, 1.0], [[1.0, 1.0]] * 4):
        data = tf.data.Dataset.from_tensors((x, y, weights))
        with pytest.raises(ValueError, match=r"dataset's batches, must be finite numbers.* \(4,\)"):
            model.evaluate(data, verbose=0)
    column = tf.data.Dataset.from_tensors((x, y, np.array(ROWS)[:, None]))
    rows = tf.data.Dataset.from_tensors((x, y, ROWS))
    assert model.evaluate(column, verbose=0) == model.evaluate(rows, verbose=0)
