import keras
import numpy as np
import pytest

import gpt_keras as gk


def test_every_token_counts_the_same_whatever_its_batch():
    generator = np.random.default_rng(0)
    metric, total, count = gk.training.Perplexity(), 0.0, 0.0
    for batch, length in ((1, 9), (4, 5)):
        targets = generator.integers(0, 7, (batch, length))
        logits = generator.normal(size=(batch, length, 7)).astype("float32")
        weights = generator.integers(0, 2, (batch, length)).astype("float32")
        metric.update_state(targets, logits, sample_weight=weights)
        probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        chosen = np.take_along_axis(probabilities, targets[..., None], -1)[..., 0]
        total += -(np.log(chosen) * weights).sum()
        count += weights.sum()
    assert float(metric.result()) == pytest.approx(np.exp(total / count), rel=1e-5)
    metric.reset_state()
    assert float(metric.result()) == 1.0


def test_a_row_may_have_one_weight():
    targets = np.array([[0, 1, 1], [1, 1, 0]])
    logits = np.random.default_rng(0).normal(size=(2, 3, 2)).astype("float32")
    metric, first = gk.training.Perplexity(), gk.training.Perplexity()
    metric.update_state(targets, logits, sample_weight=np.array([1.0, 0.0]))
    first.update_state(targets[:1], logits[:1])
    assert float(metric.result()) == pytest.approx(float(first.result()))
    assert float(metric.count) == 3


def test_perplexity_round_trip():
    metric = gk.training.Perplexity(name="ppl")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert copy.name == "ppl"
    assert copy.get_config() == metric.get_config()
