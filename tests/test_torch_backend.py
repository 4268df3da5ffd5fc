"""Layers, models and training on PyTorch: in another process, since Keras has one backend."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk

SCRIPT = """
import sys
import keras, numpy as np, gpt_keras as gk

path, x = sys.argv[1], np.load(sys.argv[1] + ".npy")
model = keras.saving.load_model(path)
logits = keras.ops.convert_to_numpy(model(x[:, :-1]))
model.compile(gk.training.adamw(1e-2, warmup_steps=0, gradient_accumulation_steps=2))
weights = np.arange(1, 5)
loss = model.fit(x, sample_weight=weights, batch_size=2, shuffle=False, verbose=0).history["loss"]
model.save(path)
for verb in (model.generate, model.score):
    try:
        verb([1, 2])
    except ValueError as error:
        assert "needs the TensorFlow backend" in str(error), error
    else:
        raise AssertionError(verb)
backbone = gk.LSTMBackbone(33, num_layers=1, hidden_dim=8)
model = gk.GPTClassifier(backbone, 2, special_ids=(30, 31, 32), language_modeling_weight=0.5)
model.compile()
assert np.isfinite(model.fit(x, np.array([0, 1, 0, 1]), verbose=0).history["loss"]).all()
np.savez(path + ".npz", logits=logits, loss=loss)
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_a_model_trains_on_pytorch_as_on_tensorflow(tmp_path):
    model = spread_weights(gk.GPTCausalLM(tiny_config(num_layers=1)))
    x = np.random.default_rng(0).integers(0, 32, (4, 9)).astype("int32")
    path = str(tmp_path / "model.keras")
    model.save(path)
    np.save(path + ".npy", x)
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    subprocess.run([sys.executable, "-c", SCRIPT, path], env=environment, check=True)
    results = np.load(path + ".npz")
    np.testing.assert_allclose(results["logits"], model(x[:, :-1]), atol=1e-4)

    model.compile(gk.training.adamw(1e-2, warmup_steps=0, gradient_accumulation_steps=2))
    settings = {"sample_weight": np.arange(1, 5), "batch_size": 2, "shuffle": False, "verbose": 0}
    loss = model.fit(x, **settings).history["loss"]
    np.testing.assert_allclose(results["loss"], loss, rtol=1e-4)
    for ours, theirs in zip(model.weights, keras.saving.load_model(path).weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3, err_msg=ours.path)
