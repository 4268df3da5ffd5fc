"""Teach a poet the form of verse with GRPO, and measure gain and loss.

    python scripts/poet.py FOLDER --output poet
    python scripts/rewards_experiment.py FOLDER --model poet [--output rewards]

FOLDER holds 全唐詩, *Complete Tang Poems*, as for `poet.py`. The poet writes regulated verses of
five and of seven characters, with faults. The rule rewards one form: two or four lines of two
verses, all of seven characters, with the right marks. Such a poem has the reward 1, all others 0.

For each seed, GRPO trains a LoRA adapter from the same start. The table shows, before and after, on
first characters that GRPO did not train on: the share of poems with the reward, and what was lost.
That is the perplexity on held-out poems of five and of seven characters, and distinct-2, the share
of different pairs of neighbours among all pairs of neighbouring characters in the samples.
"""

import argparse
import collections
import json
import pathlib
import re
import time

import keras
import numpy as np
from poet import read_poems, verses

import gpt_keras as gk

LINE = r"\w{7}，\w{7}。"
SEVEN = re.compile(rf"({LINE}\n){LINE}|({LINE}\n){{3}}{LINE}")
FIVE = re.compile(SEVEN.pattern.replace("7", "5"))
NEW_TOKENS = 72  # the longest poem has 67 characters
LAYERS = ["query", "key", "value", "output", "up", "gate", "down"]


class Rule:
    """The reward of a poem: 1 if all its verses have seven characters, else 0.

    Args:
        tokenizer: The tokenizer of the prompts and the completions, which are token ids.
    """

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, prompts, completions):
        poems = [prompt + new for prompt, new in zip(prompts, completions, strict=True)]
        return [SEVEN.fullmatch(poem_of(ids, self.tokenizer)) is not None for ids in poems]


def poem_of(ids: list[int], tokenizer) -> str:
    """Return a poem without the end-of-text token before it."""
    return tokenizer.decode(ids[1:])


def distinct(texts: list[str], size: int = 2) -> float:
    """Return the share of different n-grams of characters among all n-grams of texts."""
    grams = [text[i : i + size] for text in texts for i in range(len(text) - size + 1)]
    return len(set(grams)) / max(len(grams), 1)


def measure(model, prompts: list[list[int]], held_out: dict, known: set[str]) -> dict:
    """Return what the poet does: share of poems of each form, variety, perplexity."""
    rows = model.generate(prompts, max_new_tokens=NEW_TOKENS, seed=11)
    poems = [poem_of(row, model.tokenizer) for row in rows]
    found = [verse for poem in poems for verse in verses(poem)]
    return {
        "seven": sum(SEVEN.fullmatch(poem) is not None for poem in poems) / len(poems),
        "five": sum(FIVE.fullmatch(poem) is not None for poem in poems) / len(poems),
        "ended": sum(len(row) < NEW_TOKENS + 2 for row in rows) / len(rows),
        "characters": sum(map(len, poems)) / len(poems),
        "distinct_2": distinct(poems),
        "different_poems": len(set(poems)) / len(poems),
        "copied_verses": sum(verse in known for verse in found) / max(len(found), 1),
        **{
            f"perplexity_{name}": gk.evaluation.perplexity(model, texts).perplexity
            for name, texts in held_out.items()
        },
        "samples": poems[:4],
    }


def show(name: str, row: dict) -> None:
    """Print a row of the table, and its samples."""
    numbers = [f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, float)]
    print(f"{name}: {', '.join(numbers)}")
    for poem in row["samples"]:
        print("    " + poem.replace("\n", " / "), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--model", default="poet", help="folder of the poet")
    parser.add_argument("--output", default="rewards", help="folder of the results")
    parser.add_argument("--epochs", type=int, default=6, help="passes over 64 prompts")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--beta", type=float, default=0.04)
    arguments = parser.parse_args()
    begin = time.perf_counter()

    poems = read_poems(arguments.folder)
    model = gk.CausalLM.from_preset(arguments.model)
    tokenizer = model.tokenizer
    # The split of poet.py.
    _, validation = gk.datasets.language_modeling(
        poems, tokenizer, sequence_length=64, batch_size=32, validation_fraction=0.02
    )
    stream = np.concatenate([np.array(x).reshape(-1) for x, _ in validation])
    ends = np.flatnonzero(stream == tokenizer.end_of_text_id)
    texts = {tokenizer.decode(part.tolist()[1:]) for part in np.split(stream, ends)} & {*poems}
    held_out = {
        name: [text for text in sorted(texts) if pattern.fullmatch(text)]
        for name, pattern in (("seven", SEVEN), ("five", FIVE))
    }
    known = {verse for poem in poems for verse in verses(poem)}
    common = [c for c, _ in collections.Counter(poem[0] for poem in poems).most_common(128)]
    prompts = [[tokenizer.end_of_text_id, *tokenizer.encode(c)] for c in common]
    prompts, new_prompts = prompts[::2], prompts[1::2] * 4  # 64 for training, 64 for measuring

    table = {"before": measure(model, new_prompts, held_out, known), "after": []}
    show("before", table["before"])
    for seed in range(arguments.seeds):
        keras.utils.set_random_seed(seed)
        model.enable_lora(8, LAYERS)
        grpo = gk.finetuning.GRPO(
            model, Rule(tokenizer), max_new_tokens=NEW_TOKENS, beta=arguments.beta, seed=seed
        )
        grpo.compile(gk.training.adamw(arguments.learning_rate, warmup_steps=5, weight_decay=0.0))
        history = grpo.fit(prompts, epochs=arguments.epochs, verbose=0).history
        row = measure(model, new_prompts, held_out, known)
        table["after"].append({"seed": seed, "history": history, **row})
        for name in ("reward", "kl", "completion_length"):
            print(f"seed {seed}, {name}: {' '.join(f'{value:.3g}' for value in history[name])}")
        show(f"seed {seed}, {time.perf_counter() - begin:.0f} s", row)
        model.remove_adapter()

    output = pathlib.Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    content = {"arguments": {k: str(v) for k, v in vars(arguments).items()}, **table}
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    (output / "rewards.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
