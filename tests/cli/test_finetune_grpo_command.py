"""`gpt-keras finetune --task grpo`: from prompts and a reward function to a model."""

import functools
import hashlib
import json
import shlex
import sys

import numpy as np
import pytest

import gpt_keras as gk
from gpt_keras.models.adapters import adapted_layers

REWARDS = """
import letters_of_rewards

def count(prompts, completions):
    return [completion.count(letters_of_rewards.LETTER) for completion in completions]

def spelling(prompts, completions):
    assert all(prompt[-1]["role"] == "user" for prompt in prompts)
    return [sum(map(ord, completion)) % 7 for completion in completions]

def wrong(prompts, completions):
    return 1.0

def too_few(prompts):
    return [1.0]

name = "count"
"""


@pytest.fixture
def eagerly(monkeypatch):
    """Train without a graph: tracing takes longer than a few steps."""
    compile_grpo = functools.partialmethod(gk.finetuning.GRPO.compile, run_eagerly=True)
    monkeypatch.setattr(gk.finetuning.GRPO, "compile", compile_grpo)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with prompts and reward functions, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "rewards.py").write_text(REWARDS)
    (tmp_path / "letters_of_rewards.py").write_text("LETTER = 'e'\n")
    rows = "".join(json.dumps({"prompt": letter, "other": 1}) + "\n" for letter in "abcdefghhh")
    (tmp_path / "prompts.jsonl").write_text(rows)
    yield tmp_path
    for name in ("rewards", "letters_of_rewards"):
        sys.modules.pop(name, None)


# The random model has large logits: at a temperature of 1, its samples are nearly equal.
QUICKLY = ["--max-new-tokens", 4, "--validation-fraction", 0.25, "--temperature", 5]


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_from_prompts_to_a_model_with_more_reward(run, language_model, place):
    options = ["--task", "grpo", "--reward", "rewards.py:count", *QUICKLY, "--learning-rate", 0.1]
    options += ["--batch-size", 6, "--epochs", 4, "--lora-rank", 0, "--beta", 0]
    options += ["--num-generations", 16]
    code, out, err = run("finetune", language_model, "prompts.jsonl", "new", *options)
    assert (code, err) == (0, "")
    assert "different prompts: 8\ntrain: 6\nvalidation: 2\n" in out
    assert "trained 4 steps in " in out
    assert 'to use it: gpt-keras generate new "..."' in out
    record = json.loads((place / "new" / "run.json").read_text(encoding="utf-8"))
    before, after = record["results"]["before"], record["results"]["after"]
    assert after["reward"] > before["reward"]
    assert f"  reward {before['reward']:>25.4f}{after['reward']:10.4f}\n" in out
    assert record["settings"]["reward"] == "rewards.py:count"
    assert record["settings"]["beta"] == 0
    digest = hashlib.sha256((place / "rewards.py").read_bytes()).hexdigest()
    assert record["data"]["reward_sha256"] == digest
    model = gk.GPTCausalLM.from_preset("new")
    for sample in record["samples"]:
        found = model.generate(sample["prompt"], max_new_tokens=4, temperature=0)
        assert sample["after"] == found.removeprefix(sample["prompt"])
    # The held-out reward, by the saved model.
    grpo = gk.finetuning.GRPO(
        model,
        lambda prompts, completions: [text.count("e") for text in completions],
        num_generations=16,
        temperature=5,
        max_new_tokens=4,
        beta=0,
    )
    grpo.compile()
    prompts = [sample["prompt"] for sample in record["samples"]]
    found = grpo.evaluate(prompts, batch_size=6, return_dict=True, verbose=0)
    assert found["reward"] == pytest.approx(after["reward"])


@pytest.mark.usefixtures("eagerly")
def test_messages_as_prompts(run, language_model, place):
    model = gk.GPTCausalLM.from_preset(language_model)
    model.chat_template = "{% for m in messages %}{{ m.content }}, {% endfor %}"
    model.save_to_preset("model")
    messages = [[{"role": "user", "content": letter}] for letter in "abcd"]
    lines = ["prompt", *('"' + json.dumps(m).replace('"', '""') + '"' for m in messages)]
    (place / "prompts.csv").write_text("\n".join(lines) + "\n")
    options = ["--task", "grpo", "--reward", "rewards:spelling", *QUICKLY, "--lora-rank", 2]
    code, out, err = run("finetune", "model", "prompts.csv", "new", *options)
    assert (code, err) == (0, "")
    assert "to use it: gpt-keras chat new\n" in out
    [sample] = json.loads((place / "new" / "run.json").read_text())["samples"]
    assert sample["prompt"] in ("a, ", "b, ", "c, ", "d, ")
    adapters = adapted_layers(gk.GPTCausalLM.from_preset("new"))
    assert len(adapters) == 2
    assert all(np.abs(layer.lora_kernel_b).max() > 0 for layer in adapters.values())


BAD = """
{model} {data} new                                       | `reward` must be given: module:function
{model} {data} new --reward count                        | must be module:function or file.py:function
{model} {data} new --reward rewards.py:                  | must be module:function or file.py:function
{model} {data} new --reward nothing.py:count             | there is no file 'nothing.py'
{model} {data} new --reward nothing.at.all:count         | there is no module 'nothing.at.all'
{model} {data} new --reward rewards.py:missing           | rewards.py has no 'missing'
{model} {data} new --reward rewards:name                 | rewards has no 'name'
{model} {data} new --reward rewards:too_few              | reward_function(prompts=..., completions=...)
{model} {data} new {count} --num-generations 1           | `num_generations` must be at least 2
{model} {data} new {count} --temperature 0               | `temperature` must be
{model} {data} new {count} --beta -1                     | `beta` must be
{model} {data} new {count} --max-new-tokens 48           | must leave room for max_new_tokens=48
{model} {data} new {count} --sequence-length 9           | `sequence_length` is an option of the task
{model} {data} new {count} --validation-fraction 0.01    | The validation part is empty
{model} {data} new {count} --validation-fraction 1       | `validation_fraction` must be
{model} {data} new {count} --learning-rate 0 --max-new-tokens 9 | `learning_rate` must be
{model} nothing.csv new {count}                          | There is no file 'nothing.csv'
{model} other.csv new {count}                            | there is no column 'prompt'
{model} empty.csv new {count}                            | empty.csv must have rows with prompts
{model} gap.jsonl new {count}                            | gap.jsonl, line 2: `prompt` must be a text
{model} mixed.jsonl new {count}                          | mixed.jsonl, line 2: all prompts must be texts
{model} broken.csv new {count}                           | broken.csv, line 2: `prompt` is broken JSON
{model} capital.jsonl new {count}                        | does not know: ['A']
{classifier} {data} new {count}                          | holds a GPTClassifier
"""  # noqa: E501

FILES = {
    "other.csv": "text\na\n",
    "empty.csv": "prompt\n",
    "gap.jsonl": '{"prompt": "a"}\n{"prompt": ""}\n',
    "mixed.jsonl": '{"prompt": "a"}\n{"prompt": [{"role": "user", "content": "a"}]}\n',
    "broken.csv": "prompt\n[{role\n",
    "capital.jsonl": "".join(f'{{"prompt": "A{i}"}}\n' for i in "abcdefghijkl"),
}


@pytest.mark.parametrize("case", BAD.strip().split("\n"), ids=lambda case: case.split(" |")[0])
def test_bad_input_gives_one_line_before_any_training(
    run, language_model, classifier, place, monkeypatch, case
):
    for name, content in FILES.items():
        (place / name).write_text(content)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = sorted(place.rglob("*"))
    monkeypatch.setattr(gk.finetuning.GRPO, "fit", None)
    monkeypatch.setattr(gk.finetuning.GRPO, "evaluate", None)
    line, expected = case.rsplit("|", 1)
    names = {"model": language_model, "data": "prompts.jsonl", "classifier": classifier}
    line = line.format(count="--reward rewards.py:count", **names)
    code, out, err = run("finetune", *shlex.split(line), "--task", "grpo")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("gpt-keras: error: ")
    assert expected.strip() in err
    assert sorted(place.rglob("*")) == before


@pytest.mark.usefixtures("eagerly")
def test_a_wrong_reward_is_found_before_training(run, language_model, place):
    options = ["--task", "grpo", "--reward", "rewards.py:wrong", *QUICKLY]
    code, _, err = run("finetune", language_model, "prompts.jsonl", "new", *options)
    assert (code, "must return 16 numbers, one for each completion, got 1.0" in err) == (2, True)
    assert not (place / "new").exists()
