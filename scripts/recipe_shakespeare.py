"""Comparison of training recipes for a small GPT on Shakespeare in a fixed budget.

    python scripts/recipe_shakespeare.py                      # nanoGPT's settings, and ours
    python scripts/recipe_shakespeare.py --ablation           # one change at a time
    python scripts/recipe_shakespeare.py --torch-python PATH  # nanoGPT's in PyTorch, too

The budget is the one of nanoGPT's example for a CPU: characters, 4 layers of width 128, at most
2,000 steps of 12 x 64 tokens, and the seconds that these steps take. The text is the bundled plays.
The comparison holds out the last tenth. The ablation, by which the recipe was chosen, holds out the
tenth before it; no run trains on the last tenth. The loss is the mean over all windows of 64
characters of the held-out part, in nats per character.

Runs with the same seed and sampling train on the same windows in the same order. Each run is a
process on one core; `--workers` is the number of processes at a time. Compare times only between
runs of the same call.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

STEPS, BATCH, LENGTH = 2000, 12, 64


# The data. The windows are NumPy arrays, so that the PyTorch process can read the same windows.


def windows(held_out: str, sampling: str, seed: int):
    """Return the vocabulary size, training windows and validation windows.

    Windows are `(rows, LENGTH + 1)`; the training windows are in the order of training.
    """
    import gpt_keras as gk

    text = "\n".join(gk.datasets.corpora.load("shakespeare"))
    characters = sorted(set(text))
    ids = np.array([characters.index(c) for c in text], dtype=np.int32)
    tenth = len(ids) // 10
    if held_out == "last":
        train, valid = ids[: 9 * tenth], ids[9 * tenth :]
    else:
        train, valid = ids[: 8 * tenth], ids[8 * tenth : 9 * tenth]
    rng = np.random.default_rng(seed)
    number = STEPS * BATCH
    if sampling == "random":
        starts = rng.integers(len(train) - LENGTH, size=number)
    else:  # each epoch covers every character once; its windows begin at a random offset
        starts = []
        while len(starts) < number:
            first = rng.integers(LENGTH)
            starts.extend(rng.permutation(np.arange(first, len(train) - LENGTH, LENGTH)))
        starts = np.array(starts[:number])
    span = np.arange(LENGTH + 1)
    valid_starts = np.arange(0, len(valid) - LENGTH, LENGTH)
    return len(characters), train[starts[:, None] + span], valid[valid_starts[:, None] + span]


# The recipes.


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of a run; the defaults are nanoGPT's."""

    steps: int = STEPS
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    final_ratio: float = 0.1
    warmup_steps: int = 100
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    sampling: str = "random"
    zero_outputs: bool = False
    average: float | None = None

    def with_(self, **changes) -> "Recipe":
        for name in ("config", "settings"):
            if name in changes:
                changes[name] = getattr(self, name) | changes[name]
        return dataclasses.replace(self, **changes)


# On the last tenth with seed 0, these settings reach a loss of 1.8854 in PyTorch (Hugging Face's
# GPT-2, `--torch-python`, torch 2.13, transformers 5.23) and 1.8768 in Keras.
NANOGPT = Recipe(settings={"beta_2": 0.99})
ROTARY = {"position_embedding": "rotary"}
RMS_NORM = {"norm": "rms_norm"}
SWIGLU = {"activation": "swiglu", "intermediate_dim": 336}
NO_BIAS = {"use_bias": False}

# The ablation: each entry makes one change to nanoGPT's settings.
CHANGES: dict[str, Recipe] = {
    "nanoGPT's settings": NANOGPT,
    "rotary positions": NANOGPT.with_(config=ROTARY),
    "RMSNorm": NANOGPT.with_(config=RMS_NORM),
    "no biases": NANOGPT.with_(config=NO_BIAS),
    "SwiGLU": NANOGPT.with_(config=SWIGLU),
    "squared ReLU": NANOGPT.with_(config={"activation": "relu_squared"}),
    "norms of queries and keys": NANOGPT.with_(config={"use_qk_norm": True}),
    "projections into the stream start at 0": NANOGPT.with_(zero_outputs=True),
    "learning rate 3e-3": NANOGPT.with_(learning_rate=3e-3),
    "learning rate 6e-3": NANOGPT.with_(learning_rate=6e-3),
    "cosine to 0": NANOGPT.with_(final_ratio=0.0),
    "average of weights": NANOGPT.with_(average=0.99),
    "every character once an epoch": NANOGPT.with_(sampling="epochs"),
    "Muon, 1e-2": NANOGPT.with_(optimizer="muon", learning_rate=1e-2),
    "Muon, 1e-2, five iterations": NANOGPT.with_(
        optimizer="muon", learning_rate=1e-2, settings={"ns_steps": 5}
    ),
    "Muon, 2e-2": NANOGPT.with_(optimizer="muon", learning_rate=2e-2),
}

# The preset `nano`, trained with Muon. A step takes 1.25 to 1.35 times as long as with nanoGPT's
# settings. The number of steps is smaller, so that the run uses neither more tokens nor more time.
OURS = NANOGPT.with_(
    steps=1450,
    config=ROTARY | RMS_NORM | NO_BIAS | SWIGLU | {"use_qk_norm": True},
    optimizer="muon",
    learning_rate=2e-2,
    final_ratio=0.0,
    sampling="epochs",
)


def run(recipe: Recipe, held_out: str, seed: int) -> dict[str, float]:
    """Train a model; return its held-out loss, seconds of training, and parameters."""
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import gpt_keras as gk

    keras.utils.set_random_seed(seed)
    vocabulary_size, train, valid = windows(held_out, recipe.sampling, seed)
    config = gk.GPTConfig(
        vocabulary_size=vocabulary_size,
        max_sequence_length=LENGTH,
        num_layers=4,
        num_heads=4,
        hidden_dim=128,
    )
    config = config.replace(**recipe.config)
    model = gk.GPTCausalLM(config)
    if recipe.zero_outputs:
        for variable in model.trainable_variables:
            if variable.path.endswith(("output/kernel", "down/kernel")):
                variable.assign(np.zeros(variable.shape))
    make: Callable = {"adamw": gk.training.adamw, "muon": gk.training.muon}[recipe.optimizer]
    average = {"use_ema": True, "ema_momentum": recipe.average} if recipe.average else {}
    optimizer = make(
        recipe.learning_rate,
        warmup_steps=recipe.warmup_steps,
        total_steps=recipe.steps,
        final_learning_rate=recipe.final_ratio * recipe.learning_rate,
        **recipe.settings,
        **average,
    )
    model.compile(optimizer, weighted_metrics=[])
    model.train_on_batch(train[:BATCH, :-1], train[:BATCH, 1:])  # compiles
    train = train[BATCH : recipe.steps * BATCH]
    inputs, targets = train[:, :-1], train[:, 1:]
    began = time.perf_counter()
    model.fit(inputs, targets, batch_size=BATCH, shuffle=False, verbose=0)
    seconds = time.perf_counter() - began
    if recipe.average:
        optimizer.finalize_variable_values(model.trainable_variables)
    loss = model.evaluate(valid[:, :-1], valid[:, 1:], batch_size=64, verbose=0)
    return {"loss": float(loss), "seconds": seconds, "parameters": config.num_parameters}


def run_torch(data: str, seed: int) -> dict[str, float]:
    """Train Hugging Face's GPT-2 with nanoGPT's settings on the windows in a file."""
    import torch
    import transformers

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    arrays = np.load(data)
    train, valid = (torch.tensor(arrays[name], dtype=torch.long) for name in ("train", "valid"))
    config = transformers.GPT2Config(
        vocab_size=int(arrays["vocabulary_size"]),
        n_positions=LENGTH,
        n_embd=128,
        n_layer=4,
        n_head=4,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    model = transformers.GPT2LMHeadModel(config)
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.9, 0.99),
    )

    def loss_of(rows):
        logits = model(rows[:, :-1]).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())

    began = time.perf_counter()
    for step in range(STEPS):
        rate = 1e-3 * (step + 1) / 100
        if step >= 100:
            share = (step - 100) / (STEPS - 100)
            rate = 1e-4 + 0.5 * (1 + np.cos(np.pi * share)) * (1e-3 - 1e-4)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of(train[step * BATCH : (step + 1) * BATCH])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - began
    with torch.inference_mode():
        parts = [(float(loss_of(rows)), len(rows)) for rows in valid.split(64)]
    loss = sum(loss * number for loss, number in parts) / len(valid)
    number = sum(p.numel() for p in model.parameters())
    return {"loss": loss, "seconds": seconds, "parameters": number}


# Runs in separate processes.


def start(python: str, **request: Any) -> dict[str, float]:
    """Run this script in a new process and return its results."""
    command = [python, __file__, "--run", json.dumps(request)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def start_torch(python: str, held_out: str, seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "windows.npz")
        vocabulary_size, train, valid = windows(held_out, "random", seed)
        np.savez(data, vocabulary_size=vocabulary_size, train=train, valid=valid)
        return start(python, data=data, seed=seed)


def compare(
    recipes: dict[str, Recipe], held_out: str, seeds: int, workers: int, torch_python: str | None
) -> None:
    """Run each recipe with each seed; print means and gains over the first recipe."""
    jobs = {}
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for seed in range(seeds):
            for name, recipe in recipes.items():
                request = dict(recipe=dataclasses.asdict(recipe), held_out=held_out, seed=seed)
                jobs[name, seed] = pool.submit(start, sys.executable, **request)
            if torch_python:
                jobs["PyTorch", seed] = pool.submit(start_torch, torch_python, held_out, seed)
        first = next(iter(recipes))
        reference = None
        print(f"{'':42}{'loss':>8}{'deviation':>11}{'gain':>9}{'seconds':>9}{'parameters':>12}")
        for name in dict.fromkeys(name for name, _ in jobs):
            found = [jobs[name, seed].result() for seed in range(seeds)]
            losses = [result["loss"] for result in found]
            mean = statistics.mean(losses)
            deviation = statistics.stdev(losses) if seeds > 1 else float("nan")
            reference = mean if name == first else reference
            seconds = statistics.mean(result["seconds"] for result in found)
            print(
                f"{name:42}{mean:8.4f}{deviation:11.4f}{reference - mean:+9.4f}{seconds:9.0f}"
                f"{found[0]['parameters']:12,}",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ablation", action="store_true", help="one change at a time")
    parser.add_argument("--only", nargs="+", default=[], help="names of the recipes to run")
    parser.add_argument("--seeds", type=int, default=3, help="number of runs of each recipe")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs at a time")
    parser.add_argument("--torch-python", help="Python interpreter with torch and transformers")
    parser.add_argument("--torch_python", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        request = json.loads(arguments.run)
        if "data" in request:
            result = run_torch(**request)
        else:
            result = run(Recipe(**request.pop("recipe")), **request)
        print(json.dumps(result))
        return
    recipes, held_out = {"nanoGPT's settings": NANOGPT, "ours": OURS}, "last"
    if arguments.ablation:
        recipes, held_out = CHANGES, "second last"
    if arguments.only:
        recipes = {name: recipes[name] for name in arguments.only}
    compare(recipes, held_out, arguments.seeds, arguments.workers, arguments.torch_python)


if __name__ == "__main__":
    main()
