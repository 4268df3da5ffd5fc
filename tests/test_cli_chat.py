"""`gpt-keras chat`, with lines from standard input."""

import io
import json

import pytest

import gpt_keras as gk
from gpt_keras.cli import main

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tokenizer = gk.tokenizers.BytePairTokenizer.train("user assistant hello", 280)
    config = gk.GPTConfig(
        vocabulary_size=280, max_sequence_length=128, num_layers=1, num_heads=2, hidden_dim=8
    )
    path = tmp_path_factory.mktemp("chat") / "model"
    model = gk.GPTCausalLM(config, tokenizer=tokenizer, chat_template=TEMPLATE)
    model.save_to_preset(path)
    return str(path)


def talk(monkeypatch, folder, lines, *options):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))
    return main(["chat", folder, "--max_new_tokens", "4", "--seed", "0", *options])


@pytest.mark.slow
@pytest.mark.xla
def test_a_conversation(monkeypatch, folder, tmp_path, capsys):
    file = tmp_path / "said.json"
    lines = ["hello", "", f"/save {file}", "/reset", "/help", "/save", "/quit", "never said"]
    assert talk(monkeypatch, folder, lines, "--system", "short") == 0
    messages = json.loads(file.read_text(encoding="utf-8"))
    assert [message["role"] for message in messages] == ["system", "user", "assistant"]
    output = capsys.readouterr().out
    assert output.startswith(messages[-1]["content"] + "\n")
    assert f"wrote {file}" in output
    assert "There is no /help. /reset forgets" in output
    assert "/save needs the name of a file." in output


@pytest.mark.slow
def test_a_text_that_is_too_long_does_not_end_the_conversation(monkeypatch, folder, capsys):
    assert talk(monkeypatch, folder, ["a b " * 200, "/unknown"]) == 0
    output = capsys.readouterr().out
    assert "must leave room" in output
    assert "There is no /unknown" in output


def test_a_model_that_cannot_chat(monkeypatch, tmp_path, capsys):
    config = gk.GPTConfig(
        vocabulary_size=9, max_sequence_length=8, num_layers=1, num_heads=1, hidden_dim=4
    )
    gk.GPTCausalLM(config).save_to_preset(tmp_path / "model")
    assert talk(monkeypatch, str(tmp_path / "model"), ["hello"]) == 2
    assert "tokenizer" in capsys.readouterr().err
