"""`gpt-keras tokenizer`: what it prints and writes is what the library gives."""

import inspect
import io
import os
import shlex
import subprocess
import sys

import docstring_parser
import pytest

import gpt_keras as gk
from gpt_keras import cli
from gpt_keras.cli import tokenizers as commands
from gpt_keras.tokenizers.visible import display_width

TEXT = "the cat sat on the mat. the dog sat on the log.\n" * 40


def run(capsys, *arguments):
    code = cli.main(["tokenizer", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def give_input(monkeypatch):
    def give(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return give


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "tiny.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def gpt2():
    return gk.tokenizers.BytePairTokenizer.gpt2()


@pytest.fixture(autouse=True)
def read_gpt2_once(gpt2, monkeypatch):
    monkeypatch.setattr(gk.tokenizers.BytePairTokenizer, "gpt2", lambda: gpt2)


@pytest.mark.parametrize("output", ["new.json", "new/folder"])
def test_train_byte_pair(capsys, corpus, tmp_path, output):
    code, out, err = run(capsys, "train", corpus, tmp_path / output, "--vocabulary_size", 270)
    assert (code, err) == (0, "")
    tokenizer = gk.tokenizers.BytePairTokenizer.train(corpus, 270)
    assert gk.tokenizers.load(tmp_path / output) == tokenizer
    share = len(TEXT) / len(tokenizer.encode(TEXT))
    file = tmp_path / output if output.endswith("json") else tmp_path / output / "tokenizer.json"
    assert out.splitlines() == [
        "270 tokens",
        f"{share:.2f} bytes per token in the first {len(TEXT):,} characters",
        f"wrote {file} ({file.stat().st_size / 1024:.1f} KiB)",
    ]


def test_train_with_every_setting(capsys, corpus, tmp_path):
    settings = ["--vocabulary_size", 300, "--min_frequency", 60, "--special_tokens", "<a>", "<b>"]
    assert run(capsys, "train", corpus, tmp_path / "a.json", *settings)[0] == 0
    expected = gk.tokenizers.BytePairTokenizer.train(corpus, 300, 60, ["<a>", "<b>"])
    assert gk.tokenizers.load(tmp_path / "a.json") == expected
    assert expected.vocabulary_size < 300


@pytest.mark.parametrize("special", [["--special_tokens"], []])
def test_train_character(capsys, corpus, tmp_path, special):
    code, out, _ = run(capsys, "train", corpus, tmp_path, "--kind", "character", *special)
    expected = gk.tokenizers.CharacterTokenizer.train(TEXT, end_of_text=not special)
    assert code == 0
    assert gk.tokenizers.load(tmp_path) == expected
    assert f"{expected.vocabulary_size} tokens\n1.00 bytes per token" in out


def test_train_on_the_rows_of_a_corpus_table(capsys, tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("body,label\nthe cat,1\nthe dog,2\n")
    arguments = ["--field", "body", "--kind", "character"]
    code, out, _ = run(capsys, "train", file, tmp_path / "new.json", *arguments)
    expected = gk.tokenizers.CharacterTokenizer.train(["the cat", "the dog"], end_of_text=True)
    assert gk.tokenizers.load(tmp_path / "new.json") == expected
    assert (code, "in the first 7 characters" in out) == (0, True)


def test_train_gpt1(capsys, corpus, tmp_path):
    settings = ["--kind", "gpt1", "--vocabulary_size", 40, "--special_tokens"]
    assert run(capsys, "train", corpus, tmp_path, *settings)[0] == 0
    expected = gk.tokenizers.GPT1Tokenizer.train(TEXT, 40)
    assert gk.tokenizers.load(tmp_path) == expected


def test_train_shows_a_progress_bar_to_people_only(capsys, corpus, tmp_path, monkeypatch):
    shown = []
    train = gk.tokenizers.BytePairTokenizer.train
    monkeypatch.setattr(
        gk.tokenizers.BytePairTokenizer,
        "train",
        lambda *args, verbose, **kwargs: shown.append(verbose) or train(*args, **kwargs),
    )
    run(capsys, "train", corpus, tmp_path / "a.json", "--vocabulary_size", 260)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    run(capsys, "train", corpus, tmp_path / "b.json", "--vocabulary_size", 260)
    assert shown == [0, 1]


def test_encode_texts_and_input(capsys, gpt2, give_input):
    ids = gpt2.encode(["Hello world", " 詩"])
    lines = "".join(" ".join(map(str, row)) + "\n" for row in ids)
    assert run(capsys, "encode", "gpt2", "Hello world", " 詩") == (0, lines, "")
    give_input("one\r\ntwo 詩\n".encode())
    expected = " ".join(map(str, gpt2.encode("one\r\ntwo 詩\n"))) + "\n"
    assert run(capsys, "encode", "gpt2") == (0, expected, "")


def test_encode_shows_pieces(capsys):
    code, out, _ = run(capsys, "encode", "gpt2", "it is\n詩", "--pieces", "true")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["270", "it"],
        ["318", "␣is"],
        ["198", "⏎"],
        ["164", "‹E8›"],
        ["102", "‹A9›"],
        ["102", "‹A9›"],
    ]


def test_encode_looks_for_special_tokens_when_told(capsys, gpt2):
    text = "a<|endoftext|>"
    plain = run(capsys, "encode", "gpt2", text)[1].split()
    assert "50256" not in plain
    for allowed in ("all", "<|endoftext|>"):
        out = run(capsys, "encode", "gpt2", text, "--allowed_special", allowed)[1]
        assert list(map(int, out.split())) == gpt2.encode(text, "all")


def test_decode_ids_and_input(capsys, gpt2, give_input):
    assert run(capsys, "decode", "gpt2", 15496, 995) == (0, "Hello world\n", "")
    assert run(capsys, "decode", "gpt2", "[15496, 995]") == (0, "Hello world\n", "")
    give_input(b"15496 995\n[15496, 198]\n")
    assert run(capsys, "decode", "gpt2") == (0, "Hello world\nHello\n", "")


def test_tokenizers_of_every_form(capsys, gpt2, tmp_path):
    file = gpt2.save(tmp_path / "model")  # as a model's folder has it
    for name in ("gpt2", file, file.parent):
        assert run(capsys, "encode", name, "Hello world")[1] == "15496 995\n"


def test_compare_measures(capsys, gpt2, tmp_path):
    text = "春眠不覺曉, it is\nspring\nand more\n"
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    characters = gk.tokenizers.CharacterTokenizer.train(text).save(tmp_path / "字符.json")
    code, out, _ = run(capsys, "compare", tmp_path / "text.txt", "gpt2", characters)
    assert code == 0
    header, first, second = (line.split() for line in out.splitlines()[:3])
    assert header == ["vocabulary", "tokens", "characters/token", "bytes/token"]
    count = len(gpt2.encode(text))
    size = len(text.encode())
    assert first == [
        "gpt2",
        "50,257",
        str(count),
        f"{len(text) / count:.2f}",
        f"{size / count:.2f}",
    ]
    assert second[2:] == [str(len(text)), "1.00", f"{size / len(text):.2f}"]
    # Columns stand in line on a terminal, where Chinese characters take two places.
    assert len({display_width(line) for line in out.splitlines()[:3]}) == 1
    assert "字符.json\n  │春│眠│不│覺│曉│,│␣│i│t│␣│i│s│⏎│\n  │s│p│r│i│n│g│⏎│\n" in out
    assert "more" not in out


def test_compare_wraps_to_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = "詩 " * 30
    out = run(capsys, "compare", text, "gpt2")[1]
    lines = out.split("\ngpt2\n")[1].splitlines()
    assert len(lines) > 4
    assert all(display_width(line) <= 40 for line in lines)
    assert all(line.startswith("  │") and line.endswith("│") for line in lines)


def test_compare_says_which_tokenizer_lacks_the_characters(capsys, tmp_path):
    gk.tokenizers.CharacterTokenizer("ab").save(tmp_path)
    code, out, _ = run(capsys, "compare", "abc", tmp_path, "gpt2")
    assert code == 0
    assert out.splitlines()[1].split()[1:] == ["2", "-", "-", "-"]
    assert "does not know: ['c']" in out
    assert "│abc│" in out


BAD = """
                                          | subcommand
dance                                     | dance
train {corpus}                            | required: output
train nothing.txt new.json                | shakespeare, tang_poems
train {corpus} {corpus}/new               | Not a directory
train {corpus} here.json                  | 'here.json' exists already
train {corpus} new --kind word            | 'byte_pair', 'character', 'gpt1'
train {corpus} new --vocabulary_size x    | "vocabulary_size": Expected a int
train {corpus} new --vocabulary_size 3    | `vocabulary_size` must be
train {corpus} new --min_frequency 0      | `min_frequency` must be
train {corpus} new --special_tokens a a   | `special_tokens` must be
train {corpus} new --kind character --special_tokens a | `special_tokens` must be <|endoftext|>
encode                                    | required: tokenizer
encode nothing a                          | `tokenizer` must be gpt2
encode {corpus} a                         | is not a tokenizer file
encode gpt2 a --allowed_special b         | `allowed_special` must be
encode gpt2 a --pieces maybe              | "pieces": Expected a bool
encode gpt2                               | standard input must be UTF-8
decode gpt2 1 x                           | `ids` must be integers, but 'x'
decode gpt2 50257                         | `ids` must be from 0 to 50256
decode gpt2 1.5                           | '1.5'
compare a                                 | required: tokenizers
compare a gpt2 nothing                    | got 'nothing'
compare '' gpt2                           | `text` must not be empty
"""


@pytest.mark.parametrize("case", BAD.strip("\n").split("\n"), ids=lambda case: case.split(" |")[0])
def test_bad_arguments_give_one_line(capsys, corpus, tmp_path, monkeypatch, give_input, case):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.json").write_text("")
    give_input(b"\xff")
    before = sorted(tmp_path.rglob("*"))
    line, expected = case.rsplit("| ", 1)
    code, out, err = run(capsys, *shlex.split(line.format(corpus=corpus)))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("gpt-keras: error: ")
    assert expected.strip() in err
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_not_installed_is_named(capsys, monkeypatch, tmp_path):
    def load(path):
        raise ImportError("pip install 'gpt_keras[text]'")

    monkeypatch.setitem(load.__globals__, "__name__", "gpt_keras.stand_in")
    monkeypatch.setattr(gk.tokenizers, "load", load)
    code, _, err = run(capsys, "encode", tmp_path, "a")
    assert (code, err.count("\n")) == (2, 1)
    assert "pip install 'gpt_keras[text]'" in err


@pytest.mark.parametrize("name", ["train", "encode", "decode", "compare"])
def test_help_explains_every_argument(capsys, name):
    with pytest.raises(SystemExit) as error:
        cli.main(["tokenizer", name, "--help"])
    assert error.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    command = getattr(commands, name)
    docs = docstring_parser.parse(command.__doc__)
    sentences = {param.arg_name: param.description for param in docs.params}
    for parameter in inspect.signature(command).parameters:
        assert " ".join(sentences[parameter].split()) in text
    assert docs.short_description in text


# Encodes and decodes from file to file, and then pieces from pipe to pipe. One process starts the
# command line three times, as importing TensorFlow takes most of the time.
COMMANDS = """
import os, runpy, sys


def start(*arguments, stdin=0, stdout=1):
    os.dup2(stdin, 0)
    os.dup2(stdout, 1)
    sys.stdin = open(0, closefd=False)
    sys.argv = ["gpt-keras", "tokenizer", *arguments]
    runpy.run_module("gpt_keras.cli", run_name="__main__")


def convert(command, source, result):
    try:
        start(command, "gpt2", stdin=os.open(source, os.O_RDONLY), stdout=os.open(result, WRITE))
    except SystemExit as error:
        assert error.code == 0


WRITE = os.O_WRONLY | os.O_CREAT
pipes = os.dup(0), os.dup(1)
convert("encode", "text", "ids")
convert("decode", "ids", "decoded")
start("encode", "gpt2", "--pieces", "true", stdin=pipes[0], stdout=pipes[1])
"""


@pytest.mark.slow
def test_pipes(tmp_path):
    text = "Hello 詩\r\n" * 30_000
    (tmp_path / "text").write_bytes(text.encode())
    process = subprocess.Popen(
        [sys.executable, "-c", COMMANDS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    process.stdin.write(text.encode())
    process.stdin.close()
    assert process.stdout.readline().split() == [b"15496", b"Hello"]
    process.stdout.close()  # what `head -1` does
    assert process.wait() == 1
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    assert (tmp_path / "decoded").read_bytes() == text.encode()
