"""`gpt-keras finetune --task dpo`: from pairs of answers to a model that prefers the chosen."""

import functools
import json
import shlex

import numpy as np
import pytest

import gpt_keras as gk
from gpt_keras.models.adapters import adapted_layers

PAIRS = [
    {"prompt": f"{letter} ", "chosen": "yes.", "rejected": "no!" * (1 + i % 2)}
    for i, letter in enumerate("abcdefghijklmnopqrst")
]


@pytest.fixture
def eagerly(monkeypatch):
    """Train without a graph: tracing takes longer than a few steps."""
    compile_dpo = functools.partialmethod(gk.finetuning.DPO.compile, run_eagerly=True)
    monkeypatch.setattr(gk.finetuning.DPO, "compile", compile_dpo)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PAIRS), encoding="utf-8")
    return path


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("rank", [2, pytest.param(0, marks=pytest.mark.slow)])
def test_from_pairs_to_a_model_that_prefers(run, language_model, pairs, tmp_path, rank):
    folder = tmp_path / "new"
    options = ["--task", "dpo", "--lora-rank", rank, "--beta", 0.5, "--learning-rate", 0.01]
    options += ["--validation-fraction", 0.2, "--max-new-tokens", 5]
    code, out, err = run("finetune", language_model, pairs, folder, *options)
    assert (code, err) == (0, "")
    assert "pairs read: 20 (20 prompts)\ntrain: 16\nvalidation: 4\n" in out
    assert ("in query, value\n" in out) == bool(rank)
    assert "trained 2 steps in " in out
    assert f'to use it: gpt-keras generate {folder} "..."' in out
    before, after = (gk.GPTCausalLM.from_preset(path) for path in (language_model, folder))
    assert bool(adapted_layers(after)) == bool(rank)

    # The margin of the held-out pairs, from the scores of the saved models.
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert len(record["samples"]) == 4
    margins = []
    for sample in record["samples"]:
        rewards = []
        for name in ("chosen", "rejected"):
            prompt, answer = (before.tokenizer.encode(sample[key]) for key in ("prompt", name))
            answer = [*answer, before.tokenizer.end_of_text_id]
            new, old = (one.score(answer, prompt).sum() for one in (after, before))
            rewards.append(0.5 * (new - old))
        margins.append(rewards[0] - rewards[1])
    results, earlier = record["results"]["after"], record["results"]["before"]
    assert results["margin"] == pytest.approx(np.mean(margins), rel=1e-3)
    assert results["accuracy"] == np.mean(np.array(margins) > 0)
    assert results["loss"] == pytest.approx(np.mean(np.log1p(np.exp(-np.array(margins)))), rel=1e-4)
    assert ("kl" in results) == bool(rank)
    assert results["margin"] > 0
    assert earlier["loss"] == pytest.approx(np.log(2), abs=1e-4)
    assert f"margin {earlier['margin']:>25.4f}{results['margin']:10.4f}\n" in out
    assert record["settings"]["beta"] == 0.5

    sample = record["samples"][0]
    found = after.generate(sample["prompt"], max_new_tokens=5, temperature=0)
    assert sample["after"] == found.removeprefix(sample["prompt"])
    found = before.generate(sample["prompt"], max_new_tokens=5, temperature=0)
    assert sample["before"] == found.removeprefix(sample["prompt"])
    assert f"within 5 tokens: {4 * record['results']['stopped_before']:.0f} of 4 before" in out


BAD = """
{model} {data} new --beta 0             | `beta` must be
{model} {data} new --dropout 0.1        | `dropout` is an option of the task classification
{model} {data} new --learning-rate -1   | `learning_rate` must be
{model} {data} new --sequence-length 3  | pairs.jsonl, line 1: the answers must fit into
{model} {data} new --max-new-tokens 0   | `max_new_tokens` must be
{model} equal.jsonl new                 | equal.jsonl, line 1: `chosen` and `rejected` must differ
{model} empty.csv new                   | empty.csv, line 2
{model} chat.jsonl new                  | the row has messages, but the model has no chat_template
{model} nothing.csv new                 | There is no file 'nothing.csv'
{model} {data} {model}                  | exists already
{classifier} {data} new                 | holds a GPTClassifier
"""

FILES = {
    "equal.jsonl": '{"prompt": "a", "chosen": "b", "rejected": "b"}\n',
    "empty.csv": "prompt,chosen,rejected\na,b,\n",
    "chat.jsonl": '{"prompt": "a", "chosen": [{"role": "assistant", "content": "b"}],'
    ' "rejected": [{"role": "assistant", "content": "c"}]}\n',
}


@pytest.mark.parametrize("case", BAD.strip().split("\n"), ids=lambda case: case.split(" |")[0])
def test_bad_input_gives_one_line_before_any_training(
    run, language_model, classifier, pairs, tmp_path, monkeypatch, case
):
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(gk.finetuning.DPO, "fit", None)
    line, expected = case.rsplit("|", 1)
    line = line.format(model=language_model, data=pairs, classifier=classifier)
    code, out, err = run("finetune", *shlex.split(line), "--task", "dpo")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("gpt-keras: error: ")
    assert expected.strip() in err
    assert sorted(tmp_path.rglob("*")) == before


def test_beta_is_refused_without_preferences(run, language_model, pairs, tmp_path):
    code, _, err = run("finetune", language_model, pairs, tmp_path, "--task", "chat", "--beta", 1)
    assert code == 2
    assert (
        "`beta` is an option of the task dpo and grpo, and must be left out with the task chat"
        in err
    )
