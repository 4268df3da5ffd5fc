"""`gpt-keras finetune`: from a table to a classifier with a record."""

import hashlib
import json
import os
import shlex
import signal
import time

import keras
import numpy as np
import pytest
import yaml
from tiny_models import spread_weights

import gpt_keras as gk
from gpt_keras.models.task_model import TaskModel

COLUMNS = ["--text", "review", "--label", "verdict"]


def weights(model):
    return {variable.path: np.array(variable) for variable in model.weights}


@pytest.mark.usefixtures("eagerly")
def test_from_a_table_to_a_classifier(run, language_model, table, tmp_path):
    folder = tmp_path / "made" / "classifier"
    options = ["--lora-rank", 3, "--lora-alpha", 6, "--target-layer-names", "query", "key"]
    options += ["--epochs", 2, "--batch-size", 14, "--test-fraction", 0.2]
    code, out, err = run("finetune", language_model, table, folder, *COLUMNS, *options)
    assert (code, err) == (0, "")
    assert "rows read: 20\ntrain: 14 (bad 7, good 7)\nvalidation: 2 (bad 1, good 1)\n" in out
    assert "rows over the length (truncated): 0" in out
    # One layer of width 16: two adapters of (16 + 16) x 3, the head 16 x 2 + 2.
    assert "trained: 226 of " in out
    assert "in query, key, head\n" in out
    assert "trained 2 steps in " in out
    assert f'to use it: gpt-keras classify {folder} "..."' in out
    written = sorted(folder.iterdir())
    assert [path.name for path in written] == [
        "checkpoints",
        "config.json",
        "model.weights.h5",
        "report.md",
        "run.json",
        "run.yaml",
        "tokenizer.json",
        "training.png",
    ]
    assert all(f"wrote {path} (" in out for path in written)

    model = gk.GPTClassifier.from_preset(folder)
    assert model.class_names == ("bad", "good")
    before = weights(gk.GPTCausalLM.from_preset(language_model).backbone)
    after = weights(model.backbone)
    assert len(after) == len(before) + 4  # the factors of two adapters
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
    assert any(after[name].any() for name in after if "lora_kernel_b" in name)

    # The saved model has the printed scores, counted by hand.
    data = gk.datasets.classification(table, text="review", label="verdict", test_fraction=0.2)
    texts, labels = data.test
    labels = [model.class_names[label] for label in labels]
    found = [label for label, _ in model.classify(texts)]
    accuracy = np.mean([a == b for a, b in zip(labels, found)])
    assert "test, 4 rows in " in out
    assert f"accuracy {accuracy:.3f}" in out
    record = json.loads((folder / "run.json").read_text())
    assert record["finished"]
    assert record["results"]["part"] == "test"
    assert record["results"]["accuracy"] == accuracy
    assert record["results"]["confusion_matrix"] == [
        [sum(pair == (a, b) for pair in zip(labels, found)) for b in ("bad", "good")]
        for a in ("bad", "good")
    ]
    assert "macro_f1" in (folder / "report.md").read_text()
    assert record["data"]["sha256"] == hashlib.sha256(table.read_bytes()).hexdigest()
    assert record["settings"] == yaml.safe_load((folder / "run.yaml").read_text())
    assert len(record["history"]["val_accuracy"]) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_the_settings_of_a_run_repeat_it(run, language_model, table, tmp_path):
    folder, again = tmp_path / "first", tmp_path / "again"
    options = ["--lora-rank", 3, "--epochs", 2, "--batch-size", 14]
    assert run("finetune", language_model, table, folder, *COLUMNS, *options)[0] == 0
    settings = ["--config", folder / "run.yaml", language_model, table, again]
    assert run("finetune", *settings)[0] == 0
    first, repeated = (weights(gk.GPTClassifier.from_preset(path)) for path in (folder, again))
    for name, value in first.items():
        np.testing.assert_array_equal(repeated[name], value, err_msg=name)


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_all_weights_learn_what_the_table_says(run, language_model, table, tmp_path):
    options = ["--lora-rank", 0, "--epochs", 6, "--learning-rate", 0.02, "--test-fraction", 0.2]
    options += ["--batch-size", 16, "--validation-fraction", 0, "--pooling", "extract"]
    code, out, err = run("finetune", language_model, table, tmp_path / "a", *COLUMNS, *options)
    assert (code, err) == (0, "")
    assert "(100.00%)" in out
    assert "accuracy 1.000" in out
    assert gk.GPTClassifier.from_preset(tmp_path / "a").pooling == "extract"


@pytest.mark.usefixtures("eagerly")
def test_the_head_alone_on_ready_made_splits_of_pairs(run, language_model, tmp_path):
    row = '{"premise": "%s", "hypothesis": "%s", "entails": %d}\n'
    for name, letters in (("train", "abcd"), ("val", "ef"), ("test", "gha")):
        rows = [row % (i, i if same else i + i, same) for i in letters for same in (0, 1)]
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    columns = ["--text", "premise", "--text-pair", "hypothesis", "--label", "entails"]
    splits = ["--validation", tmp_path / "val.jsonl", "--test", tmp_path / "test.jsonl"]
    options = ["--freeze-backbone", "true", "--epochs", 1, "--class-weight", "balanced"]
    options += ["--layout", "similarity", "--sequence-length", 2 + 1]
    data, folder = tmp_path / "train.jsonl", tmp_path / "new"
    code, out, err = run("finetune", language_model, data, folder, *columns, *splits, *options)
    assert code == 0
    assert err.count("\n") == 1
    assert err.startswith("gpt-keras: warning: 2 rows were dropped, because a later table")
    assert "train: 6 (0 3, 1 3)\nvalidation: 4 (0 2, 1 2)\ntest: 6 (0 3, 1 3)\n" in out
    assert "a validation or test file has the text: 2" in out
    assert "rows over the length (truncated): 8" in out
    assert "trained: 34 of " in out
    assert "in head\n" in out
    model = gk.GPTClassifier.from_preset(folder)
    assert (model.layout, model.max_sequence_length) == ("similarity", 3)
    for name, value in weights(gk.GPTCausalLM.from_preset(language_model).backbone).items():
        np.testing.assert_array_equal(weights(model.backbone)[name], value, err_msg=name)
    record = json.loads((folder / "run.json").read_text())
    assert {"file", "validation_file", "test_file", "test_sha256"} <= record["data"].keys()


@pytest.mark.usefixtures("eagerly")
def test_a_model_with_an_adapter_is_merged_first(run, language_model, table, tmp_path):
    model = gk.GPTCausalLM.from_preset(language_model)
    model.enable_lora(2)
    spread_weights(model)
    model.save_to_preset(tmp_path / "adapted")
    options = ["--epochs", 1, "--freeze-backbone", "true", "--pooling", "extract"]
    code, out, err = run(
        "finetune", tmp_path / "adapted", table, tmp_path / "a", *COLUMNS, *options
    )
    assert (code, "in head\n" in out) == (0, True)
    assert err.startswith("gpt-keras: warning: the special tokens of pooling extract stay random")
    found = gk.GPTClassifier.from_preset(tmp_path / "a").backbone
    ids = np.arange(9)[None]
    np.testing.assert_allclose(
        found.hidden_states(ids), model.backbone.hidden_states(ids), atol=1e-5
    )


@pytest.mark.usefixtures("eagerly")
def test_without_a_test_the_validation_part_is_reported(run, language_model, table, tmp_path):
    options = ["--test-fraction", 0, "--epochs", 1, "--freeze-backbone", "true"]
    code, out, _ = run("finetune", language_model, table, tmp_path / "a", *COLUMNS, *options)
    assert (code, "validation, 2 rows in " in out) == (0, True)
    options += ["--validation-fraction", 0]
    code, out, _ = run("finetune", language_model, table, tmp_path / "b", *COLUMNS, *options)
    assert (code, "precision" in out, "results" in (tmp_path / "b" / "run.json").read_text()) == (
        0,
        False,
        False,
    )


BAD = """
finetune                                                    | required: model, data, output
finetune {model} {table}                                    | required: output
finetune {model} {table} new {columns} --task poetry        | classification
finetune {model} {table} new {columns} --lr 3               | unrecognized arguments: --lr 3
finetune {model} {table} new                                | there is no column 'text'. The row has 'review', 'verdict'
finetune {model} {table} new --text review                  | there is no column 'label'
finetune {model} {table} new --text review --label review   | the model would read the answer
finetune {model} {table} {model} {columns}                  | exists already
finetune {model} {table} {table}/new {columns}              | Not a directory
finetune {model} nothing.csv new {columns}                  | There is no file 'nothing.csv'
finetune {model} table.txt new {columns}                    | suffix of a table must be one of .csv
finetune {model} header.csv new {columns}                   | header.csv must have rows
finetune {model} latin.csv new {columns}                    | latin.csv, line 2: the byte 0xe9 is not UTF-8
finetune {model} broken.jsonl new {columns}                 | broken.jsonl, line 2: broken JSON
finetune {model} missing.csv new {columns}                  | missing.csv, line 3: the label 'verdict' is missing
finetune {model} once.csv new {columns}                     | 'odd' has 1 (once.csv, line 6)
finetune {model} one.csv new {columns}                      | at least two labels, got only 'good'
finetune {model} letters.csv new {columns}                  | does not know: ['0', 
finetune {model} {table} new {columns} --validation bad.csv | bad.csv, line 3: a label must be one of
finetune {model} {table} new {columns} --test nothing.csv   | There is no file 'nothing.csv'
finetune {model} {table} new {columns} --test {table}       | at least two different texts
finetune {model} {table} new {columns} --test bad.csv --test-fraction 0.1 | `test_fraction` must be None
finetune {model} {table} new {columns} --validation-fraction 1 | `validation_fraction` must be
finetune {model} {table} new {columns} --test-fraction 0.01 | The test part is empty
finetune {model} {table} new {columns} --group author       | there is no column 'author'
finetune {model} {table} new {columns} --layout similarity  | give `text_pair` too
finetune {model} {table} new {columns} --layout x           | "layout"
finetune {model} {table} new {columns} --lora-rank -1       | `lora_rank` must be at least 0, got -1
finetune {model} {table} new {columns} --lora-rank 2 --freeze-backbone true | `lora_rank` must be 0
finetune {model} {table} new {columns} --lora-rank 0 --lora-alpha 2 | `lora_alpha` needs a `lora_rank`
finetune {model} {table} new {columns} --freeze-backbone true --target-layer-names query | `target_layer_names` needs
finetune {model} {table} new {columns} --lora-alpha 0       | lora_alpha
finetune {model} {table} new {columns} --target-layer-names gate9 | (query, key, value
finetune {model} {table} new {columns} --epochs 0           | `epochs` must be
finetune {model} {table} new {columns} --batch-size 0       | `batch_size` must be
finetune {model} {table} new {columns} --learning-rate 0    | `learning_rate` must be
finetune {model} {table} new {columns} --dropout 1          | `dropout` must be
finetune {model} {table} new {columns} --seed -1            | `seed` must be
finetune {model} {table} new {columns} --sequence-length 49 | `sequence_length` must be at most 48
finetune {model} {table} new {columns} --sequence-length 0  | sequence_length` must be
finetune {model} {table} new {columns} --pooling extract --sequence-length 2 | `sequence_length` must be at least 3
finetune {model} {table} new {columns} --pooling first      | 'last', 'extract'
finetune {model} {table} new {columns} --class-weight much  | "class_weight"
finetune {model} {table} new {columns} --dtype int8         | "dtype"
finetune nothing {table} new {columns}                      | got 'nothing'
finetune {classifier} {table} new {columns}                 | holds a GPTClassifier, which is fine-tuned already
finetune no_tokenizer {table} new {columns}                 | `model` must have a tokenizer
"""  # noqa: E501

FILES = {
    "table.txt": b"review,verdict\na,good\n",
    "header.csv": b"review,verdict\n",
    "latin.csv": b"review,verdict\ncaf\xe9,good\n",
    "broken.jsonl": b'{"review": "a", "verdict": "good"}\n{"review": "b"\n',
    "missing.csv": b"review,verdict\na,good\nb,\n",
    "once.csv": b"review,verdict\na,good\nb,good\nc,bad\nd,bad\ne,odd\n",
    "one.csv": b"review,verdict\na,good\nb,good\n",
    "letters.csv": b"review,verdict\n"
    + b"".join(b"Q%d,good\nQx%d,bad\n" % (i, i) for i in range(9)),
    "bad.csv": b"review,verdict\nz,good\ny,soso\n",
}


@pytest.mark.parametrize("case", BAD.strip().split("\n"), ids=lambda case: case.split(" |")[0])
def test_bad_input_gives_one_line_before_any_work(
    run, language_model, table, classifier, tmp_path, monkeypatch, case
):
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    if "no_tokenizer" in case:
        model = gk.CausalLM.from_preset(language_model)
        gk.CausalLM(model.backbone).save_to_preset(tmp_path / "no_tokenizer")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(TaskModel, "fit", None)
    line, expected = case.rsplit("|", 1)
    places = {"model": language_model, "table": table, "classifier": classifier}
    code, out, err = run(*shlex.split(line.format(**places, columns=" ".join(COLUMNS))))
    err = "".join(line for line in err.splitlines(keepends=True) if "warning" not in line)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("gpt-keras: error: ")
    assert expected.strip() in err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_scikit_learn_is_told_before_training(
    run, language_model, table, tmp_path, monkeypatch
):
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    code, _, err = run("finetune", language_model, table, tmp_path / "new", *COLUMNS)
    assert (code, "pip install 'gpt_keras[evaluation]'" in err) == (2, True)
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("eagerly")
def test_a_loss_that_is_not_finite_ends_the_training(run, language_model, table, tmp_path):
    model = gk.GPTCausalLM.from_preset(language_model)
    gains = model.backbone.final_norm.trainable_variables[0]
    gains.assign(gains * np.nan)
    model.save_to_preset(tmp_path / "bad")
    folder = tmp_path / "new"
    code, _, err = run("finetune", tmp_path / "bad", table, folder, *COLUMNS)
    assert code == 2
    assert "the training stopped at step 1, because the loss is not finite" in err
    assert not (folder / "config.json").exists()


def test_ctrl_c_before_the_first_step_leaves_nothing(
    run, language_model, table, tmp_path, monkeypatch
):
    def fit(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)

    monkeypatch.setattr(TaskModel, "fit", fit)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code, _, err = run("finetune", language_model, table, tmp_path / "new", *COLUMNS)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, err.splitlines()[-1]) == (130, "gpt-keras: interrupted")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.usefixtures("eagerly")
def test_an_unfinished_run_says_how_to_use_it(run, language_model, table, tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "run.json").write_text('{"finished": false}')
    (folder / "config.json").write_text("{}")
    code, _, err = run("finetune", language_model, table, folder, *COLUMNS)
    assert code == 2
    assert f'gpt-keras classify {folder} "..."' in err
    assert f"gpt-keras finetune --config {folder / 'run.yaml'} MODEL DATA NEW_OUTPUT" in err


@pytest.mark.slow
def test_mixed_precision_of_the_backbone(run, language_model, table, tmp_path):
    options = ["--epochs", 1, "--dtype", "mixed_bfloat16"]
    code, _, _ = run("finetune", language_model, table, tmp_path / "new", *COLUMNS, *options)
    model = gk.GPTClassifier.from_preset(tmp_path / "new")
    assert (code, model.backbone.dtype_policy.name) == (0, "mixed_bfloat16")
    assert keras.backend.standardize_dtype(model.head.compute_dtype) == "float32"


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_an_interrupted_training_continues_exactly(
    run, language_model, table, tmp_path, monkeypatch
):
    arguments = ["finetune", language_model, table]
    options = [*COLUMNS, "--epochs", 2, "--batch-size", 4, "--dropout", 0.2]
    assert run(*arguments, tmp_path / "whole", *options)[0] == 0

    class Interrupter(keras.callbacks.TerminateOnNaN):
        left = 3

        def on_batch_end(self, batch, logs=None):
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGINT)

    folder = tmp_path / "new"
    with monkeypatch.context() as patch:
        patch.setattr(keras.callbacks, "TerminateOnNaN", Interrupter)
        code, _, err = run(*arguments, folder, *options)
    assert code == 130
    assert "to continue, repeat the command with --resume\n" in err
    code, _, err = run(*arguments, folder, "--resume", *options, "--lora-rank", 4)
    assert (code, "`lora_rank` must be left out to continue" in err) == (2, True)
    assert run(*arguments, folder, "--resume", *options)[0] == 0
    records = [json.loads((tmp_path / n / "run.json").read_text()) for n in ("new", "whole")]
    assert len(records[0]["interruptions"]) == 1
    losses = [[record["history"][n] for n in ("loss", "val_loss")] for record in records]
    assert losses[0] == losses[1]
    a, b = (weights(gk.GPTClassifier.from_preset(tmp_path / n)) for n in ("new", "whole"))
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], name)
