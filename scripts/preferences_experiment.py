"""Teach a small GPT a preference with DPO, and measure the gain and the loss.

    python scripts/preferences_experiment.py [--output preferences] [--full]

A GPT is trained on exchanges of two speeches in Shakespeare's plays. It then answers speeches,
four times each. The stated rule: of two answers to one speech, the one with more question marks is
better. The rule makes pairs, and DPO trains a LoRA adapter on them (with `--full`, all weights).
The table shows margin and accuracy on pairs with other prompts, the share of new answers that ask a
question, and the perplexity on a play that the model has not read. The last rows train too long.
"""

import argparse
import json
import pathlib
import re
import time

import keras
import numpy as np

import gpt_keras as gk

SPEAKER = re.compile(r"[A-Z][A-Z .']*\.")
LONGEST = 240  # characters of a speech
NEW_TOKENS = 64


def exchanges(play: str) -> list[tuple[str, str]]:
    """Return prompts (a speech and the name of the next speaker), and answers."""
    found, before = [], None
    for block in play.split("\n\n"):
        name, _, speech = block.partition("\n")
        is_speech = SPEAKER.fullmatch(name) and 0 < len(speech) <= LONGEST and "[" not in speech
        if is_speech and before is not None:
            found.append((f"{before}\n\n{name}\n", speech))
        before = block if is_speech else None
    return found


def answers(model, prompts: list[str], seed: int) -> list[str | None]:
    """Return one sampled answer to each prompt; None if it did not end by itself."""
    rows = [model.tokenizer.encode(prompt) for prompt in prompts]
    found = []
    for start in range(0, len(rows), 128):
        batch = rows[start : start + 128]
        texts = model.generate(
            batch, max_new_tokens=NEW_TOKENS, seed=seed + start, cache_length=256
        )
        for row, text in zip(batch, texts):
            new = text[len(row) :]
            found.append(model.tokenizer.decode(new) if 0 < len(new) < NEW_TOKENS else None)
    return found


def pairs_by_rule(prompts: list[str], samples: list[list[str | None]]) -> list[dict[str, str]]:
    """Return pairs: the answers with the most and with the fewest question marks."""
    pairs = []
    for prompt, found in zip(prompts, zip(*samples)):
        ended = sorted((a for a in found if a and a.strip()), key=lambda a: a.count("?"))
        if len(ended) > 1 and ended[-1].count("?") > ended[0].count("?"):
            pairs.append({"prompt": prompt, "chosen": ended[-1], "rejected": ended[0]})
    return pairs


def share_of_questions(found: list[str | None]) -> tuple[float, float]:
    """Return the share of answers that ended, and the share of questions among them."""
    ended = [answer for answer in found if answer]
    return len(ended) / len(found), float(np.mean(["?" in answer for answer in ended] or [0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="preferences", help="folder of the results")
    parser.add_argument("--steps", type=int, default=500, help="steps of the first training")
    parser.add_argument("--prompts", type=int, default=640, help="prompts that make pairs")
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--full", action="store_true", help="train all weights, without LoRA")
    arguments = parser.parse_args()
    begin = time.perf_counter()
    keras.utils.set_random_seed(0)

    *plays, last = [exchanges(play) for play in gk.datasets.corpora.load("shakespeare")]
    texts = [prompt + answer for play in plays for prompt, answer in play]
    tokenizer = gk.tokenizers.BytePairTokenizer.train(texts, 1024)
    config = gk.presets.nano.nano(
        128, vocabulary_size=tokenizer.vocabulary_size, max_sequence_length=256
    )
    model = gk.GPTCausalLM(config, tokenizer=tokenizer)
    train, _ = gk.datasets.language_modeling(texts, tokenizer, sequence_length=128, batch_size=16)
    model.compile(gk.training.muon(total_steps=arguments.steps))
    model.fit(train.repeat(), steps_per_epoch=arguments.steps, verbose=2)
    print(f"{len(texts):,} exchanges, {time.perf_counter() - begin:.0f} s")

    prompts = list(dict.fromkeys(prompt for play in plays for prompt, _ in play))
    order = np.random.default_rng(0).permutation(len(prompts))
    prompts = [prompts[i] for i in order[: arguments.prompts]]
    samples = [answers(model, prompts, seed) for seed in range(1000, 5000, 1000)]
    rows = pairs_by_rule(prompts, samples)
    data = gk.datasets.preferences(rows, model, validation_fraction=0.25)
    print(f"{data.report}\n{time.perf_counter() - begin:.0f} s")

    new_prompts = [prompt for prompt, _ in last[:128]]
    held_out = [prompt + answer for prompt, answer in last]
    if not arguments.full:
        model.enable_lora(8, ["query", "key", "value", "output", "up", "gate", "down"])
    dpo = gk.finetuning.DPO(model, arguments.beta)
    train, validation = data.train, data.validation
    if arguments.full:
        train, validation = dpo.with_reference(train), dpo.with_reference(validation)
    # One length of batches: XLA compiles the step once, which takes longer than the padding.
    train = train.batches(8, seed=0, num_lengths=1)
    validation = validation.batches(8, num_lengths=1)
    rate = 1e-4 if arguments.full else 1e-3
    dpo.compile(gk.training.adamw(rate, warmup_steps=20, weight_decay=0.0))

    table, done = [], 0
    for epochs in [0, *arguments.epochs]:
        fitted = {}
        if epochs:
            history = dpo.fit(train, initial_epoch=done, epochs=epochs, verbose=0).history
            fitted = {"train_accuracy": history["accuracy"][-1]}
            done = epochs
        found = dpo.evaluate(validation, verbose=0, return_dict=True)
        new = answers(model, new_prompts, 7)
        ended, questions = share_of_questions(new)
        perplexity = gk.evaluation.perplexity(model, held_out).perplexity
        row = {"epochs": done, **fitted, **found, "perplexity": perplexity}
        row |= {"ended": ended, "questions": questions}
        row["sample"] = next((answer for answer in new if answer), None)
        table.append(row)
        shown = [f"{k} {v:.3g}" for k, v in row.items() if isinstance(v, float)]
        print(f"epoch {done}: {', '.join(shown)}\n    {row['sample']!r}", flush=True)
    output = pathlib.Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    content = {"arguments": vars(arguments), "counts": data.report.counts, "rows": table}
    (output / "preferences.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
