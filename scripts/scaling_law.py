"""Scaling law: train GPTs of eight sizes and fit the loss against the size.

    python scripts/scaling_law.py [--output DIRECTORY] [--steps 1500]

Writes `scaling_law.json` (each size with its loss, the fit and its residuals) and
`scaling_law.png`. The law is loss = floor + scale * N^-exponent, where N is the number of
parameters without embeddings (Kaplan et al. 2020, section 3.2, with the floor of Hoffmann et al.
2022, section 3.3). All sizes train on the same batches of the bundled plays in the same order. The
loss is measured on a held-out play.
"""

import argparse
import json
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import gpt_keras as gk

# Layers and width. Each head has a width of 16.
SIZES = [(1, 32), (2, 32), (2, 48), (3, 64), (3, 96), (4, 128), (5, 160), (6, 208)]
LENGTH, BATCH = 64, 24


def train(size: tuple[int, int], steps: int, data, validation, tokenizer) -> dict[str, float]:
    num_layers, width = size
    keras.utils.set_random_seed(0)
    config = gk.GPTConfig(
        vocabulary_size=tokenizer.vocabulary_size,
        max_sequence_length=LENGTH,
        num_layers=num_layers,
        num_heads=width // 16,
        hidden_dim=width,
    )
    model = gk.GPTCausalLM(config)
    # Smaller models train stably with higher learning rates.
    rate = 3e-3 * (64 / width) ** 0.5
    model.compile(gk.training.adamw(rate, total_steps=steps, final_learning_rate=0.0))
    began = time.perf_counter()
    model.fit(data.repeat(), steps_per_epoch=steps, verbose=0)
    loss = model.evaluate(validation, verbose=0)[0]
    embeddings = (tokenizer.vocabulary_size + LENGTH) * width
    return {
        "layers": num_layers,
        "width": width,
        "parameters": config.num_parameters - embeddings,
        "loss": float(loss),
        "seconds": time.perf_counter() - began,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", default="scaling_law", help="directory to write to")
    parser.add_argument("--steps", type=int, default=1500, help="training steps of each size")
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="number of sizes to train")
    arguments = parser.parse_args()
    folder = pathlib.Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    documents = gk.datasets.corpora.load("shakespeare")
    tokenizer = gk.tokenizers.CharacterTokenizer.train(documents)
    data, validation = gk.datasets.language_modeling(
        documents, tokenizer, sequence_length=LENGTH, batch_size=BATCH
    )
    runs = []
    print(f"{'layers':>7}{'width':>7}{'parameters':>12}{'loss':>9}{'seconds':>9}")
    for size in SIZES[: arguments.sizes]:
        run = train(size, arguments.steps, data, validation, tokenizer)
        runs.append(run)
        print(
            f"{run['layers']:7}{run['width']:7}{run['parameters']:12,}{run['loss']:9.4f}"
            f"{run['seconds']:9.0f}",
            flush=True,
        )
    parameters, losses = (np.array([run[name] for run in runs]) for name in ("parameters", "loss"))
    law = gk.evaluation.fit_power_law(parameters, losses)
    residuals = losses - law(parameters)
    print(f"loss = {law.floor:.3f} + {law.scale:.3g} * N^-{law.exponent:.3f}")
    print("residuals:", " ".join(f"{residual:+.4f}" for residual in residuals))
    result = {
        "steps": arguments.steps,
        "tokens": arguments.steps * BATCH * LENGTH,
        "runs": runs,
        "law": law._asdict(),
        "residuals": residuals.tolist(),
    }
    (folder / "scaling_law.json").write_text(json.dumps(result, indent=2) + "\n")
    gk.plots.scaling_law(parameters, losses, law).savefig(folder / "scaling_law.png", dpi=150)
    print(f"wrote {folder}/scaling_law.json and {folder}/scaling_law.png")


if __name__ == "__main__":
    main()
