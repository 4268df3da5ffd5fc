"""Train a GPT on regulated Tang verse, sample poems, and count copied verses.

    python scripts/poet.py FOLDER [--output poet] [--steps 1800]

FOLDER holds `poet.tang.*.json` of 全唐詩, *Complete Tang Poems*, as the npm package chinese-poetry
2.0.1 has them in `dist/quantangshi` (`npm pack chinese-poetry` fetches it). The script keeps the
poems of four or eight lines with five or seven characters each.
"""

import argparse
import collections
import json
import pathlib
import re

import keras

import gpt_keras as gk

# Characters that occur more rarely cannot be learned.
FEWEST = 5


def read_poems(folder: pathlib.Path) -> list[str]:
    """Return the regulated poems, each a text with two verses in a line."""
    poems = []
    for path in sorted(folder.glob("poet.tang.*.json")):
        for poem in json.loads(path.read_text(encoding="utf-8")):
            lines = [line.strip() for line in poem["paragraphs"]]
            # 12 and 16: two verses of five or seven characters, each with its mark.
            if len(lines) in (2, 4) and {len(line) for line in lines} in ({12}, {16}):
                poems.append("\n".join(lines))
    poems = list(dict.fromkeys(poems))
    counts = collections.Counter("".join(poems))
    return [poem for poem in poems if min(counts[character] for character in poem) >= FEWEST]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--output", default="poet", help="preset folder to write")
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--hidden-dim", type=int, default=192)
    arguments = parser.parse_args()

    keras.utils.set_random_seed(0)
    poems = read_poems(arguments.folder)
    tokenizer = gk.tokenizers.CharacterTokenizer.train(poems, end_of_text=True)
    train, validation = gk.datasets.language_modeling(
        poems, tokenizer, sequence_length=64, batch_size=32, validation_fraction=0.02
    )
    config = gk.presets.nano.nano(
        arguments.hidden_dim,
        vocabulary_size=tokenizer.vocabulary_size,
        max_sequence_length=128,
        dropout=0.1,
    )
    print(f"{len(poems):,} poems, {config.num_parameters:,} parameters")
    model = gk.GPTCausalLM(config, tokenizer=tokenizer)
    model.compile(gk.training.muon(total_steps=arguments.steps))
    model.fit(
        train.repeat(),
        steps_per_epoch=arguments.steps // 6,
        epochs=6,
        validation_data=validation,
        callbacks=[
            gk.callbacks.CompileNotice(),
            gk.callbacks.Throughput(),
            gk.callbacks.SampleText("春", max_new_tokens=63, temperature=0.7),
        ],
        verbose=2,
    )
    model.save_to_preset(arguments.output)

    known = {verse for poem in poems for verse in verses(poem)}
    for prompt in "春秋山江月":
        for seed in range(4):
            poem = model.generate(prompt, max_new_tokens=63, temperature=0.7, seed=seed)
            copied = sum(verse in known for verse in verses(poem))
            print(f"--- {prompt}, seed {seed}: {copied} verses are in the training data\n{poem}")


def verses(poem: str) -> list[str]:
    """Return the verses of a poem without their marks."""
    return [verse for verse in re.split(r"\W+", poem) if verse]


if __name__ == "__main__":
    main()
