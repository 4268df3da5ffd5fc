import contextlib
import dataclasses
import functools
import gzip
import inspect
import io
import json
import os
import pathlib
import random
import re
import shlex
import signal
import sys
import time

import docstring_parser
import numpy as np
import pytest
import tensorflow as tf
import yaml

import gpt_keras as gk
from gpt_keras import cli
from gpt_keras.generation import PROCESSORS
from gpt_keras.generation.processor_help import SETTINGS
from gpt_keras.generation.settings import Number

CONFIGS = pathlib.Path(__file__).parent.parent / "scripts" / "configs"
TEXT = "the cat sat on the mat. the dog sat on the log.\n" * 40

# Small: seconds go into tracing and compiling.
SMALL = {
    "tokenizer": "character",
    "num_layers": 1,
    "num_heads": 2,
    "hidden_dim": 16,
    "sequence_length": 16,
    "batch_size": 2,
    "steps": 4,
    "evaluations": 2,
    "prompt": "the cat",
    "seed": 3,
}


def flags(settings):
    """Flags, every second one with hyphens, which mean the same as underscores."""
    names = [name.replace("_", "-") if i % 2 else name for i, name in enumerate(settings)]
    return [w for name, value in zip(names, settings.values()) for w in (f"--{name}", str(value))]


def run(capsys, *arguments):
    code = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "tiny.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A preset folder and a .keras file of the same untrained model."""
    random.seed(1)
    tokenizer = gk.tokenizers.CharacterTokenizer.train(TEXT, end_of_text=True)
    config = gk.GPTConfig(
        vocabulary_size=tokenizer.vocabulary_size,
        max_sequence_length=16,
        num_layers=1,
        num_heads=2,
        hidden_dim=16,
    )
    model = gk.GPTCausalLM(config, tokenizer=tokenizer)
    folder = tmp_path_factory.mktemp("preset")
    model.save_to_preset(folder / "model")
    model.save(folder / "model.keras")
    return folder / "model"


@pytest.fixture
def without_xla(monkeypatch):
    """Training runs in graph mode: one test that trains with XLA is enough here."""
    compile_model = functools.partialmethod(gk.CausalLM.compile, jit_compile=False)
    monkeypatch.setattr(gk.CausalLM, "compile", compile_model)


def load_once(monkeypatch):
    """From now on each preset is one model, with what it has traced."""
    monkeypatch.setattr(gk.CausalLM, "from_preset", functools.cache(gk.CausalLM.from_preset))


def in_order(text, *parts):
    places = [text.index(part) for part in parts]
    return places == sorted(places)


@pytest.mark.slow
def test_train_generate_export_info(capsys, corpus, tmp_path, monkeypatch):
    folder = tmp_path / "made" / "model"
    code, out, err = run(capsys, "train", corpus, folder, *flags(SMALL))
    assert (code, err) == (0, "")
    assert in_order(out, "--- after 2 batches ---\nthe cat", "--- after 4 batches ---\nthe cat")
    assert out.count("val_loss") == 2
    assert out.count("tokens_per_second") == 2
    assert "trained 4 steps in " in out
    assert "validation loss 2." in out
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
    record = json.loads((folder / "run.json").read_text())
    assert record["finished"]
    assert record["data"]["sha256"] == gk.datasets.digest(corpus)
    assert record["settings"] == yaml.safe_load((folder / "run.yaml").read_text())
    assert [sample["batches"] for sample in record["samples"]] == [2, 4]
    assert all(f"wrote {path} (" in out for path in written)
    assert list(folder.parent.iterdir()) == [folder]

    model = gk.GPTCausalLM.from_preset(folder)
    assert model.max_sequence_length == 16
    settings = ["--max_new_tokens", 5, "--seed", 7, "--temperature", 0.9, "--top_k", 4]
    kwargs = {"max_new_tokens": 5, "seed": 7, "temperature": 0.9, "top_k": 4}
    expected = model.generate("the cat", **kwargs)
    code, out, err = run(capsys, "generate", folder, "the cat", *settings)
    assert (code, out, err) == (0, expected + "\n", "")
    load_once(monkeypatch)
    model = gk.CausalLM.from_preset(str(folder))
    code, out, err = run(capsys, "generate", folder, "the cat", "a dog", *settings)
    assert out == "\n---\n".join(model.generate(["the cat", "a dog"], **kwargs)) + "\n"

    exported = tmp_path / "exported" / "1"
    code, out, err = run(capsys, "export", folder, exported, "--jit_compile", "false")
    assert (code, err) == (0, "")
    assert f"wrote {exported / 'saved_model.pb'} (" in out
    loaded = tf.saved_model.load(exported)
    text = loaded.generate(
        text=tf.constant(["the cat"]),
        max_new_tokens=5,
        temperature=0.9,
        top_k=4,
        top_p=1.0,
        seed=tf.constant(7, tf.int64),
    )["text"]
    assert text.numpy()[0].decode() == expected

    code, out, err = run(capsys, "info", folder)
    assert f"{model.count_params():,}" in out


@pytest.mark.slow
@pytest.mark.usefixtures("without_xla")
def test_a_config_file_equals_flags(capsys, corpus, tmp_path):
    file = tmp_path / "train.yaml"
    settings = {**SMALL, "prompt": "", "steps": 2, "validation_fraction": 0}
    content = {"corpus": str(corpus), "output": str(tmp_path / "a"), **settings, "seed": 4}
    file.write_text(yaml.safe_dump(content))
    assert run(capsys, "train", "--config", file, "--seed", 3)[0] == 0
    assert run(capsys, "train", corpus, tmp_path / "b", *flags(settings))[0] == 0
    for name in ("config.json", "tokenizer.json"):
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()
    a, b = (gk.GPTCausalLM.from_preset(tmp_path / name).get_weights() for name in "ab")
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.slow
@pytest.mark.usefixtures("without_xla")
def test_a_run_is_trained_again_from_its_settings(capsys, corpus, tmp_path):
    settings = {**SMALL, "optimizer": "muon", "accumulate": 2, "rematerialize": "true"}
    assert run(capsys, "train", corpus, tmp_path / "a", *flags(settings))[0] == 0
    again = ["--config", tmp_path / "a" / "run.yaml", corpus, tmp_path / "b"]
    assert run(capsys, "train", *again)[0] == 0
    a, b = (json.loads((tmp_path / name / "run.json").read_text()) for name in "ab")
    assert a["history"]["val_loss"] == b["history"]["val_loss"]
    a, b = ({**one["optimizer"]["config"], "name": None} for one in (a, b))
    assert a == b
    assert a["gradient_accumulation_steps"] == 2
    weights = (gk.GPTCausalLM.from_preset(tmp_path / name).get_weights() for name in "ab")
    for x, y in zip(*weights, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.slow
@pytest.mark.usefixtures("without_xla")
def test_training_that_went_wrong_leaves_a_report_and_no_model(capsys, corpus, tmp_path):
    # The loss of random weights is above that of the first batches, once steps are far too large.
    settings = {**SMALL, "steps": 12, "learning_rate": 50.0, "warmup_steps": 0, "stop_above": 1.5}
    code, out, err = run(capsys, "train", corpus, tmp_path / "a", *flags(settings))
    assert code == 2
    assert "training stops" in out
    assert "the training stopped at step" in err
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert {"run.json", "report.md", "run.yaml"} <= names
    assert not {"config.json", "model.weights.h5"} & names
    assert "## Incidents" in (tmp_path / "a" / "report.md").read_text()


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.name)
def test_the_example_files_are_arguments_of_train(file):
    arguments = cli._parser(["train"]).parse_args(["train", "--config", str(file)])
    given = yaml.safe_load(file.read_text())
    assert {name: arguments.train[name] for name in given} == given


def test_print_config_makes_a_config_file(capsys, preset, tmp_path):
    with pytest.raises(SystemExit) as error:
        cli.main(["generate", str(preset), "a cat", "a dog", "--top_k", "3", "--print_config"])
    assert error.value.code == 0
    file = tmp_path / "generate.yaml"
    file.write_text(capsys.readouterr().out)
    content = yaml.safe_load(file.read_text())
    assert content["prompts"] == ["a cat", "a dog"]
    assert content["top_k"] == 3


def test_generate_reads_keras_files_and_shows_pieces_as_they_come(capsys, preset, monkeypatch):
    shown = []

    def stream(self, prompt, **settings):
        assert settings["temperature"] == 0.5
        for piece in ("one ", "two"):
            yield piece
            shown.append(capsys.readouterr().out)

    monkeypatch.setattr(gk.CausalLM, "stream", stream)
    code, out, _ = run(capsys, "generate", f"{preset}.keras", "a ", "--temperature", 0.5)
    assert (code, shown, out) == (0, ["a one ", "two"], "\n")


def test_types_of_settings_are_those_of_the_processors():
    assert [*SETTINGS] == [*PROCESSORS]
    for name, processor in PROCESSORS.items():
        if isinstance(processor.setting, Number):
            assert SETTINGS[name][0] is type(processor.setting.off)


def test_every_processor_is_an_option(capsys, preset, monkeypatch):
    examples = {}
    for name, processor in PROCESSORS.items():
        if isinstance(processor.setting, Number):
            examples[name] = [2] if isinstance(processor.setting.off, int) else [0.5]
        else:
            examples[name] = ["a cat", "the"]
    examples["logit_bias"] = ['{"3": -1.5, "0": 2}']
    options = [word for name, values in examples.items() for word in (f"--{name}", *values)]
    asked = []
    monkeypatch.setattr(
        gk.CausalLM, "stream", lambda self, *a, **kwargs: asked.append(kwargs) or []
    )
    options += ["--stop", "x", "y z", "--time_limit", 3]
    assert run(capsys, "generate", preset, "the", *options) == (0, "the\n", "")
    expected = {name: value if len(value) > 1 else value[0] for name, value in examples.items()}
    expected |= {"logit_bias": {3: -1.5, 0: 2.0}, "stop": ["x", "y z"], "time_limit": 3.0}
    assert asked[0].items() >= expected.items()
    assert run(capsys, "generate", preset, "the") == (0, "the\n", "")
    assert {asked[1][name] for name in PROCESSORS} == {None}


@pytest.mark.slow
def test_strategies_and_scores(capsys, preset, monkeypatch):
    load_once(monkeypatch)
    model = gk.CausalLM.from_preset(str(preset))
    settings = ["--max_new_tokens", 4, "--seed", 7]
    code, out, err = run(capsys, "generate", preset, "the ", "a", *settings, "--num_beams", 3)
    beams = gk.generation.BeamSearch(3)
    texts = model.generate(["the ", "a"], max_new_tokens=4, strategy=beams)
    assert (code, out, err) == (0, "\n---\n".join(texts) + "\n", "")
    *options, best = "--best_of", 2, gk.generation.BestOf(2)
    _, out, _ = run(capsys, "generate", preset, "the ", *settings, *options, "--scores", "true")
    found = model.generate_with_scores("the ", max_new_tokens=4, seed=7, strategy=best)
    shown = [(f"{text.score:.4f}", text.text) for text in found]
    assert [tuple(part.split("\n", 1)) for part in out.removesuffix("\n").split("\n---\n")] == shown
    plain = run(capsys, "generate", preset, "the ", *settings, "--temperature", 0)
    for options in (["--prompt_lookup", 2], ["--draft", preset]):
        greedy = run(capsys, "generate", preset, "the ", *settings, "--temperature", 0, *options)
        assert greedy == plain


def test_prompts_from_a_file(capsys, preset, tmp_path, monkeypatch):
    asked = []

    def generate(self, prompts, **settings):
        asked.append(prompts)
        return prompts

    monkeypatch.setattr(gk.CausalLM, "generate", generate)
    monkeypatch.setattr(gk.CausalLM, "stream", lambda self, prompt, **_: asked.append(prompt) or [])
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"the cat \r\n\r\na dog\r\n")
    assert run(capsys, "generate", preset, "--prompts-file", file)[0] == 0
    assert run(capsys, "generate", preset, "on", "--prompts-file", file)[0] == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a log\r\n")))
    assert run(capsys, "generate", preset, "--prompts-file", "-")[:2] == (0, "a log\n")
    assert asked == [["the cat ", "a dog"], ["on", "the cat ", "a dog"], "a log"]


def test_evaluate_tells_the_perplexity(capsys, preset, corpus):
    code, out, err = run(capsys, "evaluate", preset, corpus, "--stride", 8)
    found = gk.evaluation.perplexity(gk.CausalLM.from_preset(preset), TEXT, stride=8)
    assert (code, err) == (0, "")
    lines = {line[:20].strip(): line[20:].split()[0] for line in out.splitlines()}
    assert float(lines["perplexity"]) == pytest.approx(found.perplexity, abs=1e-4)
    assert float(lines["loss"]) == pytest.approx(found.loss, abs=1e-4)
    assert float(lines["bits per character"]) == pytest.approx(found.bits_per_character, abs=1e-4)
    assert float(lines["bits per byte"]) == pytest.approx(found.bits_per_byte, abs=1e-4)
    assert lines["tokens"] == f"{len(TEXT) + 1:,}"


@pytest.fixture
def table(tmp_path):
    """A compressed table with a text in the column `body`."""
    rows = [{"body": TEXT}, {"body": ""}, {"body": "the cat sat on the log.\n"}]
    path = tmp_path / "table.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return path


def test_evaluate_on_the_rows_of_a_corpus_table(capsys, preset, table):
    code, out, err = run(capsys, "evaluate", preset, table, "--field", "body")
    model = gk.CausalLM.from_preset(preset)
    found = gk.evaluation.perplexity(model, [TEXT, "the cat sat on the log.\n"])
    assert (code, err) == (0, "")
    assert f"perplexity          {found.perplexity:.4f}\n" in out
    assert out.endswith(f"tokens              {found.num_tokens:,} in 2 documents\n")


@pytest.mark.slow
@pytest.mark.usefixtures("without_xla")
def test_train_on_the_rows_of_a_corpus_table(capsys, table, tmp_path):
    settings = {**SMALL, "steps": 1, "evaluations": 1, "validation_fraction": 0, "field": "body"}
    del settings["prompt"]
    code, out, err = run(capsys, "train", table, tmp_path / "model", *flags(settings))
    assert (code, err) == (0, "")
    assert "2 documents" in out
    record = json.loads((tmp_path / "model" / "run.json").read_text())
    texts = [TEXT, "the cat sat on the log.\n"]
    assert record["data"]["sha256"] == gk.datasets.digest(texts)
    assert record["data"]["documents"] == 2
    assert record["settings"]["field"] == "body"
    assert "--- after 1 batches ---\nthe" in out


@pytest.mark.parametrize("command", ["train {corpus} new", "evaluate {preset} {corpus}"])
def test_a_broken_corpus_is_an_error_before_any_work(
    capsys, preset, table, tmp_path, monkeypatch, command
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPT_KERAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gk.CausalLM, "__init__", None)  # no model is made
    code, _, err = run(capsys, *command.format(corpus=table, preset=preset).split())
    assert code == 2
    assert "line 1: there is no column 'text'. The row has 'body'. `field` names" in err
    table.write_bytes(table.read_bytes()[:-9])
    command = f"{command} --field body"
    code, _, err = run(capsys, *command.format(corpus=table, preset=preset).split())
    assert code == 2
    assert "table.jsonl.gz, line 4: the gzip archive is damaged here" in err
    assert not list((tmp_path / "cache").iterdir()) if "train" in command else True
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["gpt2", "llama", "mixtral"])
def test_info_of_a_hugging_face_folder(capsys, name, monkeypatch):
    folder = pathlib.Path(__file__).parent / "fixtures" / "huggingface" / name
    parameters = gk.GPTCausalLM.from_preset(folder).count_params()
    monkeypatch.setattr(gk.GPT, "__init__", None)
    for source in (folder, folder / "config.json"):
        code, out, err = run(capsys, "info", source)
        assert (code, err) == (0, "")
        assert f"parameters        {parameters:,}" in out


def test_info_of_a_gguf_file(capsys, preset, tmp_path):
    pytest.importorskip("gguf")
    model = gk.GPTCausalLM.from_preset(preset)
    file = tmp_path / "model.gguf"
    gk.convert.to_gguf(gk.GPTCausalLM(model.config), file)
    assert gk.convert.read_config(file) == model.config
    code, out, _ = run(capsys, "info", file)
    assert code == 0
    assert f"{model.count_params():,}" in out


def test_explain_writes_a_page(capsys, preset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "explain", preset, "the cat")
    assert code == 0
    assert out.startswith("wrote explanation.html (")
    page = (tmp_path / "explanation.html").read_text(encoding="utf-8")
    model = gk.CausalLM.from_preset(preset)
    assert page == gk.interpretation.explanation_page(model, "the cat", preset.name)
    assert list(tmp_path.iterdir()) == [tmp_path / "explanation.html"]


def test_info_of_a_preset(capsys):
    code, out, _ = run(capsys, "info", "gpt2_small")
    lines = {line[2:20].strip(): line[20:].split() for line in out.splitlines()[1:]}
    assert code == 0
    assert lines["layers"] == ["12"]
    assert lines["parameters"] == ["124,439,808"]
    assert lines["weights"] == ["474.7", "MiB", "237.4", "MiB", "118.7", "MiB"]
    assert lines["AdamW's state"] == ["949.4", "MiB"]
    assert lines["KV cache, full"] == ["72.0", "MiB", "36.0", "MiB", "18.0", "MiB"]
    config = gk.presets.get("gpt2_small")
    assert float(lines["FLOPs per token"][0]) == pytest.approx(config.flops_per_token(), rel=0.01)


def test_info_builds_no_model_and_reads_every_form(capsys, preset, tmp_path, monkeypatch):
    monkeypatch.setattr(gk.GPT, "__init__", None)
    (tmp_path / "config.json").write_text(
        dataclasses.replace(gk.presets.get("gpt2_xl"), num_layers=1000).to_json()
    )
    outs = [run(capsys, "info", form)[1] for form in (preset, f"{preset}.keras")]
    assert outs[0].splitlines()[1:] == outs[1].splitlines()[1:]
    assert run(capsys, "info", preset / "config.json")[1].count("\n") == outs[0].count("\n")
    assert " GiB" in run(capsys, "info", tmp_path / "config.json")[1]


BAD = """
train                                                   | corpus, output
train {corpus}                                          | required: output
train {preset} new                                      | config.json must hold a list
train nothing.txt new                                   | shakespeare, tang_poems
train train.txt new                                     | got 'train.txt'
train {corpus} {preset}                                 | exists already
train {corpus} {corpus}/new                             | Not a directory
train {corpus} new --lr 3                               | unrecognized arguments: --lr 3
train {corpus} new --learning_rate x                    | Expected a float
train {corpus} new --learning_rate 0                    | `learning_rate` must be
train {corpus} new --tokenizer word                     | 'byte_pair', 'character', 'gpt2'
train {corpus} new --num_heads 3                        | multiple of `num_heads`
train {corpus} new --num_layers 0                       | `num_layers` must be
train {corpus} new --preset gpt9                        | gpt2_small
train {corpus} new --preset gpt2_small --num_layers 2   | `preset` decides num_layers
train {corpus} new --steps 0                            | `steps` must be
train {corpus} new --steps 5 --warmup_steps 5           | `warmup_steps` must be
train {corpus} new --batch_size 0                       | `batch_size` must be
train {corpus} new --evaluations 0                      | `evaluations` must be
train {corpus} new --validation_fraction 1              | `validation_fraction` must be
train {corpus} new --seed -1                            | `seed` must be
train {corpus} new --dropout 1                          | `dropout` must be
train {corpus} new --sequence_length 0                  | sequence_length` must be
train {corpus} new --config none.yaml                   | none.yaml
train {corpus} new --config {corpus}                    | Unexpected config
generate {preset}                                       | `prompts` must be given
generate {preset} --prompts-file nothing                | `prompts_file` must be a file
generate nothing hello                                  | nothing
generate {corpus} hello                                 | nor a preset folder
generate bad.keras hello                                | bad.keras
generate {preset} a --temperature -1                    | `temperature` must be
generate {preset} a --top_p 3                           | `top_p` must be
generate {preset} a --top_k much                        | "top_k": Does not validate
generate {preset} a --logit_bias much                   | "logit_bias": Does not validate
generate {preset} a --choices                           | `choices` must hold
generate {preset} a --stop ''                           | `stop` must be
generate {preset} a --time_limit 0                      | `time_limit` must be
generate {preset} a --num_beams 0                       | `num_beams` must be
generate {preset} a --num_beams 2 --best_of 2           | `num_beams`, `best_of`, not several
generate {preset} a --num_beams 2 --top_k 2             | `top_k` must be left out
generate {preset} a c --prompt_lookup 3                 | one prompt at a time
generate {preset} a --draft nothing                     | nothing
generate {preset} a --sliding_window true               | `sliding_window` must be False
generate {preset} Q                                     | ['Q']
generate {preset} ''                                    | empty
evaluate {preset}                                       | `corpus` or `suite` must be given
evaluate {preset} nothing                               | shakespeare
evaluate {preset} table.csv                             | no column 'text'. The row has
evaluate {preset} {corpus} --stride 17                  | `stride` must be at most
explain {preset}                                        | required: text
explain nothing hello                                   | nothing
explain {preset} ''                                     | from 1 to 16 tokens
explain {preset} hello --output page.txt                | must end in .html
explain {preset} hello --output taken.html              | exists already
export {preset} {preset}                                | exists already
export nothing new                                      | nothing
export {preset} new --jit_compile maybe                 | "jit_compile": Expected a bool
info                                                    | required: name_or_path
info nothing                                            | gpt2_small
info {corpus}                                           | holds no GPTConfig
info bad.keras                                          | holds no GPTConfig
info empty                                              | config.json
dance                                                   | dance
"""


@pytest.mark.parametrize("case", BAD.strip().split("\n"), ids=lambda case: case.split(" |")[0])
def test_bad_arguments_give_one_line_before_any_work(
    capsys, corpus, preset, tmp_path, monkeypatch, case
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.keras").write_bytes(b"PK no zip")
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken.html").touch()
    (tmp_path / "table.csv").write_text("a,b")
    monkeypatch.setenv("GPT_KERAS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for work in ("BytePairTokenizer", "CharacterTokenizer"):
        monkeypatch.setattr(getattr(gk.tokenizers, work), "train", None)
    line, expected = case.rsplit("|", 1)
    code, out, err = run(capsys, *shlex.split(line.format(corpus=corpus, preset=preset)))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("gpt-keras: error: ")
    assert expected.strip() in err
    assert len(err) < 600
    assert sorted(tmp_path.rglob("*")) == before


def test_a_cache_that_cannot_be_written_is_told_before_any_work(
    capsys, corpus, tmp_path, monkeypatch
):
    monkeypatch.setenv("GPT_KERAS_CACHE", str(corpus))
    monkeypatch.setattr(gk.tokenizers.CharacterTokenizer, "train", None)
    code, _, err = run(capsys, "train", corpus, tmp_path / "new", *flags(SMALL))
    assert code == 2
    assert "GPT_KERAS_CACHE" in err


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"prompt": "Q"}, "['Q']"),
        ({"prompt": "the cat sat on the mat"}, "no room"),
        ({"batch_size": 10_000}, "`corpus`"),
        ({"tokenizer": "byte_pair", "vocabulary_size": 10}, "`vocabulary_size`"),
    ],
)
def test_what_only_the_tokenizer_can_tell_is_told_before_training(
    capsys, corpus, tmp_path, monkeypatch, settings, expected
):
    monkeypatch.setattr(gk.CausalLM, "fit", None)
    code, out, err = run(capsys, "train", corpus, tmp_path / "new", *flags({**SMALL, **settings}))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert expected in err
    assert not (tmp_path / "new").exists()


def test_a_bug_shows_its_traceback(corpus, tmp_path, monkeypatch):
    def fit(*args, **kwargs):
        return np.zeros(3).reshape(2, 2)

    monkeypatch.setattr(gk.CausalLM, "fit", fit)
    with pytest.raises(ValueError, match="reshape"):
        cli.main(["train", str(corpus), str(tmp_path / "new"), *flags(SMALL)])


@contextlib.contextmanager
def ctrl_c_works():
    # A shell's background processes, and those that they start, ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_before_the_first_step_leaves_nothing(capsys, corpus, tmp_path, monkeypatch):
    def fit(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)  # which the signal ends, whenever it comes

    monkeypatch.setattr(gk.CausalLM, "fit", fit)
    for _ in range(2):  # the same command can be given again
        with ctrl_c_works():
            code, _, err = run(capsys, "train", corpus, tmp_path / "new", *flags(SMALL))
        assert code == 130
        assert err.endswith("nothing is kept\ngpt-keras: interrupted\n")
        assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("without_xla")
def test_ctrl_c_keeps_the_model(capsys, corpus, tmp_path, monkeypatch):
    folder = tmp_path / "new"
    saved = []

    class Interrupter(gk.callbacks.Throughput):
        batches = 0

        def on_train_batch_end(self, batch, logs=None):
            self.batches += 1
            if self.batches == 3:  # an evaluation came after two
                saved.append(sorted(file.name for file in folder.iterdir()))
                os.kill(os.getpid(), signal.SIGINT)  # the batch ends, and is saved

    arguments = ["train", corpus, folder, *flags(SMALL)]
    with ctrl_c_works(), monkeypatch.context() as patch:
        patch.setattr(gk.callbacks, "Throughput", Interrupter)
        code, _, err = run(capsys, *arguments)
    assert code == 130
    assert in_order(err, "new holds the model after 3 of 4 steps;", "--resume\n")
    assert {"config.json", "model.weights.h5", "tokenizer.json"} <= set(saved[0])
    model = gk.GPTCausalLM.from_preset(folder)
    assert model.generate("the cat", max_new_tokens=3)
    assert not json.loads((folder / "run.json").read_text())["finished"]
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert in_order(
        err, "did not finish", f"gpt-keras generate {folder}", "--resume", "--config", "NEW_OUTPUT"
    )
    (folder / "config.json").unlink()
    assert "There is no model in it" in run(capsys, *arguments)[2]

    # The training continues, and equals one that was not interrupted.
    code, out, _ = run(capsys, *arguments, "--resume")
    assert (code, "trained 4 steps" in out) == (0, True)
    whole = tmp_path / "whole"
    assert run(capsys, "train", corpus, whole, *flags(SMALL))[0] == 0
    records = [json.loads((path / "run.json").read_text()) for path in (folder, whole)]
    names = ("loss", "val_loss")
    assert [records[0]["history"][n] for n in names] == [records[1]["history"][n] for n in names]
    assert len(records[0]["interruptions"]) == 1
    assert "## Interruptions" in (folder / "report.md").read_text()
    weights = [gk.CausalLM.from_preset(path).get_weights() for path in (folder, whole)]
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)

    # More steps, with as many steps between evaluations.
    code, _, err = run(capsys, *arguments, "--resume", "--steps", 5)
    assert (code, "`steps` must be a multiple of 2" in err) == (2, True)
    code, _, err = run(capsys, *arguments, "--resume", "--hidden_dim", 32)
    assert (code, "`hidden_dim` must be 16 to continue the training" in err) == (2, True)
    code, out, _ = run(capsys, *arguments, "--resume", "--steps", 6)
    assert (code, "trained 6 steps" in out) == (0, True)


def test_without_jsonargparse(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonargparse", None)
    code, _, err = run(capsys, "info", "gpt2_small")
    assert (code, err.count("\n")) == (2, 1)
    assert "pip install 'gpt_keras[cli]'" in err


@pytest.mark.parametrize(
    "command",
    [
        cli.train,
        cli.finetune,
        cli.classify,
        cli.generate,
        cli.chat,
        cli.evaluate,
        cli.explain,
        cli.export,
        cli.info,
    ],
)
def test_help_explains_every_argument(capsys, command):
    with pytest.raises(SystemExit) as error:
        cli.main([command.__name__, "--help"])
    assert error.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    docs = docstring_parser.parse(command.__doc__)
    sentences = {param.arg_name: param.description for param in docs.params}
    for name, parameter in inspect.signature(command).parameters.items():
        assert " ".join(sentences[name].split()) in text
        if parameter.default not in (inspect.Parameter.empty, None):
            assert f"default: {parameter.default})" in text
    assert docs.short_description in text
    assert not re.search(r"--[a-z]+_", text)
    assert "YAML" in text
    assert "null" not in text


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    out = capsys.readouterr().out
    assert in_order(out, "train  ", "generate  ", "export  ", "info  ", "tokenizer  ")
