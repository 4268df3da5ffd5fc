"""Benchmark of log-likelihoods against lm-evaluation-harness on transformers.

    python scripts/benchmark_evaluation.py piqa.jsonl MODEL.gguf [--limit N] [--only NAME ...]

The rows of the file have `goal`, `sol1`, `sol2` and `label`, as PIQA's. Each solution is scored
after the prompt "Question: ...\\nAnswer:", as in the harness's task `piqa`. All sides have the same
float32 weights, which a GGUF file holds in quantized form.

- `gpt_keras` encodes the texts and calls `score_continuations`.
- `gpt_keras harness` is `HarnessModel.loglikelihood`, with lm-eval's requests.
- `transformers B` is `HFLM.loglikelihood` of lm-eval with batch size `B`: 1, 8 or "auto", which
  lets the harness find the largest batch that fits into memory.

Each side runs once, in its own process, one after the other. A time counts tokenizing, tracing and
compiling, but not loading. The columns:

- `items/s`: rows of the file each second.
- `of own`: GFLOP/s of the side's library in a product of two 2,048 x 2,048 matrices, the best of
  three before the run and three after it. It shows whether the machine was equally fast.
- `cores`: CPU time divided by time. Below `--threads`, a side waited or another program ran.
- `peak`: memory with libraries, loading and compiling.

Then come the accuracies, and the largest difference of log-likelihoods from the first side.
transformers and lm-eval must be in this environment, or in the one of `--torch-python`. Without
them, only gpt_keras runs.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

OURS, HARNESS = "gpt_keras", "gpt_keras harness"
THEIRS = {f"transformers {size}": size for size in ("1", "8", "auto")}
SIDES = [OURS, HARNESS, *THEIRS]
PACKAGES = {OURS: [], HARNESS: ["lm_eval"]}
PACKAGES |= {name: ["lm_eval", "torch", "transformers", "gguf"] for name in THEIRS}
BAR = 1.5


def read_pairs(path: str, limit: int | None) -> tuple[list[tuple[str, str]], list[int]]:
    """Return `(context, continuation)` of each solution, and the label of each row."""
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:limit]
    pairs = [
        (f"Question: {row['goal']}\nAnswer:", f" {row[key]}")
        for row in rows
        for key in ("sol1", "sol2")
    ]
    return pairs, [int(row["label"]) for row in rows]


# These functions run in the process of a side. They return `run(pairs) -> log_likelihoods` and
# `product()`, one product of large matrices.


def ours(name: str, arguments):
    import tensorflow as tf

    import gpt_keras as gk
    from gpt_keras.evaluation.context_pairs import encode_pairs
    from gpt_keras.generation.continuations import score_continuations

    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    model = gk.CausalLM.from_preset(arguments.model)
    matrix = tf.random.normal([2048, 2048])

    def run(pairs):
        encoded = encode_pairs(model.tokenizer, pairs)
        requests = [(context, [continuation]) for context, continuation in encoded]
        scores = score_continuations(model, requests, batch_size=arguments.batch)
        return [score.log_probability for (score,) in scores]

    if name == HARNESS:
        run = through_harness(gk.evaluation.HarnessModel(model, batch_size=arguments.batch))
    return run, lambda: tf.linalg.matmul(matrix, matrix).numpy()


def theirs(name: str, arguments):
    import tokenizers
    import torch
    import transformers
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(arguments.threads)
    file = pathlib.Path(arguments.model)
    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
    # transformers ignores the file's pre-tokenizer setting, which splits digits one by one.
    split = tokenizers.pre_tokenizers
    tokenizer.backend_tokenizer.pre_tokenizer = split.Sequence(
        [split.Digits(individual_digits=True), split.ByteLevel(add_prefix_space=False)]
    )
    size = THEIRS[name]
    size = size if size == "auto" else int(size)
    harness = HFLM(model.eval(), tokenizer=tokenizer, batch_size=size, device="cpu")
    matrix = torch.randn(2048, 2048)
    return through_harness(harness), lambda: torch.matmul(matrix, matrix)


def through_harness(model):
    from lm_eval.api.instance import Instance

    def run(pairs):
        requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
        return [found[0] for found in model.loglikelihood(requests, disable_tqdm=True)]

    return run


def serve(arguments) -> None:
    """Run one side and print what was measured as JSON."""
    answers, sys.stdout = sys.stdout, sys.stderr
    name = arguments.serve
    pairs, _ = read_pairs(arguments.data, arguments.limit)
    began = time.perf_counter()
    run, product = (theirs if name in THEIRS else ours)(name, arguments)
    loading = time.perf_counter() - began
    before = product_flops(product)
    began, cpu = time.perf_counter(), time.process_time()
    found = run(pairs)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    content = {
        "seconds": seconds,
        "loading": loading,
        "cores": cpu / seconds,
        "limit": max(before, product_flops(product)),
        "peak": peak_memory(),
        "log_likelihoods": [float(value) for value in found],
    }
    print(json.dumps(content), file=answers, flush=True)


def product_flops(product) -> float:
    times = []
    product()
    for _ in range(3):
        began = time.perf_counter()
        product()
        times.append(time.perf_counter() - began)
    return 2 * 2048**3 / min(times)


def peak_memory() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def accuracy(log_likelihoods: list[float], labels: list[int]) -> float:
    choices = np.array(log_likelihoods).reshape(-1, 2).argmax(axis=1)
    return float((choices == labels).mean())


def report(found: dict[str, dict], labels: list[int]) -> None:
    """Print the table, and whether the bar is met."""
    num_items = len(labels)
    print(
        f"\n{'':20}{'seconds':>9}{'items/s':>9}{'GFLOP/s of own':>16}{'cores':>7}{'peak':>10}"
        f"{'loading':>9}{'accuracy':>10}{'difference':>12}{'choices':>9}"
    )
    first = next(iter(found.values()))
    expected = np.array(first["log_likelihoods"])
    for name, side in found.items():
        values = np.array(side["log_likelihoods"])
        choices = values.reshape(-1, 2).argmax(axis=1)
        same = int((choices == expected.reshape(-1, 2).argmax(axis=1)).sum())
        print(
            f"{name:20}{side['seconds']:9.1f}{num_items / side['seconds']:9.2f}"
            f"{side['limit'] / 1e9:16.0f}{side['cores']:7.2f}{side['peak'] / 1e6:7.0f} MB"
            f"{side['loading']:7.1f} s{accuracy(side['log_likelihoods'], labels):10.3f}"
            f"{np.abs(values - expected).max():12.1e}{same:5d}/{num_items}"
        )
    print("`choices`: items with the choice of the first side.\n")
    peers = {name: side["seconds"] for name, side in found.items() if name in THEIRS}
    if not peers:
        return
    best = min(peers, key=peers.get)
    for name in (OURS, HARNESS):
        if name in found:
            ratio = peers[best] / found[name]["seconds"]
            print(f"{name}: {ratio:.2f} times {best}, the fastest of its batch sizes")
            if name == OURS:
                is_met = "met" if ratio >= BAR else "not met"
                print(f"Bar, at least {BAR} times the harness on transformers: {is_met}.")


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {text}")
    return number


def missing(packages: list[str], python: str) -> list[str]:
    """Return the packages that an interpreter cannot import."""
    code = (
        "import importlib.util, sys; "
        "print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name) is None))"
    )
    run = subprocess.run(
        [python, "-c", code, *packages], capture_output=True, text=True, check=True
    )
    return run.stdout.split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", help="file of rows with goal, sol1, sol2 and label (.jsonl)")
    parser.add_argument("model", help="GGUF file of a small model")
    parser.add_argument("--limit", type=positive, help="number of rows; all by default")
    parser.add_argument("--batch", type=positive, default=8, help="batch size of gpt_keras")
    parser.add_argument("--threads", type=positive, default=2, help="threads of each side")
    parser.add_argument(
        "--torch-python", default=sys.executable, help="Python interpreter with transformers"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SIDES,
        default=SIDES,
        metavar="NAME",
        help=f"rows to measure, of {', '.join(map(repr, SIDES))}",
    )
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments)
        return
    _, labels = read_pairs(arguments.data, arguments.limit)
    load, found = os.getloadavg()[0], {}
    for name in arguments.only:
        python = arguments.torch_python if name in THEIRS else sys.executable
        lacking = missing(PACKAGES[name], python)
        if lacking:
            print(f"{name} is skipped: missing {', '.join(lacking)}.")
            continue
        found[name] = start(name, python, arguments)
        print(f"{name}: {found[name]['seconds']:.1f} s", flush=True)
    if not found:
        sys.exit(1)
    print(
        f"{pathlib.Path(arguments.model).name}, {len(labels)} items, {arguments.threads} threads, "
        f"batch size {arguments.batch} of gpt_keras. Load average before the run: {load:.1f}."
    )
    report(found, labels)


def start(name: str, python: str, arguments) -> dict:
    """Run one side in its own process, and return what it measured."""
    command = [python, __file__, arguments.data, arguments.model, "--serve", name]
    command += [f"--threads={arguments.threads}", f"--batch={arguments.batch}"]
    command += [] if arguments.limit is None else [f"--limit={arguments.limit}"]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        lines = run.stderr.strip().splitlines() or ["no message"]
        raise RuntimeError(f"The process of {name!r} has failed: {lines[-1]}")
    return json.loads(run.stdout)


if __name__ == "__main__":
    main()
