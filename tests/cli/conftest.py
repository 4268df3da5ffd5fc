"""Folders with a tiny language model, a table and a classifier; the command line."""

import functools
import random

import pytest
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras import cli
from gpt_keras.models.task_model import TaskModel

CHARACTERS = 'abcdefghijklmnopqrstuvwxyz ,.!?"\t\n'


@pytest.fixture
def run(capsys):
    """Run the command line; return its exit code, output and errors."""

    def run(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def eagerly(monkeypatch):
    """Task models train without a graph: tracing takes longer than these few steps."""
    compile_model = functools.partialmethod(TaskModel.compile, run_eagerly=True)
    monkeypatch.setattr(TaskModel, "compile", compile_model)


@pytest.fixture(scope="session")
def language_model(tmp_path_factory):
    """A preset folder of an untrained model with a tokenizer of letters."""
    random.seed(1)
    tokenizer = gk.tokenizers.CharacterTokenizer(CHARACTERS, end_of_text=True)
    config = tiny_config(num_layers=1, vocabulary_size=tokenizer.vocabulary_size)
    model = spread_weights(gk.GPTCausalLM(config, tokenizer=tokenizer))
    folder = tmp_path_factory.mktemp("language_model") / "model"
    model.save_to_preset(folder)
    return folder


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    """A table whose label is a word of its text."""
    rows = [f'"{i} {word}"' for i in "abcdefghij" for word in ("good", "bad")]
    lines = ["review,verdict", *(f"{row},{row.split()[1][:-1]}" for row in rows)]
    path = tmp_path_factory.mktemp("table") / "reviews.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def classifier(language_model, tmp_path_factory):
    """A preset folder of a classifier with adapters, whose head is random."""
    random.seed(2)
    model = gk.GPTClassifier.from_preset(
        language_model, class_names=["bad", "good"], max_sequence_length=16
    )
    model.enable_lora(2)
    spread_weights(model)
    folder = tmp_path_factory.mktemp("classifier") / "model"
    model.save_to_preset(folder)
    return folder
