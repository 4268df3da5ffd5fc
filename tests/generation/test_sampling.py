import numpy as np
import pytest
import tensorflow as tf

import gpt_keras as gk
from gpt_keras.generation.sampling import row_seeds, sample, uniforms


def test_sampling_follows_the_distribution():
    logits = np.log(np.array([0.5, 0.0, 0.2, 0.3, 0.0], "float32") + 1e-38)
    logits[[1, 4]] = -np.inf
    count = 20_000
    numbers = np.random.default_rng(0).random(count).astype("float32")
    drawn = sample(np.tile(logits, (count, 1)), numbers).numpy()
    shares = np.bincount(drawn, minlength=5) / count
    assert shares[[1, 4]].tolist() == [0, 0]
    np.testing.assert_allclose(shares, [0.5, 0, 0.2, 0.3, 0], atol=4 * np.sqrt(0.25 / count))


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_sampling_at_the_ends_never_takes_what_has_no_chance(uniform):
    logits = np.full((1, 6), -np.inf, "float32")
    logits[0, [2, 4]] = [1.0, 0.5]
    assert sample(logits, np.array([uniform], "float32")).numpy()[0] in (2, 4)


@pytest.mark.parametrize("size", [3, 50257])
def test_sampling_never_leaves_the_vocabulary(size):
    logits = np.random.default_rng(0).normal(size=(4, size)).astype("float32")
    largest = np.full(4, np.nextafter(np.float32(1), np.float32(0)))
    assert (sample(logits, largest).numpy() < size).all()


def test_numbers_of_a_row_are_its_own():
    few = uniforms(tf.constant([5, 9], tf.int64), 3).numpy()
    many = uniforms(tf.constant([9], tf.int64), 500).numpy()
    assert many.shape[1] >= 500
    np.testing.assert_array_equal(few[1, :3], many[0, :3])
    assert ((many >= 0) & (many < 1)).all()
    assert len(set(many[0].tolist())) > 490  # blocks do not repeat each other
    assert many.mean() == pytest.approx(0.5, abs=0.06)


def test_seeds_of_rows_differ_and_do_not_depend_on_the_batch():
    seeds = row_seeds(3, 100).numpy()
    assert len(set(seeds.tolist())) == 100
    assert seeds[17] == int(gk.generation.fold_in(3, 17)) == row_seeds(3, 18).numpy()[17]
    assert not set(seeds.tolist()) & set(row_seeds(4, 100).numpy().tolist())
