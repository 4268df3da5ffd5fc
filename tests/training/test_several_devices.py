"""Training under tf.distribute, in another process, since devices are divided at its start."""

import subprocess
import sys

import pytest

SCRIPT = """
import contextlib

import keras, numpy as np, tensorflow as tf
import gpt_keras as gk

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
rng = np.random.default_rng(0)
x = rng.integers(0, 33, (8, 16))
weights = rng.random((8, 16)) * (rng.random((8, 1)) > 0.5)  # the devices have unequal parts
config = gk.GPTConfig(
    vocabulary_size=33, max_sequence_length=16, num_layers=1, num_heads=2, hidden_dim=8
)


def trained(make, scope, callbacks=(), **settings):
    keras.utils.set_random_seed(0)
    with scope:
        model = gk.GPTCausalLM(config)
        # Only what several devices do needs a trace.
        alone = isinstance(scope, contextlib.nullcontext)
        compilation = {"run_eagerly": True} if alone else {"jit_compile": False}
        model.compile(make(1e-2, warmup_steps=0, **settings), **compilation)
    model.fit(x, x, sample_weight=weights, batch_size=2, shuffle=False, verbose=0,
              callbacks=callbacks)
    return model


for make in (gk.training.adamw, gk.training.muon):
    settings = {"skip_above": 10.0, "gradient_accumulation_steps": 2, "use_ema": True}
    watch = gk.callbacks.LossWatch(print_fn=print)
    one = trained(make, contextlib.nullcontext(), **settings)
    two = trained(make, strategy.scope(), [watch, gk.callbacks.Throughput()], **settings)
    assert int(two.optimizer.iterations.numpy()) == 2
    assert watch.incidents == []
    for a, b in zip(one.trainable_variables, two.trainable_variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-5, err_msg=a.path)
    norms = [float(m.optimizer.gradient_norm.numpy()) for m in (one, two)]
    np.testing.assert_allclose(*norms, rtol=1e-4)

with strategy.scope():
    model = gk.GPTCausalLM(config)
    model.compile()
    assert not model.jit_compile
    for name, value in (("jit_compile", True), ("steps_per_execution", 2)):
        try:
            model.compile(**{name: value})
        except ValueError as error:
            assert f"`{name}` must be" in str(error), error
        else:
            raise AssertionError(name)
"""


@pytest.mark.slow
def test_a_batch_on_two_devices_trains_as_on_one():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
