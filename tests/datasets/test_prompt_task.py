"""Tasks as prompts: templates, YAML files, and training rows with the loss on the targets."""

import builtins
import json

import jinja2
import numpy as np
import pandas as pd
import pytest
from tiny_models import tiny_config

import gpt_keras as gk

PromptTask = gk.datasets.PromptTask

SQUAD = {
    "context": "Bonn was the capital.",
    "question": "What was Bonn?",
    "answers": {"text": ["the capital", "capital"], "answer_start": [9, 13]},
}
ROWS = {
    "question_answering": (
        SQUAD,
        "Bonn was the capital.\n\nQuestion: What was Bonn?\nAnswer:",
        " the capital",
        ("the capital", "capital"),
    ),
    "open_question_answering": (
        {"question": "Who wrote Faust?", "answers": ["Goethe", "J. W. Goethe"]},
        "Question: Who wrote Faust?\nAnswer:",
        " Goethe",
        ("Goethe", "J. W. Goethe"),
    ),
    "translation_en_zh": (
        {"en": "Open the file.", "zh": "打开文件。"},
        "English: Open the file.\nChinese:",
        "打开文件。",
        ("打开文件。",),
    ),
    "summarization": (
        {"document": "A long story.", "summary": "Short."},
        "A long story.\nTL;DR:",
        " Short.",
        ("Short.",),
    ),
    "entailment": (
        {"premise": "It rains.", "hypothesis": "It is dry.", "label": 2},
        "It rains.\nQuestion: It is dry. True, False or Neither?\nAnswer:",
        " False",
        ("False",),
    ),
    "similarity": (
        {"sentence1": "A.", "sentence2": "B.", "label": 1},
        "Sentence 1: A.\nSentence 2: B.\nDo both mean the same?\nAnswer:",
        " yes",
        ("yes",),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_shipped_tasks(name):
    row, prompt, target, references = ROWS[name]
    task = PromptTask.load(name)
    assert task.name == name
    assert task.stop == ("\n",)
    [example] = task.examples([row | {"other": 1}])
    assert example == (prompt, target, references, "`source`, row 0")


@pytest.mark.parametrize(
    ("label", "target"),
    [(0, " True"), ("1", " Neither"), ("contradiction", " False"), ("neutral", " Neither")],
)
def test_labels_are_numbers_or_names(label, target):
    row = {"premise": "a", "hypothesis": "b", "label": label}
    [example] = PromptTask.load("entailment").examples([row])
    assert example.target == target


def test_tables_of_all_kinds(tmp_path):
    task = PromptTask.load("translation_en_zh")
    row = ROWS["translation_en_zh"][0]
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    frame = pd.DataFrame([row])
    frame.to_csv(tmp_path / "pairs.csv", index=False)
    for source in (path, tmp_path / "pairs.csv", frame, [row], iter([row])):
        [example] = task.examples(source)
        assert example[:3] == ROWS["translation_en_zh"][1:]
    answers = PromptTask.load("open_question_answering")
    frame = pd.DataFrame({"question": ["Who?"], "answers": [np.array(["I", "we"])]})
    [example] = answers.examples(frame)
    assert example.references == ("I", "we")


def test_templates_render_as_jinja_does():
    source = "{% for w in words %}{{ loop.index }}. {{ w | upper }}\n{% endfor %}=>\n"
    task = PromptTask(name="list", prompt=source, target="{{ n }}", target_delimiter="")
    row = {"words": ["a", "b"], "n": 2}
    [example] = task.examples([row])
    plain = jinja2.Environment(keep_trailing_newline=True).from_string(source)
    assert example.prompt == plain.render(row) == "1. A\n2. B\n=>\n"
    replaced = PromptTask(
        name="r", prompt="{{ q | regex_replace('\\\\d+', '#') }}", target="{{ range }}"
    )
    [example] = replaced.examples([{"q": "a 12", "range": 3}])
    assert (example.prompt, example.target) == ("a #", " 3")


def test_a_template_runs_in_a_sandbox():
    row = {"q": "a", "t": "b"}
    for source in (
        "{{ q.__class__.__mro__ }}",
        "{{ ''.__class__ }}{{ q }}",
        "{{ q.__init__.__globals__ }}",
    ):
        task = PromptTask(name="bad", prompt=source, target="{{ t }}")
        with pytest.raises(ValueError, match=r"row 0: the template `prompt` fails: .*unsafe"):
            list(task.examples([row]))
    task = PromptTask(name="bad", prompt="{{ q.append('x') }}", target="{{ t }}")
    with pytest.raises(ValueError, match="row 0: the template `prompt` fails"):
        list(task.examples([{"q": [], "t": "b"}]))


YAML = """\
name: capitals
prompt: "Capital of {{ country }}:"
target: "{{ city }}"
metrics: [exact_match]
stop: ["\\n", "."]
max_new_tokens: 8
"""


def test_a_yaml_file_is_the_task(tmp_path):
    path = tmp_path / "capitals.yaml"
    path.write_text(YAML, encoding="utf-8")
    expected = PromptTask(
        name="capitals",
        prompt="Capital of {{ country }}:",
        target="{{ city }}",
        metrics="exact_match",
        stop=["\n", "."],
        max_new_tokens=8,
    )
    assert PromptTask.load(path) == expected
    assert expected.stop == ("\n", ".")
    assert expected.replace(stop=".").stop == (".",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("stop:", "until:", r"line 5: a key must be one of name, prompt.*got 'until'"),
        ("stop: [", "metrics: [", r"line 5: the key 'metrics' stands there twice"),
        ('target: "{{ city }}"', "", "must have the key 'target'"),
        ("max_new_tokens: 8", "max_new_tokens: eight", "line 6: `max_new_tokens` must be an int"),
        ("{{ city }}", "{{ city }", "line 3: `target` is not a Jinja template"),
        ("{{ city }}", "{% break %}", "line 3: `target` is not a Jinja template"),
        ("{{ country }}", "France", "line 2: `prompt` must use a column"),
        ("}}:", "}}: ", "line 2: `prompt` must not end with a space"),
        ("stop: [", "stop: [1, ", "line 5: `stop` must hold strings, got 1"),
        ("stop: [", "stop: ['', ", "line 5: `stop` must hold texts that are not empty"),
        ("metrics: [exact_match]", "metrics: []", "line 4: `metrics` must hold texts"),
        ("metrics: [", "metrics: {", "line 4: broken YAML"),
        ("name: capitals", "name: 3", "line 1: `name` must be a text, got 3"),
        ("target:", "references: '1 +'\ntarget:", "line 3: `references` is not a Jinja"),
        (YAML, "- a\n", "must hold keys and values"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(tmp_path, old, new, message):
    path = tmp_path / "task.yaml"
    assert old in YAML
    path.write_text(YAML.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"(?s)task\.yaml.*{message}"):
        PromptTask.load(path)


def test_an_unknown_task_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"one of entailment, .*got 'squad'"):
        PromptTask.load("squad")
    with pytest.raises(ValueError, match="There is no file"):
        PromptTask.load(tmp_path / "none.yaml")
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: é".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.yaml must be UTF-8"):
        PromptTask.load(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Who?"}, "row 0: there is no column 'answers'"),
        ({"question": None, "answers": ["a"]}, "row 0: the template `prompt` fails: .*missing"),
        ({"question": "Who?", "answers": []}, "row 0: the template `target` fails"),
        ({"question": "Who?", "answers": ["", "a"]}, "row 0: the template `target` gives an empty"),
        ({"question": "Who?", "answers": ["a", ""]}, "row 0: `references` must give .* empty"),
        ({"question": "Who?", "answers": ["a", 3]}, "row 0: `references` fails: .*got 3"),
    ],
)
def test_a_bad_row_is_refused_with_its_place(row, message):
    with pytest.raises(ValueError, match=message):
        list(PromptTask.load("open_question_answering").examples([row]))


def test_a_bad_row_of_a_file_is_refused_with_its_line(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("en,zh\nOpen,打开\nClose,\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"pairs\.csv, line 3: the template `target` fails"):
        list(PromptTask.load("translation_en_zh").examples(path))


# Training rows


TASK = PromptTask(name="t", prompt="{{ q }}?", target="{{ a }}", stop="!", max_new_tokens=4)
TABLE = [{"q": "ab", "a": "ba"}, {"q": "a", "a": "abba"}, {"q": "bbbbb", "a": "b"}]


def model_of(tokenizer, **changes):
    config = tiny_config(vocabulary_size=tokenizer.vocabulary_size, **changes)
    return gk.GPTCausalLM(config, tokenizer=tokenizer)


def test_only_targets_and_the_end_are_trained_on():
    tokenizer = gk.tokenizers.CharacterTokenizer("ab ?!", end_of_text=True)
    data = gk.datasets.prompted(TASK, TABLE, model_of(tokenizer))
    end = tokenizer.end_of_text
    for i, row in enumerate(TABLE):
        expected = [(f"{row['q']}?", False), (f" {row['a']}{end}", True)]
        assert data.runs(i, tokenizer) == expected
    inputs, targets, weights = next(iter(data.batches(3, num_lengths=1)))
    trained = [
        tokenizer.decode(row[weight > 0])
        for row, weight in zip(targets.numpy(), weights.numpy(), strict=True)
    ]
    assert trained == [f" {row['a']}{end}" for row in TABLE]
    assert data.num_trained == weights.numpy().sum() == sum(len(row["a"]) + 2 for row in TABLE)
    assert inputs.shape == targets.shape == (3, 8)


def test_the_prompt_has_the_ids_that_generate_gives_it():
    text = "low lower lowest newer? wider! " * 9
    tokenizer = gk.tokenizers.BytePairTokenizer.train(text, 280, special_tokens=["<s>", "</s>"])
    tokenizer = tokenizer.with_boundaries("<s>", "</s>", adds_start_of_text=True)
    task = TASK.replace(prompt="{{ q }}", target_delimiter="")
    # The tokenizer would join the end of the prompt with the target.
    assert len(tokenizer.encode("lower")) < len(tokenizer.encode("l") + tokenizer.encode("ower"))
    data = gk.datasets.prompted(task, [{"q": "l", "a": "ower"}], model_of(tokenizer))
    prompt = tokenizer.encode("l", add_start_of_text=True)
    [ids], [mask] = data
    assert ids[~mask].tolist() == prompt
    assert ids[mask].tolist() == [*tokenizer.encode("ower"), tokenizer.end_of_text_id]


def test_without_an_end_token_a_stop_string_ends_the_target():
    tokenizer = gk.tokenizers.CharacterTokenizer("ab ?!")
    data = gk.datasets.prompted(TASK, TABLE, model_of(tokenizer))
    assert data.runs(0, tokenizer) == [("ab?", False), (" ba!", True)]
    with pytest.raises(ValueError, match="would not learn to stop"):
        gk.datasets.prompted(TASK.replace(stop=()), TABLE, model_of(tokenizer))


def test_the_end_token_is_the_models():
    tokenizer = gk.tokenizers.CharacterTokenizer("ab ?!", end_of_text=True)
    model = model_of(tokenizer)
    model.end_token_ids = tokenizer.encode("!")
    assert gk.datasets.prompted(TASK, TABLE, model).runs(0, tokenizer)[1] == (" ba!", True)


def test_long_examples_are_left_out_and_counted():
    tokenizer = gk.tokenizers.CharacterTokenizer("ab ?!", end_of_text=True)
    model = model_of(tokenizer)
    # Tokens with the end: 7, 8 and 9; the last one is only a target.
    with pytest.warns(UserWarning, match="1 of 3 examples have more than 7 input tokens"):
        data = gk.datasets.prompted(TASK, TABLE, model, sequence_length=7)
    assert [len(ids) for ids in data.token_ids] == [7, 8]
    with pytest.raises(ValueError, match="Each of the 3 examples has more than 5 input tokens"):
        gk.datasets.prompted(TASK, TABLE, model, sequence_length=5)
    with pytest.raises(ValueError, match=r"`sequence_length` must be at most 48.*got 49"):
        gk.datasets.prompted(TASK, TABLE, model, sequence_length=49)
    with pytest.raises(ValueError, match="Each of the 1 examples has more than 48"):
        gk.datasets.prompted(TASK, [{"q": "a" * 60, "a": "b"}], model)


def test_bad_arguments_are_refused(character_tokenizer):
    model = model_of(character_tokenizer)
    with pytest.raises(ValueError, match="`source` must have rows"):
        gk.datasets.prompted(TASK, [], model)
    with pytest.raises(ValueError, match="`model` must be a CausalLM with a tokenizer"):
        gk.datasets.prompted(TASK, TABLE, gk.GPTCausalLM(tiny_config()))
    with pytest.raises(ValueError, match=r"`task` must be a gk\.datasets\.PromptTask, got 'qa'"):
        gk.datasets.prompted("qa", TABLE, model)
    with pytest.raises(ValueError, match="`sequence_length` must be an integer"):
        gk.datasets.prompted(TASK, TABLE, model, sequence_length=0)


def test_rows_become_conversations(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"q": "ab", "a": "ba"}\n', encoding="utf-8")
    [row] = TASK.conversations(path)
    assert row["messages"] == [
        {"role": "user", "content": "ab?"},
        {"role": "assistant", "content": "ba"},
    ]
    assert row.place.endswith("pairs.jsonl, line 1")


@pytest.mark.parametrize("package", ["jinja2", "yaml"])
def test_a_missing_package_is_named(package, monkeypatch):
    actual = builtins.__import__

    def without(module, *arguments, **settings):
        if module.split(".")[0] == package:
            raise ImportError(module)
        return actual(module, *arguments, **settings)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'gpt_keras\[evaluation\]'"):
        PromptTask.load("summarization")
