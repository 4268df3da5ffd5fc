"""`gpt-keras finetune --task chat`: from conversations to a model that answers and stops."""

import functools
import hashlib
import io
import json
import random
import shlex

import numpy as np
import pytest
import yaml
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.models.adapters import adapted_layers

LETTERS = "abcdefghijklmnopqrst"
QUICKLY = ["--batch-size", 4, "--epochs", 1, "--max-new-tokens", 6]


@pytest.fixture
def eagerly(monkeypatch):
    """Train without a graph: tracing takes longer than a few steps."""
    compile_model = functools.partialmethod(gk.CausalLM.compile, run_eagerly=True)
    monkeypatch.setattr(gk.CausalLM, "compile", compile_model)


@pytest.fixture(scope="module")
def conversations(tmp_path_factory):
    """A file of conversations: the answer repeats the letter of the question."""
    path = tmp_path_factory.mktemp("conversations") / "said.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": c}, {"role": "assistant", "content": f"{c}."}]}
        for c in LETTERS
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def base_model(tmp_path_factory):
    """A preset folder of an untrained model of bytes, to whose tokenizer tokens can be added."""
    random.seed(1)
    tokenizer = gk.tokenizers.BytePairTokenizer.train("user assistant", 262)
    config = tiny_config(num_layers=1, vocabulary_size=tokenizer.vocabulary_size)
    model = spread_weights(gk.GPTCausalLM(config, tokenizer=tokenizer))
    folder = tmp_path_factory.mktemp("base_model") / "model"
    model.save_to_preset(folder)
    return folder


@pytest.fixture(scope="module")
def chat_model(base_model, tmp_path_factory):
    """A preset folder of a model that has a chat template already."""
    model = gk.chat.add_chatml(gk.GPTCausalLM.from_preset(base_model))
    folder = tmp_path_factory.mktemp("chat_model") / "model"
    model.save_to_preset(folder)
    return folder


def finetune(run, *arguments):
    return run("finetune", *arguments, "--task", "chat", *QUICKLY)


@pytest.mark.usefixtures("eagerly")
def test_from_conversations_to_a_model_that_chats(
    run, base_model, conversations, tmp_path, monkeypatch
):
    folder = tmp_path / "new"
    code, out, err = finetune(run, base_model, conversations, folder, "--lora-rank", 2)
    assert (code, err) == (0, "")
    assert "conversations read: 20\ntrain: 18 (" in out
    assert (
        "ChatML was added, with the new tokens <|im_start|> and <|im_end|>. The token embeddings "
        "are trained beside the adapters\n" in out
    )
    assert "in token_embedding, query, value\n" in out
    assert "trained 5 steps in " in out
    assert f"to use it: gpt-keras chat {folder}\n" in out

    model = gk.GPTCausalLM.from_preset(folder)
    assert model.chat_template == gk.chat.CHATML
    assert {path.split("/")[-1] for path in adapted_layers(model)} == {"query", "value"}

    # The held-out loss, by the saved model and by the model before training.
    start = gk.chat.add_chatml(gk.GPTCausalLM.from_preset(base_model))
    part = gk.datasets.conversations(conversations, start).validation
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    results = record["results"]
    for name, one in (("loss_before", start), ("loss_after", model)):
        total = sum(
            -one.score(ids.tolist()[1:], [ids[0]])[mask[1:]].sum()
            for ids, mask in zip(part.token_ids, part.masks)
        )
        assert results[name] == pytest.approx(total / part.num_trained, rel=1e-4)
        assert f"{results[name]:.4f} {name.split('_')[1]}" in out
    assert results["trained_tokens"] == part.num_trained == 6
    assert record["data"]["sha256"] == hashlib.sha256(conversations.read_bytes()).hexdigest()
    assert record["settings"] == yaml.safe_load((folder / "run.yaml").read_text())
    assert record["settings"].keys() >= {"task", "lora_rank", "batch_size"}
    assert "pooling" not in record["settings"]

    # The samples are what a user of the saved model reads.
    samples = record["samples"]
    assert len(samples) == results["questions"] == 2
    template = gk.chat.ChatTemplate(model.chat_template)
    stopped = 0
    for sample in samples:
        letter = sample["reference"][0]
        prompt = template.encode([{"role": "user", "content": letter}], model.tokenizer)
        assert sample["prompt"] == model.tokenizer.decode(prompt)
        assert sample["reference"] == f"{letter}."
        [found] = model.generate_with_scores(prompt, max_new_tokens=6, temperature=0)
        assert sample["after"] == model.tokenizer.decode(found.token_ids)
        stopped += len(found.token_ids) < 6
        assert " ".join(sample["before"].split()) in out
    assert results["stopped_after"] == stopped / 2
    assert f"within 6 tokens: {round(2 * results['stopped_before'])} of 2 before, {stopped} " in out
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert f"## Sample 2\n\nprompt:\n\n```text\n{samples[1]['prompt']}" in report

    # The command `chat` runs it.
    monkeypatch.setattr("sys.stdin", io.StringIO("a\n"))
    code, out, err = run("chat", folder, "--max-new-tokens", 4, "--temperature", 0)
    said = "".join(gk.chat.Conversation(model, max_new_tokens=4, temperature=0).say("a"))
    assert (code, out, err) == (0, said + "\n", "")
