"""Scripts that users run, in a short form."""

import importlib.util
import json
import pathlib
import random
import sys
import zipfile

import numpy as np
import pytest
from tiny_models import tiny_config

import gpt_keras as gk

SCRIPTS = pathlib.Path(__file__).parent.parent / "scripts"


@pytest.fixture
def load(monkeypatch):
    """Import a script, and give it its arguments."""

    def load(name, *arguments):
        path = SCRIPTS / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        return module

    return load


@pytest.mark.slow
@pytest.mark.xla
def test_the_checks_for_gpus_pass_on_a_cpu(load, capsys):
    script = load("check_gpu", "--device", "CPU", "--no-speed")
    script.SMALL = script.SMALL.replace(num_layers=1, hidden_dim=32, max_sequence_length=64)
    assert script.main() == 0
    output = capsys.readouterr().out
    assert output.splitlines()[-1] == "0 checks failed"
    assert output.count("\nok  ") >= 15


@pytest.mark.slow
def test_a_scaling_law_is_fitted_and_drawn(load, tmp_path):
    script = load("scaling_law", "--output", tmp_path, "--steps", 120, "--sizes", 3)
    script.SIZES = [(1, 16), (1, 32), (2, 32), (2, 48)]
    script.main()
    found = json.loads((tmp_path / "scaling_law.json").read_text())
    losses = [one["loss"] for one in found["runs"]]
    assert len(losses) == 3
    assert max(losses) < 4.2
    assert (tmp_path / "scaling_law.png").read_bytes().startswith(b"\x89PNG")


PAGE = """<html><body><p dir="auto">LibreOffice Help</p>
<h1 id="hd_id1" dir="auto">{0} <span>one</span></h1>
<p id="par_id2" class="paragraph"><a name="x"></a>Press <span class="switchinline"><span
hidden="true" class="MAC">Command</span><span>Ctrl</span></span>+{0}<br>now<img src="x"></p>
<table><tr><td><p id="par_id3">{0} only</p></td></tr></table>
<div class="debug"><p id="bm_module">debug</p></div></body></html>"""


def help_pages(folder, count):
    """Write pages as the packages have them; Chinese ones have one text untranslated."""
    for language in ("en-US", "zh-CN"):
        root = folder / "usr/share/libreoffice/help" / language / "text"
        root.mkdir(parents=True)
        for i in range(count):
            page = PAGE.format(f"Item{i}")
            if language == "zh-CN":
                page = page.replace("one", "一").replace("Press", "按").replace("now", "现在")
            (root / f"{i:02}.html").write_text(page, encoding="utf-8")


def test_aligned_help_pages_become_pairs(load, tmp_path):
    script = load("translation_experiment")
    help_pages(tmp_path, 3)
    script.unpack(tmp_path)  # nothing is missing
    pairs = script.read_pairs(tmp_path)
    assert pairs[:2] == [
        {"page": "00.html", "en": "Item0 one", "zh": "Item0 一"},
        {"page": "00.html", "en": "Press Ctrl+Item0 now", "zh": "按 Ctrl+Item0 现在"},
    ]
    assert len(pairs) == 6  # the third text is not translated


def test_no_text_of_a_held_out_pair_is_trained_on(load):
    script = load("translation_experiment")
    pairs = [
        {"page": f"{i % 20}", "en": f"text {i % 37}", "zh": f"文 {i % 41}"} for i in range(200)
    ]
    train, test = script.split(pairs, 0.2)
    assert {pair["page"] for pair in train}.isdisjoint(pair["page"] for pair in test)
    for language in ("en", "zh"):
        assert {pair[language] for pair in train}.isdisjoint(pair[language] for pair in test)
    assert len(train) == 160
    found = script.nearest(
        [{"en": "open the file", "zh": "甲"}, {"en": "close the window", "zh": "乙"}],
        ["the window", "a file"],
    )
    assert found == ["乙", "甲"]


@pytest.mark.slow
def test_a_translation_is_trained_and_scored(load, tmp_path, capsys):
    help_pages(tmp_path / "help", 40)
    sizes = ["--steps", 10, "--batch-size", 4, "--hidden-dim", 16, "--vocabulary-size", 300]
    script = load("translation_experiment", tmp_path / "help", "--output", tmp_path, *sizes)
    script.main()
    record = json.loads((tmp_path / "translation.json").read_text(encoding="utf-8"))
    assert set(record["scores"]) == {"copied", "nearest", "model"}
    assert 0 < record["scores"]["copied"]["bleu"] < record["scores"]["nearest"]["bleu"] <= 100
    assert len(record["samples"]) == 6  # three pages, of two pairs each
    assert "reference" in capsys.readouterr().out


@pytest.mark.soak
@pytest.mark.xla
def test_preferences_are_learned_and_cost_perplexity(load, tmp_path):
    arguments = ["--steps", 200, "--prompts", 256, "--epochs", 2, 8]
    script = load("preferences_experiment", "--output", tmp_path, *arguments)
    script.main()
    rows = json.loads((tmp_path / "preferences.json").read_text())["rows"]
    assert rows[0]["loss"] == pytest.approx(0.6931, abs=1e-4)
    assert rows[-1]["train_accuracy"] > 0.95
    assert rows[-1]["accuracy"] > 0.6
    assert rows[-1]["questions"] > rows[0]["questions"] + 0.2
    assert rows[-1]["perplexity"] > rows[0]["perplexity"]


def test_the_rule_for_poems(load, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    script = load("rewards_experiment")
    seven, five = "一二三四五六七，一二三四五六七。", "一二三四五，一二三四五。"
    tokenizer = gk.tokenizers.CharacterTokenizer("一二三四五六七，。\n", end_of_text=True)
    rewards = {
        f"{seven}\n{seven}": True,
        "\n".join([seven] * 4): True,
        seven: False,
        "\n".join([seven] * 3): False,
        f"{seven}\n{seven}\n": False,
        f"{seven}\n{five}": False,
        f"{five}\n{five}": False,
        f"{seven}\n一{seven}": False,
        f"{seven}\n{seven[:-1]}": False,
    }
    ids = [tokenizer.encode(poem) for poem in rewards]
    start = [[tokenizer.end_of_text_id, *row[:1]] for row in ids]
    found = script.Rule(tokenizer)(prompts=start, completions=[row[1:] for row in ids])
    assert found == [*rewards.values()]
    assert script.FIVE.fullmatch(f"{five}\n{five}")
    assert not script.FIVE.fullmatch(f"{seven}\n{seven}")
    assert script.distinct(["abab", "c"]) == pytest.approx(2 / 3)


@pytest.mark.slow
@pytest.mark.xla
def test_a_poet_is_rewarded(load, monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(SCRIPTS)
    letters = "天地玄黃宇宙洪荒日月盈昃"
    generator = random.Random(0)
    rows = ["".join(generator.sample(letters, 12)) for _ in range(800)]
    poems = [[f"{row[:size]}，{row[-size:]}。"] * 2 for row in rows for size in (5, 7)]
    content = json.dumps([{"paragraphs": lines} for lines in poems])
    (tmp_path / "poet.tang.0.json").write_text(content, encoding="utf-8")
    script = load(
        "rewards_experiment", tmp_path, "--model", tmp_path / "poet", "--output", tmp_path,
        "--epochs", 1, "--seeds", 2,
    )  # fmt: skip
    texts = script.read_poems(tmp_path)
    tokenizer = gk.tokenizers.CharacterTokenizer.train(texts, end_of_text=True)
    config = gk.presets.get("tiny").replace(
        vocabulary_size=tokenizer.vocabulary_size, max_sequence_length=128
    )
    gk.GPTCausalLM(config, tokenizer=tokenizer).save_to_preset(tmp_path / "poet")
    script.main()
    found = json.loads((tmp_path / "rewards.json").read_text(encoding="utf-8"))
    assert [row["seed"] for row in found["after"]] == [0, 1]
    assert {"seven", "perplexity_five", "distinct_2"} <= set(found["before"])
    assert len(found["after"][0]["history"]["reward"]) == 1
    assert "before: seven" in capsys.readouterr().out


def dialogues(folder):
    """Write the archives of dialogues, with a few texts in the form of the packages."""
    turns = [[{"text": "Hello"}, {"text": "you?"}], [{"text": "I am  fine."}], [{"text": "Good."}]]
    people = {"1": {"messages": turns}, "2": {"messages": turns}, "3": {"messages": turns[:1]}}
    people |= {f"long {i}": {"messages": [[{"text": "a" * 101}], turns[1]]} for i in range(2)}
    with zipfile.ZipFile(folder / "chitchat_dataset-0.9.0-py3-none-any.whl", "w") as file:
        file.writestr("chitchat_dataset/dataset.json", json.dumps(people))
    pairs = "".join(f"- - Say {i}\n  - {i}\n  - Why?\n" for i in range(40))
    with zipfile.ZipFile(folder / "chatterbot_corpus-1.3.3-py2.py3-none-any.whl", "w") as file:
        for name in ("english/numbers", "english/coding", "dutch/numbers"):
            content = f"categories:\n- numbers\nconversations:\n{pairs}"
            file.writestr(f"chatterbot_corpus/data/{name}.yml", content)


def test_dialogues_become_conversations(load, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    script = load("instruction_experiment")
    dialogues(tmp_path)
    people, bots = (tmp_path / name for name in script.PACKAGES)
    rows = script.read_rows(script.chitchat(people) + script.chatterbot(bots, "english"))
    assert len(rows) == 41  # equal, long and unanswered conversations are left out
    assert [message["content"] for message in rows[0]["messages"]] == ["Hello you?", "I am fine."]
    assert [message["role"] for message in rows[0]["messages"]] == ["user", "assistant"]
    with pytest.raises(ValueError, match="latin"):
        script.chatterbot(bots, "latin")
    train, test = script.split(rows + [{"messages": rows[1]["messages"]}] * 5, 30, 10)
    questions = [{row["messages"][0]["content"] for row in part} for part in (train, test)]
    assert (len(train), len(questions[1])) == (30, 10)
    assert questions[0].isdisjoint(questions[1])


@pytest.mark.slow
def test_instructions_are_tuned_and_measured(load, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(SCRIPTS)
    dialogues(tmp_path)
    tokenizer = gk.tokenizers.BytePairTokenizer.train("user assistant Instruction Response", 280)
    config = tiny_config(vocabulary_size=280, max_sequence_length=192)
    gk.GPTCausalLM(config, tokenizer=tokenizer).save_to_preset(tmp_path / "model")
    sizes = ["--conversations", 30, "--held-out", 8, "--questions", 4, "--learning-rate", 0.02]
    arguments = [tmp_path / "model", tmp_path, "--output", tmp_path / "new", *sizes]
    script = load("instruction_experiment", *arguments)
    script.main()
    record = json.loads((tmp_path / "new" / "instruction.json").read_text(encoding="utf-8"))
    table = {(row["model"], row["template"]): row for row in record["table"]}
    assert len(table) == 6
    assert len({row["tokens"] for row in record["table"]}) == 1  # the same answers
    before = table["before", "own"]["loss"]
    assert before == pytest.approx(np.log(282), abs=0.3)
    assert table["loss on answers", "own"]["loss"] < before
    assert table["loss on all tokens", "own"]["loss"] < before
    assert set(record["samples"][0]) >= {"question", "answer", "before, own template"}
    assert "stop by themselves" in capsys.readouterr().out
