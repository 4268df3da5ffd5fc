"""Checks and speed of layers, training and generation on a GPU.

    python scripts/check_gpu.py

Results of the GPU are compared with results of the CPU for the same weights. The last line of
output is the number of failed checks, which is also the exit code. Without a GPU, the script prints
a message and exits with 1. `--device CPU` runs the checks on the CPU, to test the script itself.
"""

import argparse
import sys
import time
from collections.abc import Callable
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

import gpt_keras as gk

SMALL = gk.GPTConfig(
    vocabulary_size=512, max_sequence_length=256, num_layers=4, num_heads=4, hidden_dim=128
)
BATCH, LENGTH = 4, 96
WIDTH = 64

LAYERS: dict[str, Callable[[], keras.layers.Layer]] = {
    "PositionalEmbedding": lambda: gk.layers.PositionalEmbedding(LENGTH),
    "SinusoidalPositionalEncoding": gk.layers.SinusoidalPositionalEncoding,
    "CausalMultiHeadAttention": lambda: gk.layers.CausalMultiHeadAttention(4),
    "  with rotary positions": lambda: gk.layers.CausalMultiHeadAttention(
        4, rotary_embedding=gk.layers.RotaryEmbedding()
    ),
    "  with 2 heads for keys": lambda: gk.layers.CausalMultiHeadAttention(4, 2),
    "  with a window of 8": lambda: gk.layers.CausalMultiHeadAttention(4, window=8),
    "  not causal": lambda: gk.layers.CausalMultiHeadAttention(4, causal=False),
    "FeedForward, gelu_tanh": lambda: gk.layers.FeedForward(128),
    "FeedForward, swiglu": lambda: gk.layers.FeedForward(128, "swiglu"),
    "MixtureOfExperts": lambda: gk.layers.MixtureOfExperts(4, 2, 128),
    "TransformerBlock": lambda: gk.layers.TransformerBlock(4),
    "  with GRU gates": lambda: gk.layers.TransformerBlock(4, residual=gk.layers.GRUGate()),
}


class Checks:
    """Printer of one line per check, which also counts the failed checks."""

    def __init__(self):
        self.failed = 0

    def __call__(self, name: str, error: float, limit: float, note: str = "") -> None:
        good = error <= limit
        self.failed += not good
        print(
            f"{'ok  ' if good else 'FAIL'} {name:44} {error:9.2e} (at most {limit:g}) {note}",
            flush=True,
        )


def outputs_and_gradients(layer, x, device):
    with tf.device(device), tf.GradientTape() as tape:
        x = tf.constant(x)
        tape.watch(x)
        y = layer(x)
        loss = tf.reduce_sum(tf.sin(y))
    return [y.numpy(), tape.gradient(loss, x).numpy()]


def check_layers(check: Checks, device: str) -> None:
    x = np.random.default_rng(0).normal(size=(BATCH, LENGTH, WIDTH)).astype("float32")
    on_device = device.startswith("GPU")
    for name, make in LAYERS.items():
        layer = make()
        layer.build(x.shape)
        # Attention has different code for GPUs. The reference must use the code for CPUs.
        with mock.patch("gpt_keras.layers.attention.has_gpu", return_value=False):
            expected = outputs_and_gradients(layer, x, "CPU:0")
        with mock.patch("gpt_keras.layers.attention.has_gpu", return_value=on_device):
            got = outputs_and_gradients(layer, x, device)
        errors = [np.max(np.abs(a - b)) / np.max(np.abs(a)) for a, b in zip(expected, got)]
        check(name, max(errors), 1e-4, "output and gradient")


def rows(config, number, length):
    ids = np.random.default_rng(1).integers(config.vocabulary_size, size=(number, length + 1))
    return ids[:, :-1].astype("int32"), ids[:, 1:].astype("int32")


def losses_and_speed(config, device, dtype="float32", rematerialize=False, num_steps=20):
    """Train on one batch; return all losses, and tokens per second of the second half."""
    keras.utils.set_random_seed(0)
    with tf.device(device):
        model = gk.GPTCausalLM(config, dtype=dtype)
        model.backbone.rematerialize = rematerialize
        model.compile(gk.training.adamw(1e-3, warmup_steps=0), weighted_metrics=[])
        x, y = rows(config, 8, config.max_sequence_length)
        losses, began = [], 0.0
        for step in range(num_steps):
            if step == num_steps // 2:
                began = time.perf_counter()
            losses.append(float(model.train_on_batch(x, y)))
    seconds = time.perf_counter() - began
    return np.array(losses), x.size * (num_steps - num_steps // 2) / seconds


def check_training(check: Checks, device: str) -> None:
    expected, _ = losses_and_speed(SMALL, "CPU:0")
    for dtype, limit in (("float32", 1e-3), ("mixed_bfloat16", 2e-2), ("mixed_float16", 2e-2)):
        losses, speed = losses_and_speed(SMALL, device, dtype)
        error = np.max(np.abs(losses - expected) / expected)
        check(f"20 steps, {dtype}", error, limit, f"{speed:,.0f} tokens/s")
    losses, speed = losses_and_speed(SMALL, device, rematerialize=True)
    error = np.max(np.abs(losses - expected) / expected)
    check("20 steps, rematerialized", error, 1e-3, f"{speed:,.0f} tokens/s")


def check_generation(check: Checks, device: str) -> None:
    texts = {}
    for place in ("CPU:0", device):
        keras.utils.set_random_seed(0)
        with tf.device(place):
            model = gk.GPTCausalLM(SMALL)
            # Larger weights spread the logits, so that rounding does not change the argmax.
            for variable in model.trainable_variables:
                variable.assign(variable * 5)
            texts[place] = np.array(
                model.generate([[1, 2, 3]] * 2, max_new_tokens=50, temperature=0)
            )
    check("greedy text, differing share", float(np.mean(texts["CPU:0"] != texts[device])), 0.0)


def print_speed(device: str) -> None:
    config = gk.presets.get("gpt2_small")
    for dtype in ("float32", "bfloat16"):
        with tf.device(device):
            model = gk.GPTCausalLM(config, dtype=dtype)
            for batch in (1, 8):
                prompts = [[1] * 32] * batch
                model.generate(prompts, max_new_tokens=64, temperature=0)  # compiles
                began = time.perf_counter()
                model.generate(prompts, max_new_tokens=64, temperature=0)
                speed = batch * 64 / (time.perf_counter() - began)
                print(f"     GPT-2 small, {dtype}, batch {batch}: {speed:,.0f} new tokens/s")
    for dtype in ("float32", "mixed_bfloat16"):
        small = config.replace(max_sequence_length=256)
        _, speed = losses_and_speed(small, device, dtype, num_steps=6)
        print(f"     GPT-2 small, {dtype}, training on 8 x 256: {speed:,.0f} tokens/s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="GPU", choices=["GPU", "CPU"])
    parser.add_argument("--no-speed", action="store_true", help="skip the timing of GPT-2 small")
    parser.add_argument(
        "--no_speed", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    gpus = tf.config.list_physical_devices("GPU")
    print(f"gpt_keras {gk.__version__}, tensorflow {tf.__version__}, keras {keras.__version__}")
    for gpu in gpus:
        print(gpu.name, tf.config.experimental.get_device_details(gpu))
    if arguments.device == "GPU" and not gpus:
        print(
            "TensorFlow finds no GPU. On Linux with an NVIDIA driver, run "
            "`pip install 'gpt_keras[gpu]'`."
        )
        return 1
    device = f"{arguments.device}:0"
    check = Checks()
    # GPUs multiply float32 in TensorFloat-32 by default, whose rounding would hide errors in the
    # checks. The timing uses it.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    check_layers(check, device)
    check_training(check, device)
    check_generation(check, device)
    tf.config.experimental.enable_tensor_float_32_execution(True)
    if not arguments.no_speed:
        print_speed(device)
    print(f"{check.failed} checks failed")
    return check.failed


if __name__ == "__main__":
    sys.exit(main())
