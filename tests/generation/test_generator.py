import numpy as np
import pytest
import tensorflow as tf

import gpt_keras as gk
from gpt_keras.generation.generator import Generator
from gpt_keras.generation.lengths import bucket_length
from gpt_keras.generation.processors import read_settings
from gpt_keras.generation.runner import Runner
from gpt_keras.generation.state import Request
from gpt_keras.generation.stopping import Rules


def test_buckets_hold_the_length_and_little_more():
    buckets = tf.function(lambda lengths: tf.map_fn(bucket_length, lengths))(tf.range(3000))
    buckets = buckets.numpy().tolist()
    assert sorted(set(buckets)) == [
        32,
        48,
        64,
        96,
        128,
        192,
        256,
        384,
        512,
        768,
        1024,
        1536,
        2048,
        3072,
    ]
    for length, bucket in enumerate(buckets):
        assert bucket >= length
        if length > 32:
            assert bucket < 1.5 * length


def test_write_cache_equals_numpy():
    generator = np.random.default_rng(0)
    cache = [tuple(generator.normal(size=(2, 3, 9, 4)).astype("float32") for _ in range(2))]
    update = [tuple(generator.normal(size=(2, 3, 2, 4)).astype("float32") for _ in range(2))]
    written = gk.layers.write_cache(
        [tuple(tf.constant(part) for part in pair) for pair in cache], update, 5
    )
    for part in range(2):
        expected = cache[0][part].copy()
        expected[:, :, 5:7] = update[0][part]
        np.testing.assert_array_equal(written[0][part], expected)


class Counter(tf.Module):
    """A recurrent backbone: its cache is a state, its update the next state.

    The next token is one more than the sum of all tokens so far, modulo 10.
    """

    def initial_cache(self, batch_size, length):
        return tf.zeros((batch_size,), tf.int32)

    def extend(self, token_ids, cache, index, starts):
        columns = index + tf.range(tf.shape(token_ids)[1])
        valid = tf.cast(columns[None] >= starts[:, None], tf.int32)
        sums = cache[:, None] + tf.cumsum(token_ids * valid, axis=1)
        return tf.one_hot((sums + 1) % 10, 10), sums[:, -1]

    def write(self, cache, update, index):
        return update


@pytest.mark.parametrize("jit_compile", [True, False])
def test_the_protocol_fits_a_recurrent_backbone(jit_compile):
    request = Request(
        token_ids=tf.constant([[1, 2, 3], [5, 0, 0]]),
        lengths=tf.constant([3, 1]),
        limits=tf.constant([4, 6]),
        seeds=tf.constant([0, 0], tf.int64),
        cache_length=tf.constant(0),
    )
    runner = Runner(Counter(), jit_compile=jit_compile)
    rules = Rules([], token_bytes=None)
    generator = Generator(runner, gk.generation.Sampling(), rules)
    settings = read_settings({"temperature": 0}, None, 10)
    settings |= {"stop": tf.constant([], tf.string), "deadline": tf.constant(np.inf, tf.float64)}
    first = generator.start(request)
    state = generator.advance(first, 100, settings)
    # Nothing grows from step to step.
    assert [part.shape for part in tf.nest.flatten(first)] == [
        part.shape for part in tf.nest.flatten(state)
    ]
    found = generator.finish(state)
    for row, (prompt, count) in enumerate([([1, 2, 3], 4), ([5], 6)]):
        for _ in range(count):
            prompt = [*prompt, (sum(prompt) + 1) % 10]
        length = found.lengths[row, 0]
        assert found.token_ids[row, 0, :length].numpy().tolist() == prompt
