"""Benchmark of a LoRA step and a full step against PEFT and transformers.

    python scripts/benchmark_finetuning.py [--repeats 7] [--torch-python PATH] [--only NAME ...]

All sides start from the same random weights of GPT-2 small and train on the same random tokens, 4 x
128 in a step: float32, AdamW, gradient clipping to a norm of 1, no dropout, two threads. A step is
the forward pass, the loss, the backward pass and the update. The run stops if the first losses
differ.

- gpt_keras compiles the step with XLA. One row adapts the query and value projections, the default
  of `enable_lora`. Another row adapts query, key and value.
- PEFT adapts `c_attn`, the one projection of transformers to query, key and value: one `A` for all
  three, and a `B` three times as wide. PyTorch does not compile the step. It uses its fused
  attention and its fused AdamW, the default of transformers' `Trainer`.

PEFT has as many trainable parameters as our first row, and adapts the same outputs as our second.

Each side runs in its own process, which waits for requests. The first steps compile and are not
counted. Then the sides run one after the other, in a random order for each repeat. The columns:

- `of limit`: the share of the machine's limit. Each repeat times a product of two 2,048 x 2,048
  matrices in TensorFlow and in PyTorch; the larger median is the limit.
- `of own`: the share of the product's speed in the side's own library. On CPUs of AMD, PyTorch's
  products can be much slower than TensorFlow's.
- `cores`: CPU time divided by time. Below `--threads`, a side waited or another program ran.
- `peak`: memory with libraries, loading and compilation.

PEFT needs torch, transformers and peft, in this environment or in the one of the interpreter
`--torch-python`. Without them only gpt_keras runs.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

LORA, LORA_QKV, FULL = "gpt_keras LoRA", "gpt_keras LoRA qkv", "gpt_keras full"
PEFT, TRANSFORMERS = "PEFT LoRA", "transformers full"


class Side(NamedTuple):
    """A row of the table; `targets` are the adapted projections, or None."""

    targets: tuple[str, ...] | None
    packages: tuple[str, ...]  # beside gpt_keras

    @property
    def is_torch(self) -> bool:
        return "torch" in self.packages


SIDES = {
    LORA: Side(("query", "value"), ()),
    LORA_QKV: Side(("query", "key", "value"), ()),
    FULL: Side(None, ()),
    PEFT: Side(("c_attn",), ("torch", "transformers", "peft")),
    TRANSFORMERS: Side(None, ("torch", "transformers")),
}
WARM_UP_STEPS = 3
LEARNING_RATE, BETAS, EPSILON, WEIGHT_DECAY, CLIP_NORM = 1e-4, (0.9, 0.95), 1e-7, 0.1, 1.0

# These functions run in the process of a side. They return `step(token_ids, targets) -> loss`, the
# number of trainable parameters, and `product()`, one product of large matrices.


def ours(side: Side, arguments):
    import tensorflow as tf

    import gpt_keras as gk

    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    model = new_model(arguments.preset)
    if side.targets:
        model.enable_lora(arguments.rank, target_layer_names=side.targets)
    optimizer = gk.training.adamw(
        LEARNING_RATE,
        warmup_steps=0,
        weight_decay=WEIGHT_DECAY,
        beta_1=BETAS[0],
        beta_2=BETAS[1],
        epsilon=EPSILON,
        global_clipnorm=CLIP_NORM,
    )
    model.compile(optimizer, weighted_metrics=[])
    matrix = tf.random.normal([2048, 2048])
    return (
        lambda token_ids, targets: float(model.train_on_batch(token_ids, targets)),
        gk.finetuning.trainable_report(model)["trainable"],
        lambda: tf.linalg.matmul(matrix, matrix).numpy(),
    )


def new_model(preset: str):
    import keras

    import gpt_keras as gk

    keras.utils.set_random_seed(0)  # the same weights in all processes
    return gk.GPTCausalLM(gk.presets.get(preset).replace(dropout=0.0))


def theirs(side: Side, arguments):
    import torch
    import transformers

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel.from_pretrained(
        arguments.weights, attn_implementation="sdpa", dtype=torch.float32
    )
    if side.targets:
        import peft

        config = peft.LoraConfig(
            r=arguments.rank,
            lora_alpha=arguments.rank,
            lora_dropout=0.0,
            target_modules=list(side.targets),
            fan_in_fan_out=True,
            task_type="CAUSAL_LM",
        )
        model = peft.get_peft_model(model, config)
    model.train()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, LEARNING_RATE, betas=BETAS, eps=EPSILON, weight_decay=WEIGHT_DECAY, fused=True
    )

    def step(token_ids, targets):
        logits = model(input_ids=torch.from_numpy(token_ids), use_cache=False).logits
        targets = torch.from_numpy(targets).flatten()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    matrix = torch.randn(2048, 2048)
    return step, sum(p.numel() for p in trainable), lambda: torch.matmul(matrix, matrix)


def serve(arguments) -> None:
    """Answer each line of standard input: time a step, or a product of large matrices."""
    answers, sys.stdout = sys.stdout, sys.stderr

    def answer(**content):
        print(json.dumps(content), file=answers, flush=True)

    side = SIDES[arguments.serve]
    for name in side.packages or ("gpt_keras",):
        __import__(name)
    libraries = memory("VmRSS")
    step, trainable, product = (theirs if side.is_torch else ours)(side, arguments)
    answer(trainable=trainable, libraries=libraries)
    rng = np.random.default_rng(0)
    for line in sys.stdin:
        if line.strip() == "limit":
            answer(flops=2 * 2048**3 / min(seconds(product)[0] for _ in range(3)))
        else:
            rows = rng.integers(arguments.vocabulary, size=(arguments.batch, arguments.length + 1))
            batch = np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, 1:])
            cpu = time.process_time()
            wall, loss = seconds(step, *batch)
            cores = (time.process_time() - cpu) / wall
            answer(seconds=wall, loss=loss, peak=memory("VmHWM"), cores=cores)


def seconds(function, *args):
    began = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - began, result


def memory(name: str) -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))


class Peer:
    """A side that runs in its own process."""

    def __init__(self, name: str, python: str, options: list[str], errors: pathlib.Path):
        self.name, self.errors = name, errors
        with open(errors, "w") as file:
            self.process = subprocess.Popen(
                [python, __file__, "--serve", name, *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        self.steps, self.limits = [], []

    def start(self) -> None:
        """Wait until the model is built, and run the steps that are not counted."""
        built = self.read()
        self.trainable, self.libraries = built["trainable"], built["libraries"]
        self.first_loss = self.ask("step")["loss"]
        for _ in range(WARM_UP_STEPS - 1):
            self.ask("step")

    def ask(self, request: str) -> dict:
        print(request, file=self.process.stdin, flush=True)
        return self.read()

    def read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            lines = self.errors.read_text().strip().splitlines() or ["no message"]
            raise RuntimeError(f"The process of {self.name!r} has ended: {lines[-1]}")
        return json.loads(line)

    @property
    def median(self) -> float:
        return statistics.median(step["seconds"] for step in self.steps)


def step_flops(config, batch: int, length: int, side: Side, trainable: int) -> float:
    """Return the floating-point operations of one step, in matrix products only.

    Attention counts only the half that a causal mask keeps. Its gradient is twice the forward
    pass on every side. A frozen kernel needs the gradient of its input alone, and the inputs of the
    first block need none.
    """
    width, tokens = config.hidden_dim, batch * length
    embedding = width * config.vocabulary_size
    kernels = config.num_layers * (4 * width + 2 * (config.intermediate_dim or 4 * width)) * width
    attention = config.num_layers * width * length
    if side.targets is None:
        return 6 * tokens * (kernels + embedding + attention)
    unneeded = 2 * tokens * 3 * width**2  # the gradient of the inputs of the first block
    return tokens * (4 * (kernels + embedding) + 6 * (attention + trainable)) - unneeded


def measure(peers: dict[str, Peer], repeats: int) -> None:
    draw = random.Random(0)
    of_library = {SIDES[name].is_torch: peer for name, peer in peers.items()}
    for _ in range(repeats):
        for peer in draw.sample(list(peers.values()), len(peers)):
            peer.steps.append(peer.ask("step"))
        for peer in of_library.values():
            peer.limits.append(peer.ask("limit")["flops"])


def check_same_model(peers: dict[str, Peer]) -> None:
    losses = {name: peer.first_loss for name, peer in peers.items()}
    if max(losses.values()) - min(losses.values()) > 1e-3:
        raise RuntimeError(
            f"The sides do not train the same model: their first losses are {losses}."
        )


def report(peers: dict[str, Peer], flops: dict[str, float], tokens: int) -> None:
    limits = {
        SIDES[name].is_torch: statistics.median(peer.limits)
        for name, peer in peers.items()
        if peer.limits
    }
    limit = max(limits.values())
    print(
        f"\n{'':20}{'s a step':>9}{'fastest':>9}{'tokens/s':>10}{'GFLOP/s':>9}{'of limit':>10}"
        f"{'of own':>8}{'cores':>7}{'trainable':>13}{'peak':>10}{'libraries':>11}"
    )
    for name, peer in peers.items():
        speed = flops[name] / peer.median
        fastest = min(step["seconds"] for step in peer.steps)
        cores = statistics.median(step["cores"] for step in peer.steps)
        print(
            f"{name:20}{peer.median:9.3f}{fastest:9.3f}{tokens / peer.median:10.0f}"
            f"{speed / 1e9:9.0f}{speed / limit:10.0%}"
            f"{speed / limits[SIDES[name].is_torch]:8.0%}{cores:7.2f}{peer.trainable:13,}"
            f"{peer.steps[-1]['peak'] / 1e6:7.0f} MB{peer.libraries / 1e6:8.0f} MB"
        )
    names = {False: "TensorFlow", True: "PyTorch"}
    found = ", ".join(f"{names[key]} {value / 1e9:.0f}" for key, value in limits.items())
    print(f"A product of 2,048 x 2,048 matrices, GFLOP/s: {found}. The largest is the limit.")
    print(f"Loss of the first step, on all sides: {next(iter(peers.values())).first_loss:.4f}.")
    if {FULL, TRANSFORMERS} <= peers.keys():
        pairs = zip(peers[FULL].steps, peers[TRANSFORMERS].steps, strict=True)
        difference = max(abs(a["loss"] - b["loss"]) for a, b in pairs)
        print(f"Full steps, gpt_keras and transformers: largest difference {difference:.1e}.")
    print()
    for lora, full in ((LORA, FULL), (LORA_QKV, FULL), (PEFT, TRANSFORMERS)):
        if {lora, full} <= peers.keys():
            print(f"{lora} / {full}: {peers[lora].median / peers[full].median:.2f} of the time")
    for name, peer in ((LORA, PEFT), (LORA_QKV, PEFT), (FULL, TRANSFORMERS)):
        if {name, peer} <= peers.keys():
            print(f"{name}: {peers[peer].median / peers[name].median:.2f} times {peer}")
    if {LORA, PEFT} <= peers.keys():
        found = peers[PEFT].median / peers[LORA].median
        print(f"Bar, at least 1.0 times PEFT: {met(found >= 1.0)} ({found:.2f}).")
    if {LORA, FULL} <= peers.keys():
        found = peers[LORA].median / peers[FULL].median
        print(f"Bar, a LoRA step at most 0.75 of a full step: {met(found <= 0.75)} ({found:.2f}).")


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {text}")
    return number


def met(is_met: bool) -> str:
    return "met" if is_met else "not met"


def missing(packages, python: str) -> list[str]:
    """Return the packages that an interpreter cannot import."""
    code = (
        "import importlib.util, sys; "
        "print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name) is None))"
    )
    run = subprocess.run(
        [python, "-c", code, *packages], capture_output=True, text=True, check=True
    )
    return run.stdout.split()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=positive, default=7, help="counted steps of each side")
    parser.add_argument(
        "--torch-python", default=sys.executable, help="Python interpreter with torch"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SIDES,
        default=list(SIDES),
        metavar="NAME",
        help=f"rows to measure, of {', '.join(map(repr, SIDES))}",
    )
    parser.add_argument("--preset", default="gpt2_small", help="a preset of GPT-2's architecture")
    parser.add_argument("--batch", type=positive, default=4, help="rows in a batch")
    parser.add_argument("--length", type=positive, default=128, help="tokens in a row")
    parser.add_argument("--rank", type=positive, default=8, help="rank of the adapters")
    parser.add_argument("--threads", type=positive, default=2, help="threads of each side")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--weights", help=argparse.SUPPRESS)
    parser.add_argument("--vocabulary", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments)
        return
    names = arguments.only
    needed = dict.fromkeys(package for name in names for package in SIDES[name].packages)
    lacking = missing(needed, arguments.torch_python)
    if needed:  # to hand our weights over
        lacking += missing(["safetensors"], sys.executable)
    if lacking:
        print(
            f"Missing: {', '.join(lacking)}. Rows that need them are skipped; to measure them, "
            f"`pip install {' '.join(lacking)}`."
        )
        if "safetensors" in lacking:
            names = [name for name in names if not SIDES[name].is_torch]
        names = [name for name in names if not set(SIDES[name].packages) & set(lacking)]
    if not names:
        sys.exit(1)
    run(names, arguments)


def run(names: list[str], arguments) -> None:
    import gpt_keras as gk

    config = gk.presets.get(arguments.preset)
    began, load = time.perf_counter(), os.getloadavg()[0]
    options = [
        f"--{name}={getattr(arguments, name)}"
        for name in ("preset", "batch", "length", "rank", "threads")
    ]
    options.append(f"--vocabulary={config.vocabulary_size}")
    peers = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            weights = pathlib.Path(folder) / "weights"
            if any(SIDES[name].is_torch for name in names):
                gk.convert.to_huggingface(new_model(arguments.preset), weights)
                kind = json.loads((weights / "config.json").read_text())["model_type"]
                if kind != "gpt2":
                    raise ValueError(
                        "`--preset` must be a GPT-2, such as gpt2_small, unless only gpt_keras "
                        f"runs; got {arguments.preset}, a {kind}."
                    )
            for i, name in enumerate(names):
                is_torch = SIDES[name].is_torch
                python = arguments.torch_python if is_torch else sys.executable
                use = [f"--weights={weights}"] if is_torch else []
                peers[name] = Peer(name, python, [*options, *use], pathlib.Path(folder) / str(i))
                peers[name].start()
                check_same_model(peers)
            measure(peers, arguments.repeats)
    finally:
        for peer in peers.values():
            peer.process.kill()
    tokens = arguments.batch * arguments.length
    print(
        f"{arguments.preset}, {arguments.batch} x {arguments.length} tokens, rank "
        f"{arguments.rank}, {arguments.threads} threads, medians of {arguments.repeats} "
        f"steps. Load average before the run: {load:.1f}."
    )
    flops = {
        name: step_flops(config, arguments.batch, arguments.length, SIDES[name], peer.trainable)
        for name, peer in peers.items()
    }
    report(peers, flops, tokens)
    print(f"The run took {time.perf_counter() - began:.0f} s.")


if __name__ == "__main__":
    main()
