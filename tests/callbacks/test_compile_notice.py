import re

import pytest
import tensorflow as tf
from tiny_models import tiny_config

import gpt_keras as gk


@pytest.mark.parametrize("jit_compile", [True, False])
def test_each_step_is_announced_once_in_a_training(jit_compile):
    model = gk.GPTCausalLM(tiny_config(num_layers=1))
    model.compile("sgd", weighted_metrics=[], jit_compile=jit_compile)
    rows = tf.ones((4, 8), "int32")
    data = tf.data.Dataset.from_tensors((rows, rows)).repeat(2)
    lines = []
    model.fit(
        data,
        validation_data=data,
        epochs=2,
        verbose=0,
        callbacks=[gk.callbacks.CompileNotice(lines.append)],
    )
    expected = [
        "Compiling the training step with XLA ...",
        "Compiled the training step in N s.",
        "Compiling the validation step with XLA ...",
        "Compiled the validation step in N s.",
    ]
    assert [re.sub(r"\d+", "N", line) for line in lines] == (expected if jit_compile else [])
