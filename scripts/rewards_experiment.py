"""Teach a poet the form of verse with GRPO, and measure gain and loss.

    python scripts/poet.py FOLDER --output poet
    python scripts/rewards_experiment.py FOLDER --model poet [--output rewards]

FOLDER holds 全唐詩, *Complete Tang Poems*, as for `poet.py`. The poet continues a first character.
It read poems from their middle in training too, so its first verse often lacks characters. The rule
rewards the form only: lines of two verses, both of five or both of seven characters, with the right
marks. A poem of two or four such lines of one length has the reward 1. Another text of two or four
lines has half the share of its regular lines, and any other text has 0.

For each seed, GRPO trains a LoRA adapter from the same start. The table shows, before and after, on
characters that GRPO did not train on: the reward and the share of regular poems, and what was lost:
perplexity on held-out poems, and distinct-2, the share of different pairs of neighbours among all
pairs of neighbouring characters in the samples.
"""

import argparse
import collections
import json
import pathlib
import re
import time

import keras
from poet import read_poems, verses

import gpt_keras as gk

LINE = re.compile(r"(?P<five>\w{5}，\w{5}。)|(?P<seven>\w{7}，\w{7}。)")
NEW_TOKENS = 72  # the longest poem has 67 characters
LAYERS = ["query", "key", "value", "output", "up", "gate", "down"]


def is_regular(poem: str) -> bool:
    """Return whether a poem has two or four regular lines of one length."""
    kinds = [match and match.lastgroup for match in map(LINE.fullmatch, poem.split("\n"))]
    return len(kinds) in (2, 4) and None not in kinds and len(set(kinds)) == 1


def reward_of(poem: str) -> float:
    """Return 1 for a regular poem, else half the share of its regular lines, or 0."""
    lines = poem.split("\n")
    if is_regular(poem):
        return 1.0
    # Without this condition, the poet learned to add regular lines to an irregular first line.
    if len(lines) not in (2, 4):
        return 0.0
    return 0.5 * sum(LINE.fullmatch(line) is not None for line in lines) / len(lines)


def reward(prompts: list[str], completions: list[str]) -> list[float]:
    """Return the rewards of poems: each is its first character with the completion."""
    return [
        reward_of(prompt + completion)
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def distinct(texts: list[str], size: int = 2) -> float:
    """Return the share of different n-grams of characters among all n-grams of texts."""
    grams = [text[i : i + size] for text in texts for i in range(len(text) - size + 1)]
    return len(set(grams)) / max(len(grams), 1)


def measure(model, prompts: list[str], validation, known: set[str]) -> dict:
    """Return what the poet can do: rewards of new poems, variety, perplexity."""
    poems = model.generate(prompts, max_new_tokens=NEW_TOKENS, seed=11)
    found = [verse for poem in poems for verse in verses(poem)]
    return {
        "reward": sum(map(reward_of, poems)) / len(poems),
        "regular": sum(map(is_regular, poems)) / len(poems),
        "ended": sum(len(poem) <= NEW_TOKENS for poem in poems) / len(poems),
        "characters": sum(map(len, poems)) / len(poems),
        "distinct_2": distinct(poems),
        "copied_verses": sum(verse in known for verse in found) / max(len(found), 1),
        "perplexity": model.evaluate(validation, verbose=0, return_dict=True)["perplexity"],
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
    parser.add_argument("--epochs", type=int, default=10, help="passes over 64 prompts")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--beta", type=float, default=0.04)
    arguments = parser.parse_args()
    begin = time.perf_counter()

    poems = read_poems(arguments.folder)
    model = gk.CausalLM.from_preset(arguments.model)
    model.compile()
    # The split of poet.py.
    _, validation = gk.datasets.language_modeling(
        poems, model.tokenizer, sequence_length=64, batch_size=32, validation_fraction=0.02
    )
    known = {verse for poem in poems for verse in verses(poem)}
    common = [c for c, _ in collections.Counter(poem[0] for poem in poems).most_common(128)]
    prompts, new_prompts = common[::2], common[1::2]  # 64 for training, 64 for the measurements

    table = {"before": measure(model, new_prompts * 4, validation, known), "after": []}
    show("before", table["before"])
    # The poet can do without training if it knows that a poem begins.
    start = [model.tokenizer.end_of_text_id]
    rows = [start + model.tokenizer.encode(prompt) for prompt in new_prompts * 4]
    rows = model.generate(rows, max_new_tokens=NEW_TOKENS, seed=11)
    started = [model.tokenizer.decode(row[1:]) for row in rows]
    table["regular_after_end_token"] = sum(map(is_regular, started)) / len(started)
    print(f"with an end-of-text token before it: {table['regular_after_end_token']:.4g} regular")

    for seed in range(arguments.seeds):
        keras.utils.set_random_seed(seed)
        model.enable_lora(8, LAYERS)
        grpo = gk.finetuning.GRPO(
            model, reward, max_new_tokens=NEW_TOKENS, beta=arguments.beta, seed=seed
        )
        grpo.compile(gk.training.adamw(arguments.learning_rate, warmup_steps=5, weight_decay=0.0))
        history = grpo.fit(prompts, epochs=arguments.epochs, verbose=0).history
        model.compile()
        row = measure(model, new_prompts * 4, validation, known)
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
