"""Benchmark of a training step against Hugging Face and keras-hub.

    python scripts/benchmark_training.py [--repeats 9] [--torch-python PATH] [--only NAME ...]

All libraries train a GPT-2 of the same shape from random weights, on random tokens: float32, AdamW,
gradient clipping to a norm of 1, no dropout. keras-hub and gpt_keras run a step compiled by XLA.
Hugging Face runs PyTorch without compilation, with its fused attention. Each library runs in its
own process, which waits for requests. The libraries run one after the other, in a random order for
each repeat. The tables show medians. Hugging Face needs torch and transformers, in this environment
or in the one of the interpreter `--torch-python`. Libraries that are not installed are skipped.
"""

import argparse
import importlib
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

OURS, HUGGING_FACE, KERAS_HUB = "gpt_keras", "hugging face", "keras-hub"


class Shape(NamedTuple):
    layers: int
    width: int
    heads: int
    batch: int
    length: int
    vocabulary: int

    @property
    def flops(self) -> float:
        """Floating-point operations of one step, in matrix products only.

        The backward pass counts twice the forward pass. For attention only the half that a causal
        mask keeps is counted.
        """
        weights = 12 * self.layers * self.width**2 + self.width * self.vocabulary
        attention = self.layers * self.width * self.length
        return 6 * self.batch * self.length * (weights + attention)


SHAPES = [
    Shape(6, 384, 6, 8, 256, 65),
    Shape(4, 128, 4, 12, 64, 65),
    Shape(12, 768, 12, 2, 512, 50257),
    Shape(6, 384, 6, 2, 1024, 4096),
]

# These functions run in the process of a library. They return `step(token_ids, targets) -> loss`.


def ours(shape: Shape):
    import gpt_keras as gk

    config = gk.GPTConfig(
        vocabulary_size=shape.vocabulary,
        max_sequence_length=shape.length,
        num_layers=shape.layers,
        num_heads=shape.heads,
        hidden_dim=shape.width,
    )
    model = gk.GPTCausalLM(config)
    model.compile(weighted_metrics=[])
    return lambda token_ids, targets: model.train_on_batch(token_ids, targets)


def hugging_face(shape: Shape):
    import torch
    import transformers

    config = transformers.GPT2Config(
        vocab_size=shape.vocabulary,
        n_positions=shape.length,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        attn_implementation="sdpa",
    )
    model = transformers.GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1)

    def step(token_ids, targets):
        logits = model(torch.from_numpy(token_ids), use_cache=False).logits
        targets = torch.from_numpy(targets).flatten()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def keras_hub(shape: Shape):
    import keras
    import keras_hub

    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=shape.vocabulary,
        num_layers=shape.layers,
        num_heads=shape.heads,
        hidden_dim=shape.width,
        intermediate_dim=4 * shape.width,
        max_sequence_length=shape.length,
        dropout=0.0,
    )
    model = keras_hub.models.GPT2CausalLM(backbone=backbone, preprocessor=None)
    model.compile(
        optimizer=keras.optimizers.AdamW(1e-5, weight_decay=0.1, beta_2=0.95, global_clipnorm=1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[],
        jit_compile=True,
    )

    def step(token_ids, targets):
        inputs = {"token_ids": token_ids, "padding_mask": np.ones_like(token_ids)}
        return model.train_on_batch(inputs, targets)

    return step


PEERS = {OURS: ours, HUGGING_FACE: hugging_face, KERAS_HUB: keras_hub}


LIBRARIES = {HUGGING_FACE: ["torch", "transformers"], KERAS_HUB: ["keras_hub"]}


def serve(name: str, shape: Shape) -> None:
    """Run a step per line of standard input; print seconds, loss and peak memory."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for library in LIBRARIES.get(name, ["gpt_keras"]):
        importlib.import_module(library)
    print(json.dumps({"libraries": peak_memory()}), file=answers, flush=True)
    step = PEERS[name](shape)
    rng = np.random.default_rng(0)
    for _ in sys.stdin:
        rows = rng.integers(shape.vocabulary, size=(shape.batch, shape.length + 1))
        token_ids, targets = np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, 1:])
        began = time.perf_counter()
        loss = float(step(token_ids, targets))
        answer = {"seconds": time.perf_counter() - began, "loss": loss, "peak": peak_memory()}
        print(json.dumps(answer), file=answers, flush=True)


def peak_memory() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


class Peer:
    """A library that runs in its own process."""

    def __init__(self, name: str, python: str, shape: Shape):
        self.process = subprocess.Popen(
            [python, __file__, "--serve", name, "--shape", json.dumps(shape)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.libraries = self._read()["libraries"]

    def step(self) -> dict:
        print(file=self.process.stdin, flush=True)
        return self._read()

    def _read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} has ended. Run it by hand to see the error.")
        return json.loads(line)


def matmul_peak() -> float:
    """Measure the best FLOP/s of a large matrix product."""
    import tensorflow as tf

    size = 2048
    matrix = tf.random.normal([size, size])
    times = []
    for _ in range(6):
        began = time.perf_counter()
        tf.linalg.matmul(matrix, matrix).numpy()
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times)


def measure(shape: Shape, pythons: dict[str, str], repeats: int) -> None:
    peers = {name: Peer(name, python, shape) for name, python in pythons.items()}
    for peer in peers.values():
        first = peer.step()  # compiles
        # An untrained model has a loss of about ln(vocabulary). Another loss means that the
        # libraries do not train the same model.
        if abs(first["loss"] - np.log(shape.vocabulary)) > 0.5:
            raise RuntimeError(f"{peer.process.args} begins with a loss of {first['loss']}.")
        peer.step()
    answers = {name: [] for name in peers}
    draw = random.Random(0)
    for _ in range(repeats):
        for name, peer in draw.sample(list(peers.items()), len(peers)):
            answers[name].append(peer.step())
    for peer in peers.values():
        peer.process.kill()
    peak = matmul_peak()
    print(
        f"\n{shape.layers} layers, width {shape.width}, {shape.heads} heads, "
        f"{shape.batch} x {shape.length} tokens, vocabulary {shape.vocabulary}"
    )
    print(
        f"{'':14}{'s a step':>10}{'tokens/s':>10}{'x HF':>7}{'x hub':>7}{'GFLOP/s':>9}"
        f"{'of the peak':>13}{'memory':>10}{'less libraries':>17}"
    )
    seconds = {
        name: statistics.median(a["seconds"] for a in found) for name, found in answers.items()
    }
    for name, found in answers.items():
        ratios = "".join(
            f"{seconds[other] / seconds[name]:7.2f}" if other in seconds else f"{'-':>7}"
            for other in (HUGGING_FACE, KERAS_HUB)
        )
        speed = shape.flops / seconds[name]
        print(
            f"{name:14}{seconds[name]:10.3f}{shape.batch * shape.length / seconds[name]:10.0f}"
            f"{ratios}{speed / 1e9:9.1f}{speed / peak:12.0%}"
            f"{max(a['peak'] for a in found) / 1e6:7.0f} MB"
            f"{(max(a['peak'] for a in found) - peers[name].libraries) / 1e6:14.0f} MB"
        )
    print(f"a product of 2,048 x 2,048 matrices: {peak / 1e9:.0f} GFLOP/s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=9, help="steps of each measurement")
    parser.add_argument(
        "--torch-python", default=sys.executable, help="Python interpreter with torch"
    )
    parser.add_argument("--torch_python", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument("--only", nargs="+", choices=PEERS, help="libraries to measure")
    parser.add_argument("--shapes", nargs="+", type=int, help="indices of shapes, from 0")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--shape", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, Shape(*arguments.shape))
        return
    pythons = {}
    for name in arguments.only or PEERS:
        python = arguments.torch_python if name == HUGGING_FACE else sys.executable
        needed = {HUGGING_FACE: "transformers", KERAS_HUB: "keras_hub"}.get(name)
        if needed and python == sys.executable and importlib.util.find_spec(needed) is None:
            print(f"{name} is not installed: skipped")
            continue
        pythons[name] = python
    for i, shape in enumerate(SHAPES):
        if arguments.shapes is None or i in arguments.shapes:
            measure(shape, pythons, arguments.repeats)


if __name__ == "__main__":
    main()
