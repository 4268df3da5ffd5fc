"""`gpt-keras classify`: texts and tables in, TSV and JSON lines out."""

import json
import shlex

import pytest

import gpt_keras as gk
from gpt_keras.records import read_rows

TEXTS = ["it is good", "bad", 'a "quote",\tand\nmore']


@pytest.fixture(scope="module")
def expected(classifier):
    return gk.GPTClassifier.from_preset(classifier).classify(TEXTS)


@pytest.fixture(scope="module")
def pairs(language_model, tmp_path_factory):
    """A folder of a classifier of pairs."""
    path = tmp_path_factory.mktemp("pairs") / "model"
    gk.GPTClassifier.from_preset(language_model, 3, "entailment").save_to_preset(path)
    return path


@pytest.fixture(scope="module")
def choice(language_model, tmp_path_factory):
    """A folder of a model of multiple choice."""
    path = tmp_path_factory.mktemp("choice") / "model"
    gk.GPTMultipleChoice.from_preset(language_model).save_to_preset(path)
    return path


def check(rows, expected, text="text"):
    """Compare rows of results with results of the library."""
    assert [row[text] for row in rows] == TEXTS
    assert [row["label"] for row in rows] == [result.label for result in expected]
    for row, result in zip(rows, expected, strict=True):
        for label, value in result.probabilities.items():
            found = row["probabilities"][label]
            assert found == pytest.approx(value, rel=1e-4)


def from_tsv(path):
    rows = list(read_rows(path))
    mark = "probability of "
    for row in rows:
        names = [name for name in row if name.startswith(mark)]
        row["probabilities"] = {name.removeprefix(mark): float(row[name]) for name in names}
    return rows


def test_texts_as_tsv(run, classifier, expected, tmp_path):
    code, out, err = run("classify", classifier, *TEXTS)
    assert (code, err) == (0, "")
    assert out.startswith("text\tlabel\tprobability of bad\tprobability of good\n")
    (tmp_path / "out.tsv").write_text(out)
    check(from_tsv(tmp_path / "out.tsv"), expected)


def test_texts_as_json_lines(run, classifier, expected):
    code, out, err = run("classify", classifier, *TEXTS, "--format", "jsonl")
    assert (code, err) == (0, "")
    check([json.loads(line) for line in out.splitlines()], expected)


@pytest.mark.parametrize("suffix", ["tsv", "jsonl"])
def test_a_table_into_a_file(run, classifier, expected, tmp_path, suffix):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"t": text}) + "\n" for text in TEXTS))
    output = tmp_path / "made" / f"out.{suffix}"
    options = ["--text", "t", "--output", output, "--batch-size", 2]
    code, out, err = run("classify", classifier, "--file", tmp_path / "in.jsonl", *options)
    assert (code, err) == (0, "")
    assert out.startswith(f"wrote {output} (")
    check(from_tsv(output) if suffix == "tsv" else list(read_rows(output)), expected)


def test_rows_keep_their_order_over_many_batches(run, classifier, tmp_path):
    texts = [letter * n for n in (1, 2) for letter in "abcdef"]
    (tmp_path / "in.csv").write_text("text\n" + "\n".join(texts))
    options = ["--file", tmp_path / "in.csv", "--batch-size", 1, "--format", "jsonl"]
    code, out, _ = run("classify", classifier, *options)
    rows = [json.loads(line) for line in out.splitlines()]
    results = gk.GPTClassifier.from_preset(classifier).classify(texts)
    assert (code, [row["text"] for row in rows]) == (0, texts)
    for row, result in zip(rows, results, strict=True):
        assert row["probabilities"] == pytest.approx(result.probabilities, rel=1e-4)


def test_pairs(run, pairs, tmp_path):
    (result,) = gk.GPTClassifier.from_preset(pairs).classify(("ab", "c"))
    (tmp_path / "in.csv").write_text("p,h\nab,c\n")
    table = ["--file", tmp_path / "in.csv", "--text", "p", "--text-pair", "h"]
    for source in (["ab", "c"], table):
        code, out, err = run("classify", pairs, *source, "--format", "jsonl")
        row = json.loads(out)
        assert (code, err, row["text"], row["text_pair"]) == (0, "", "ab", "c")
        assert row["label"] == result.label
        found = {int(label): value for label, value in row["probabilities"].items()}
        assert found == pytest.approx(result.probabilities, rel=1e-4)


def test_multiple_choice(run, choice):
    (result,) = gk.GPTMultipleChoice.from_preset(choice).classify(("ab", ["c", "d"]))
    code, out, err = run("classify", choice, "ab", "c", "d", "--format", "jsonl")
    row = json.loads(out)
    assert (code, err, row["context"], row["answers"]) == (0, "", "ab", ["c", "d"])
    assert row["label"] == result.label
    code, out, _ = run("classify", choice, "ab", "c", "d")
    assert out.splitlines()[0].split("\t")[:3] == ["context", "answers", "label"]


BAD = """
classify                                         | required: model
classify {c}                                     | `texts` or `file` must be given
classify {c} a --file in.csv                     | and not both
classify {c} ''                                  | `texts` must not be blank, got ''
classify {c} Q                                   | ['Q']
classify {c} --file nothing.csv                  | There is no file 'nothing.csv'
classify {c} --file in.csv                       | there is no column 'text'. The row has 't', 'u'
classify {c} --file in.csv --text u              | in.csv, line 3: the text 'u' must be a string
classify {c} --file header.csv                   | `file` must have rows
classify {c} --file in.csv --text t --text-pair t | `text_pair` must be left out
classify {c} a --output out.csv                  | must end in .tsv or .jsonl
classify {c} a --output taken.tsv                | exists already
classify {c} a --output out.tsv --format jsonl   | `format` must be that of `output`, tsv, got jsonl
classify {c} a --format xml                      | "format"
classify {c} a --batch-size 0                    | `batch_size` must be
classify nothing a                               | got 'nothing'
classify {lm} a                                  | holds a GPTCausalLM. gpt-keras finetune makes
classify {pairs} a                               | the two texts of one pair
classify {pairs} a b c                           | For several pairs, give a `file`
classify {pairs} --file in.csv --text t          | `text_pair` must be given
classify {choice} a                              | a context and its answers
classify {choice} --file in.csv --text t         | `file` must be left out
"""


@pytest.mark.parametrize("case", BAD.strip().split("\n"), ids=lambda case: case.split(" |")[0])
def test_bad_input_gives_one_line(
    run, classifier, language_model, pairs, choice, tmp_path, monkeypatch, case
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.csv").write_text("t,u\na,b\nc,\n")
    (tmp_path / "header.csv").write_text("text\n")
    (tmp_path / "taken.tsv").touch()
    before = sorted(tmp_path.rglob("*"))
    line, expected = case.rsplit("|", 1)
    folders = {"c": classifier, "lm": language_model, "pairs": pairs, "choice": choice}
    code, out, err = run(*shlex.split(line.format(**folders)))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert expected.strip() in err
    assert sorted(tmp_path.rglob("*")) == before
