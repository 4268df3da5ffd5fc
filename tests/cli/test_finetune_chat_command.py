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


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 8])
def test_a_model_without_a_template_learns_to_answer_and_to_stop(
    run, base_model, conversations, tmp_path, monkeypatch, rank
):
    compile_model = functools.partialmethod(gk.CausalLM.compile, jit_compile=False)
    monkeypatch.setattr(gk.CausalLM, "compile", compile_model)
    options = ["--lora-rank", rank, "--learning-rate", 0.03, "--epochs", 8, "--batch-size", 2]
    options += ["--task", "chat"]
    code, out, err = run("finetune", base_model, conversations, tmp_path / "new", *options)
    assert (code, err) == (0, "")
    assert "ChatML was added, with the new tokens <|im_start|> and <|im_end|>" in out
    assert ("(100.00%)" in out) == (rank == 0)
    assert "within 24 tokens: 0 of 2 before, 2 after" in out
    model = gk.GPTCausalLM.from_preset(tmp_path / "new")
    said = ["".join(gk.chat.Conversation(model, temperature=0).say(c)) for c in "abc"]
    assert [text[1:] for text in said] == [".", ".", "."]  # and the letter is one of many


@pytest.mark.usefixtures("eagerly")
def test_a_model_with_a_template_trains_only_its_adapters(run, chat_model, conversations, tmp_path):
    adapted = gk.GPTCausalLM.from_preset(chat_model)
    adapted.enable_lora(1)
    spread_weights(adapted)
    adapted.save_to_preset(tmp_path / "adapted")  # its adapters become a part of the model
    folder, options = tmp_path / "new", ["--lora-rank", 2, "--target-layer-names", "up"]
    code, out, err = finetune(run, tmp_path / "adapted", conversations, folder, *options)
    assert (code, err) == (0, "")
    assert "ChatML" not in out
    assert "in up\n" in out
    adapted.merge_adapter()
    before = {variable.path: np.array(variable) for variable in adapted.weights}
    model = gk.GPTCausalLM.from_preset(folder)
    after = {variable.path: np.array(variable) for variable in model.weights}
    assert len(after) == len(before) + 2
    for path, value in before.items():
        np.testing.assert_allclose(after[path], value, atol=1e-6, err_msg=path)


@pytest.mark.usefixtures("eagerly")
def test_without_a_held_out_part_nothing_is_measured(run, chat_model, conversations, tmp_path):
    options = ["--validation-fraction", 0, "--lora-rank", 1]
    code, out, _ = finetune(run, chat_model, conversations, tmp_path / "new", *options)
    assert (code, "held-out" in out, "answers that stop" in out) == (0, False, False)
    record = json.loads((tmp_path / "new" / "run.json").read_text())
    assert record.keys().isdisjoint({"results", "samples"})


@pytest.mark.usefixtures("eagerly")
def test_long_conversations_lose_turns_and_long_questions_are_not_asked(run, chat_model, tmp_path):
    def said(*contents):
        roles = ("user", "assistant") * 3
        return {"messages": [{"role": r, "content": c} for r, c in zip(roles, contents)]}

    rows = [said("a" * 30, "b", c, f"{c}.") for c in LETTERS] + [said("c" * 60, "d")]
    file = tmp_path / "long.json"
    file.write_text(json.dumps(rows))
    options = ["--sequence-length", 30, "--max-new-tokens", 24, "--lora-rank", 1]
    options += ["--validation-fraction", 0.5, "--epochs", 1]
    code, out, err = run("finetune", chat_model, file, tmp_path / "new", "--task", "chat", *options)
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith("gpt-keras: warning: 20 of 21 conversations have more than 30 input")
    assert "shortened: 20 (20 exchanges dropped)\ndropped, last exchange over the length: 1" in out
    assert "within 24 tokens: " in out


BAD = """
{model} {data} new --pooling last           | `pooling` is an option of the task classification
{model} {data} new --text question          | must be left out with the task chat; got 'question'
{model} {data} new --freeze-backbone true   | `freeze_backbone` is an option of the task
{model} {data} new --test-fraction 0        | `test_fraction` is an option
{model} {data} new --lora-rank -1           | `lora_rank` must be at least 0, got -1
{model} {data} new --lora-rank 0 --lora-alpha 2 | `lora_alpha` needs a `lora_rank`
{model} {data} new --target-layer-names x9  | matches none
{model} {data} new --epochs 0               | `epochs` must be
{model} {data} new --batch-size 0           | `batch_size` must be
{model} {data} new --max-new-tokens 0       | `max_new_tokens` must be
{model} {data} new --learning-rate -1       | `learning_rate` must be
{model} {data} new --sequence-length 49     | `sequence_length` must be at most 48
{model} {data} new --sequence-length 0      | `sequence_length` must be
{model} {data} new --sequence-length 9      | its last exchange has more than 9 tokens
{model} {data} new --validation-fraction 1  | `validation_fraction` must be
{model} {data} new --validation-fraction 0.001 | The validation part is empty
{model} {data} new --seed -1                | `seed` must be
{model} {data} {model}                      | exists already
{model} nothing.jsonl new                   | There is no file 'nothing.jsonl'
{model} broken.jsonl new                    | broken.jsonl, line 2: broken JSON
{model} table.csv new                       | table.csv, line 2: a row must have `messages`
{model} silent.jsonl new                    | silent.jsonl, line 2: there must be an answer
{model} roles.jsonl new                     | roles.jsonl, line 1: message 0 has an unknown role
{model} tools.jsonl new                     | ChatML has no form for tool
nothing {data} new                          | got 'nothing'
{classifier} {data} new                     | holds a GPTClassifier, which is fine-tuned already
letters {data} new                          | cannot
bare {data} new                             | `model` must have a tokenizer, but 'bare' has none
"""

HELLO = '{"messages": [{"role": "user", "content": "hi"}'
GOOD = HELLO + ', {"role": "assistant", "content": "yes"}]}\n'
FILES = {
    "broken.jsonl": GOOD + '{"messages":\n',
    "table.csv": "text,label\na,b\n",
    "silent.jsonl": GOOD + HELLO + "]}\n",
    "roles.jsonl": '{"messages": [{"role": "poet", "content": "hi"}]}\n',
    "tools.jsonl": GOOD[:-2] + ', "tools": [{"name": "clock"}]}\n',
}


@pytest.mark.parametrize("case", BAD.strip().split("\n"), ids=lambda case: case.split(" |")[0])
def test_bad_input_gives_one_line_before_any_training(
    run, base_model, language_model, classifier, conversations, tmp_path, monkeypatch, case
):
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    if case.startswith("letters"):  # a tokenizer that cannot get the tokens of ChatML
        gk.CausalLM.from_preset(language_model).save_to_preset("letters")
    if case.startswith("bare"):
        gk.CausalLM(gk.CausalLM.from_preset(base_model).backbone).save_to_preset("bare")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(gk.CausalLM, "fit", None)
    monkeypatch.setattr(gk.CausalLM, "evaluate", None)
    line, expected = case.rsplit("|", 1)
    line = line.format(model=base_model, data=conversations, classifier=classifier)
    code, out, err = run("finetune", *shlex.split(line), "--task", "chat")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("gpt-keras: error: ")
    assert expected.strip() in err
    assert sorted(tmp_path.rglob("*")) == before


def test_an_option_of_chat_is_refused_for_a_classifier(run, base_model, table, tmp_path):
    code, _, err = run("finetune", base_model, table, tmp_path / "a", "--max-new-tokens", 9)
    assert (code, "`max_new_tokens` is an option of the task chat" in err) == (2, True)
