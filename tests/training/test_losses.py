import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gpt_keras as gk
from gpt_keras.training.losses import cross_entropy


def formula(targets, logits):
    """Losses and the gradient of their sum, in float64."""
    logits = np.asarray(logits, "float64")
    shifted = logits - logits.max(axis=-1, keepdims=True)
    softmax = np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True)
    one_hot = np.eye(logits.shape[-1])[targets]
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return -(one_hot * log_softmax).sum(axis=-1), softmax - one_hot


@settings(deadline=None, max_examples=30)
@given(
    shape=st.lists(st.integers(1, 4), min_size=0, max_size=3),
    vocabulary_size=st.integers(1, 9),
    scale=st.sampled_from([0.0, 1.0, 50.0, 1e4]),
    seed=st.integers(0, 99),
)
@example(shape=[2, 3], vocabulary_size=2, scale=50.0, seed=64)
def test_loss_and_gradient_are_those_of_the_formula(shape, vocabulary_size, scale, seed):
    rng = np.random.default_rng(seed)
    targets = rng.integers(vocabulary_size, size=shape)
    logits = (scale * rng.normal(size=(*shape, vocabulary_size))).astype("float32")
    upstream = rng.normal(size=shape).astype("float32")
    losses, gradient = formula(targets, logits)
    with tf.GradientTape() as tape:
        x = tf.constant(logits)
        tape.watch(x)
        got = cross_entropy(targets, x)
        total = tf.reduce_sum(got * upstream)
    np.testing.assert_allclose(got, losses, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        tape.gradient(total, x), gradient * upstream[..., None], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_compiled_gradient_is_the_same(jit_compile):
    rng = np.random.default_rng(0)
    targets, logits = rng.integers(11, size=(2, 5)), rng.normal(size=(2, 5, 11)).astype("float32")

    @tf.function(jit_compile=jit_compile)
    def gradient(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = tf.reduce_sum(cross_entropy(targets, logits))
        return tape.gradient(loss, logits)

    np.testing.assert_allclose(
        gradient(tf.constant(logits)), formula(targets, logits)[1], atol=1e-6
    )


@pytest.mark.parametrize("sample_weight", [None, [[1, 0, 0.5], [1, 1, 0]]])
def test_the_loss_is_that_of_keras(sample_weight):
    rng = np.random.default_rng(0)
    targets, logits = rng.integers(7, size=(2, 3)), rng.normal(size=(2, 3, 7)).astype("float32")
    keras_loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    weights = None if sample_weight is None else np.array(sample_weight)
    expected = keras_loss(targets, logits, sample_weight=weights)
    got = gk.training.CrossEntropy()(targets, logits, sample_weight=weights)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 5])  # 3: as many rows as tokens
def test_the_weight_of_a_row_is_that_of_each_of_its_tokens(batch):
    rng = np.random.default_rng(0)
    targets, logits = rng.integers(7, size=(batch, 3)), rng.normal(size=(batch, 3, 7))
    rows = rng.random(batch)
    losses, _ = formula(targets, logits)
    weights = np.broadcast_to(rows[:, None], losses.shape)
    expected = (losses * weights).sum() / weights.sum()
    loss, metric = gk.training.CrossEntropy(), gk.training.Perplexity()
    for form in (rows, rows[:, None], weights, tf.constant(rows)):
        np.testing.assert_allclose(loss(targets, logits, sample_weight=form), expected, rtol=1e-5)
        metric.update_state(targets, logits, sample_weight=form)
        np.testing.assert_allclose(metric.result(), np.exp(expected), rtol=1e-5)
    unweighted = loss(targets, logits, sample_weight=np.ones(batch))
    np.testing.assert_allclose(unweighted, losses.mean(), rtol=1e-5)


@pytest.mark.parametrize("reduction", ["mean_with_sample_weight", "sum_over_batch_size", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_targets_of_the_ignored_class_are_left_out_as_in_keras(reduction, weighted):
    rng = np.random.default_rng(0)
    targets, logits = rng.integers(7, size=(4, 3)), rng.normal(size=(4, 3, 7)).astype("float32")
    targets[1:3, 1:] = -100
    weights = rng.random((4, 3)).astype("float32") if weighted else None
    settings = {"reduction": reduction, "ignore_class": -100}
    ours = gk.training.CrossEntropy(**settings)
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True, **settings)
    with tf.GradientTape() as tape:
        x = tf.constant(logits)
        tape.watch(x)
        loss = ours(targets, x, sample_weight=weights)
    np.testing.assert_allclose(loss, theirs(targets, logits, sample_weight=weights), rtol=1e-5)
    gradient = np.array(tape.gradient(loss, x))
    assert np.isfinite(gradient).all()
    assert (gradient.any(-1) == (targets != -100)).all()
    copy = keras.losses.deserialize(keras.losses.serialize(ours))
    assert copy.ignore_class == -100


def test_a_token_of_weight_0_may_have_any_target():
    logits = np.zeros((1, 2, 5), "float32")
    settings = {"sample_weight": np.array([[1.0, 0.0]])}
    assert float(gk.training.CrossEntropy()([[3, -100]], logits, **settings)) == pytest.approx(
        np.log(5)
    )
    metric = gk.training.Perplexity()
    metric.update_state([[3, -100]], logits, **settings)
    assert float(metric.result()) == pytest.approx(5)


def test_the_mask_of_an_embedding_leaves_out_tokens():
    ids = np.array([[3, 1, 4, 0, 0], [2, 0, 0, 0, 0]])
    token_ids = keras.Input((None,), dtype="int32")
    embedding = keras.layers.Embedding(6, 4, mask_zero=True)(token_ids)
    model = gk.CausalLM(keras.Model(token_ids, keras.layers.Dense(6)(embedding)))
    model.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    targets = np.random.default_rng(0).integers(6, size=ids.shape)
    losses, _ = formula(targets, model(ids))
    loss, perplexity, accuracy = model.evaluate(ids, targets, verbose=0)
    mean = losses[ids != 0].mean()
    is_right = np.argmax(model(ids), -1) == targets
    assert [loss, perplexity] == pytest.approx([mean, np.exp(mean)], rel=1e-4)
    assert accuracy == pytest.approx(is_right[ids != 0].mean())
    rows = np.array([1.0, 3.0])
    weighted = (losses * rows[:, None])[ids != 0].sum() / 6
    assert model.evaluate(ids, targets, sample_weight=rows, verbose=0)[0] == pytest.approx(
        weighted, rel=1e-4
    )


def test_large_ids_keep_all_their_digits():
    # Keras casts targets to the dtype of the loss: 257 is 256 in bfloat16.
    loss = gk.training.CrossEntropy(dtype="bfloat16")
    logits = np.zeros((1, 1, 300), "float32")
    logits[..., 257] = 9
    assert float(loss(np.array([[257]]), logits)) < 0.1


def test_a_target_that_is_no_id_makes_the_loss_infinite():
    assert np.isposinf(cross_entropy(np.array([7, -1]), np.zeros((2, 7), "float32"))).all()


def test_targets_of_another_rank_are_an_error():
    with pytest.raises(ValueError, match=r"targets.*\(2, 3, 1\).*\(2, 3, 7\)"):
        cross_entropy(np.zeros((2, 3, 1), int), np.zeros((2, 3, 7), "float32"))


def test_it_is_saved_with_its_reduction():
    loss = gk.training.CrossEntropy(reduction="sum", name="mine")
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    assert (copy.reduction, copy.name) == ("sum", "mine")
    targets, logits = np.array([[0, 1]]), np.zeros((1, 2, 4), "float32")
    np.testing.assert_allclose(copy(targets, logits), 2 * np.log(4), rtol=1e-6)
