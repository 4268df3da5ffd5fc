import random

import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk


def trained(rematerialize, run_eagerly=False, **changes):
    """Losses of three steps and the weights after them."""
    random.seed(0)
    model = spread_weights(gk.GPTCausalLM(tiny_config(**changes)))
    model.backbone.rematerialize = rematerialize
    model.compile("sgd", weighted_metrics=[], run_eagerly=run_eagerly)
    rng = np.random.default_rng(0)
    rows = rng.integers(32, size=(3, 4, 13))
    losses = [float(model.train_on_batch(row[:, :-1], row[:, 1:])) for row in rows]
    return losses, [np.array(v) for v in model.variables]


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_training_with_dropout_is_the_same(run_eagerly):
    # The same masks are drawn, the second time in a step and from step to step.
    plain, plain_weights = trained(False, run_eagerly, dropout=0.3)
    losses, weights = trained(True, run_eagerly, dropout=0.3)
    np.testing.assert_allclose(losses, plain, rtol=1e-5)
    for expected, got in zip(plain_weights, weights, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_losses_of_routers_are_kept():
    experts = dict(num_experts=3, num_experts_per_token=2, router_loss_weight=0.5)
    plain, plain_weights = trained(False, run_eagerly=True, **experts)
    losses, weights = trained(True, **experts)
    np.testing.assert_allclose(losses, plain, rtol=1e-5)
    for expected, got in zip(plain_weights, weights, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_a_block_of_ones_own_model():
    block = gk.layers.TransformerBlock(2, dropout=0.2)
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
    block(x)
    seeds = [v for v in block.variables if "seed" in v.path]
    before = [np.array(v) for v in seeds]
    gradients = []
    for rematerialize in (False, True):
        for seed, value in zip(seeds, before):
            seed.assign(value)
        block.rematerialize = rematerialize
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(block(x, training=True) ** 2)
        gradients.append(tape.gradient(loss, [v.value for v in block.trainable_variables]))
        after = [np.array(v) for v in seeds]
        assert any((a != b).any() for a, b in zip(after, before))
    for expected, got in zip(*gradients, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_nothing_is_computed_twice_but_in_training():
    model = gk.GPT(tiny_config(dropout=0.3))
    ids = np.array([[1, 2, 3]])
    expected = model(ids)
    assert not model.rematerialize
    model.rematerialize = True
    assert model.rematerialize
    np.testing.assert_array_equal(model(ids), expected)
    np.testing.assert_allclose(model.predict(ids, verbose=0), expected, rtol=1e-4, atol=1e-6)
