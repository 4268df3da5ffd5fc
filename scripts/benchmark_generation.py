"""Benchmark of generation with GPT-2 small against Hugging Face and keras-hub.

    python scripts/benchmark_generation.py [--repeats 7] [--torch-python PATH] [--only NAME ...]

Each library runs in its own process, which keeps its model and waits for requests. The weights are
random, since their values do not affect speed. The libraries run one after the other, in a random
order for each repeat. The tables show medians. Hugging Face needs torch and transformers, in this
environment or in the one of the interpreter `--torch-python`. Libraries that are not installed are
skipped.
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

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

NEW_TOKENS = 64
VOCABULARY = 50257
OURS = "gpt_keras"
HUGGING_FACE, KERAS_HUB = "hugging face", "keras-hub"

# Batch sizes and prompt lengths. The longest prompts and their new tokens almost fill the context
# of 1,024 tokens.
SHAPES = [(1, 32), (8, 32), (1, 512), (8, 512), (1, 928), (8, 928)]


# These functions run in the process of a library. They return `run(prompts, new_tokens, top_k)`
# and the size of the weights in bytes.


def ours(dtype: str):
    import gpt_keras as gk

    config = gk.presets.get("gpt2_small")
    if dtype == "bfloat16":
        model = gk.CausalLM(gk.GPT(config, dtype="bfloat16"))
    else:
        model = gk.GPTCausalLM(config)
    if dtype == "int8":
        import keras

        weights_only = keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)
        model.quantize(config=weights_only)

    def run(prompts, new_tokens, top_k):
        settings = {"temperature": 0} if top_k is None else {"top_k": top_k, "seed": 0}
        rows = model.generate(prompts.tolist(), max_new_tokens=new_tokens, **settings)
        assert all(len(row) == prompts.shape[1] + new_tokens for row in rows)

    return run, sum(v.value.dtype.size * int(np.prod(v.shape)) for v in model.variables)


def hugging_face():
    import torch
    import transformers

    model = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()

    def run(prompts, new_tokens, top_k):
        draw = {"do_sample": False} if top_k is None else {"do_sample": True, "top_k": top_k}
        prompts = torch.tensor(prompts)
        with torch.inference_mode():
            model.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                pad_token_id=0,
                eos_token_id=None,
                max_new_tokens=new_tokens,
                **draw,
            )

    return run, sum(p.numel() * p.element_size() for p in model.parameters())


def keras_hub():
    import keras_hub

    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=VOCABULARY,
        num_layers=12,
        num_heads=12,
        hidden_dim=768,
        intermediate_dim=3072,
        max_sequence_length=1024,
    )
    models = {}
    for top_k in (None, 50):
        sampler = "greedy" if top_k is None else keras_hub.samplers.TopKSampler(k=top_k)
        models[top_k] = keras_hub.models.GPT2CausalLM(backbone=backbone, preprocessor=None)
        models[top_k].compile(sampler=sampler, jit_compile=True)

    def run(prompts, new_tokens, top_k):
        room = ((0, 0), (0, new_tokens))
        inputs = {
            "token_ids": np.pad(prompts, room),
            "padding_mask": np.pad(np.ones_like(prompts), room),
        }
        models[top_k].generate(inputs, stop_token_ids=None)

    return run, sum(int(np.prod(v.shape)) * 4 for v in backbone.variables)


PEERS = {
    OURS: lambda: ours("float32"),
    f"{OURS}, bfloat16": lambda: ours("bfloat16"),
    f"{OURS}, int8": lambda: ours("int8"),
    HUGGING_FACE: hugging_face,
    KERAS_HUB: keras_hub,
}


LIBRARIES = {HUGGING_FACE: ["torch", "transformers"], KERAS_HUB: ["keras_hub"]}


def serve(name: str) -> None:
    """Answer requests on standard input with the seconds and the peak memory of each."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for library in LIBRARIES.get(name, ["gpt_keras"]):
        importlib.import_module(library)
    libraries = peak_memory()
    run, weight_bytes = PEERS[name]()
    print(json.dumps({"weights": weight_bytes, "libraries": libraries}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        prompts = np.random.default_rng(0).integers(
            VOCABULARY - 1, size=(request["batch"], request["prompt"]), dtype=np.int32
        )
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # resets the peak memory (VmHWM)
        began = time.perf_counter()
        run(prompts, request["new_tokens"], request["top_k"])
        answer = {"seconds": time.perf_counter() - began, "peak": peak_memory()}
        print(json.dumps(answer), file=answers, flush=True)


def peak_memory() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


class Peer:
    """A library that runs in its own process."""

    def __init__(self, name: str, python: str):
        self.process = subprocess.Popen(
            [python, __file__, "--serve", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        about = self._read()
        self.weights, self.libraries = about["weights"], about["libraries"]

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} has ended. Run it by hand to see the error.")
        return json.loads(line)

    def run(self, **request) -> dict:
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self._read()


def bandwidth() -> float:
    """Measure the best memory bandwidth of all cores for reading, in bytes per second."""
    import tensorflow as tf

    values = tf.ones([2**28])  # 1 GB
    read = tf.function(tf.reduce_max, autograph=False)
    times = []
    for _ in range(8):
        began = time.perf_counter()
        read(values).numpy()
        times.append(time.perf_counter() - began)
    return 2**30 / min(times)


def measure(peers: dict[str, Peer], repeats: int, shape, top_k) -> None:
    batch, prompt = shape
    print(f"\nbatch {batch}, prompt {prompt}, {'greedy' if top_k is None else f'top-k {top_k}'}")
    requests = [
        dict(batch=batch, prompt=prompt, new_tokens=n, top_k=top_k) for n in (1, NEW_TOKENS)
    ]
    times = {name: ([], []) for name in peers}
    for peer in peers.values():
        for request in requests:
            peer.run(**request)  # compiles
    draw = random.Random(0)
    for _ in range(repeats):
        for name, peer in draw.sample(list(peers.items()), len(peers)):
            for request, found in zip(requests, times[name], strict=True):
                found.append(peer.run(**request)["seconds"])
    medians = {name: [statistics.median(t) for t in both] for name, both in times.items()}
    # Bytes that each new token must read: the weights once per batch, and the KV cache of each row.
    cache = batch * (prompt + NEW_TOKENS / 2) * 12 * 2 * 768 * 4
    speed = bandwidth()
    print(
        f"{'':22}{'tokens/s':>10}{'after the first':>17}{'x HF':>7}{'after 1st':>11}{'x hub':>7}"
        f"{'after 1st':>11}{'first token':>13}{'x HF':>7}{'of the limit':>14}"
    )
    rates = {}
    for name, (first, whole) in medians.items():
        rates[name] = (
            batch * NEW_TOKENS / whole,
            batch * (NEW_TOKENS - 1) / (whole - first),
            1 / first,
        )
    for name, (total, later, first) in rates.items():
        element = {"bfloat16": 0.5}.get(name.split(", ")[-1], 1)
        limit = speed / (peers[name].weights + cache * element) * batch
        ratios = ""
        for i, peer in ((0, HUGGING_FACE), (1, HUGGING_FACE), (0, KERAS_HUB), (1, KERAS_HUB)):
            ratio = f"{rates[name][i] / rates[peer][i]:.2f}" if peer in rates else "-"
            ratios += f"{ratio:>{7 if i == 0 else 11}}"
        x_first = f"{first / rates[HUGGING_FACE][2]:.2f}" if HUGGING_FACE in rates else "-"
        print(
            f"{name:22}{total:10.1f}{later:17.1f}{ratios}{1 / first:11.3f} s{x_first:>7}"
            f"{later / limit:13.0%}"
        )
    print(f"memory is read at {speed / 1e9:.1f} GB/s")


def print_memory(peers: dict[str, Peer], shape) -> None:
    batch, prompt = shape
    request = dict(batch=batch, prompt=prompt, new_tokens=NEW_TOKENS, top_k=None)
    print(
        f"\nmemory while generating, batch {batch}, prompt {prompt}; memory beyond the libraries "
        f"holds weights, KV cache, activations and compiled programs\n"
        f"{'':22}{'process':>10}{'libraries':>12}{'beyond':>10}{'over weights and cache':>24}"
    )
    for name, peer in peers.items():
        peer.run(**request)  # compiles
        peak = peer.run(**request)["peak"]
        beyond = peak - peer.libraries
        element = 2 if "bfloat16" in name else 4
        cache = batch * (prompt + NEW_TOKENS) * 12 * 2 * 768 * element
        print(
            f"{name:22}{peak / 1e6:7.0f} MB{peer.libraries / 1e6:9.0f} MB{beyond / 1e6:7.0f} MB"
            f"{beyond / (peer.weights + cache):24.2f}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7, help="runs of each measurement")
    parser.add_argument(
        "--torch-python", default=sys.executable, help="Python interpreter with torch"
    )
    parser.add_argument("--torch_python", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument("--only", nargs="+", choices=PEERS, help="libraries to measure")
    parser.add_argument(
        "--shapes", nargs="+", default=None, help="batch x prompt length, such as 1x32 8x512"
    )
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    shapes = SHAPES
    if arguments.shapes:
        shapes = [tuple(map(int, shape.split("x"))) for shape in arguments.shapes]
    peers = {}
    for name in arguments.only or PEERS:
        python = arguments.torch_python if name == HUGGING_FACE else sys.executable
        needed = {HUGGING_FACE: "transformers", KERAS_HUB: "keras_hub"}.get(name)
        if needed and python == sys.executable and importlib.util.find_spec(needed) is None:
            print(f"{name} is not installed: skipped")
            continue
        peers[name] = Peer(name, python)
    for top_k in (None, 50):
        for shape in shapes if top_k is None else shapes[:2]:
            measure(peers, arguments.repeats, shape, top_k)
    print_memory(peers, max(shapes))


if __name__ == "__main__":
    main()
