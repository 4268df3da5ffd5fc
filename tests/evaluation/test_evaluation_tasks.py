"""Choice, continuation and answer tasks on a model, and their errors."""

import json
import math
import random

import keras
import numpy as np
import pytest
import tensorflow as tf

import gpt_keras as gk
from gpt_keras.evaluation.tasks import text_scores

ChoiceTask = gk.evaluation.ChoiceTask

COLORS = ChoiceTask(name="colors", prompt="{{ thing }} is", choices="colors", answer="right")
ROWS = [
    {"thing": "grass", "colors": ["green", "red", "sky blue"], "right": "green"},
    {"thing": "the sky", "colors": ["no", "blue"], "right": 1},
    {"thing": "snow", "colors": ["white", "black", "white, of course"], "right": "2"},
    {"thing": "coal", "colors": ["black", "white"], "right": 0},
]
LAST_WORD = gk.evaluation.ContinuationTask(
    name="last word",
    prompt="{{ text.split(' ')[:-1] | join(' ') }}",
    target="{{ text.split(' ')[-1] }}",
)
TEXTS = [{"text": "to be or not to be"}, {"text": "all is well that ends well"}]


def log_probability(model, context, continuation):
    """Return the log-probability of a continuation and whether it is greedy, in NumPy."""
    ids = model.tokenizer.encode(context + continuation)
    start = len(model.tokenizer.encode(context))
    logits = np.asarray(model(np.array([ids[:-1]])), np.float64)[0]
    logits -= logits.max(-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    steps = range(start, len(ids))
    is_greedy = all(logits[i - 1].argmax() == ids[i] for i in steps)
    return sum(logits[i - 1, ids[i]] for i in steps), is_greedy


def test_choices_are_scored_after_the_prompt(spread_model):
    result = gk.evaluation.evaluate(spread_model, COLORS, ROWS)
    assert [record["answer"] for record in result.records] == [0, 1, 2, 0]
    for row, record in zip(ROWS, result.records):
        own = [
            log_probability(spread_model, f"{row['thing']} is", f" {c}")[0] for c in row["colors"]
        ]
        assert record["log_probabilities"] == pytest.approx(own, abs=1e-4)
        assert record["num_tokens"] == [len(color) + 1 for color in row["colors"]]
        lengths = np.array([len(color) for color in row["colors"]])
        assert record["chosen"] == {
            "acc": np.argmax(own),
            "acc_norm": np.argmax(own / lengths),
            "acc_per_token": np.argmax(own / (lengths + 1)),
        }
        others = [value for i, value in enumerate(own) if i != record["answer"]]
        margin = own[record["answer"]] - max(others)
        assert record["scores"]["margin"] == pytest.approx(margin, abs=2e-4)
        assert not record["was_cut"]
    for name in ("acc", "acc_norm", "acc_per_token"):
        is_right = [record["chosen"][name] == record["answer"] for record in result.records]
        error = np.std(is_right, ddof=1) / 2
        assert result.metrics[name] == (np.mean(is_right), pytest.approx(error), 4)
    assert str(result).startswith("colors: 4 items, 0 cut on the left\nacc           0.")


def test_equal_choices_are_a_tie_and_the_first_is_chosen(spread_model):
    rows = [{"thing": "a", "colors": ["red", "red"], "right": 1}]
    [record] = gk.evaluation.evaluate(spread_model, COLORS, rows).records
    assert set(record["chosen"].values()) == {0}
    assert record["scores"] == {"acc": 0, "acc_norm": 0, "acc_per_token": 0, "margin": 0}


def test_continuations(spread_model):
    prompt = "to be or not to"
    greedy = spread_model.generate(prompt, max_new_tokens=3, temperature=0).removeprefix(prompt)
    task = LAST_WORD.replace(prompt="{{ p }}", target="{{ t }}", target_delimiter="")
    rows = [{"p": prompt, "t": greedy}, {"p": prompt, "t": " be"}]
    result = gk.evaluation.evaluate(spread_model, task, rows)
    found = [record["scores"]["log_probability"] for record in result.records]
    own = [log_probability(spread_model, prompt, row["t"]) for row in rows]
    assert found == pytest.approx([value for value, _ in own], abs=1e-4)
    assert [record["scores"]["acc"] for record in result.records] == [1.0, float(own[1][1])]
    assert result.metrics["perplexity"].value == pytest.approx(math.exp(-np.mean(found)))


def test_the_standard_error_of_a_perplexity_is_near_the_delta_method(spread_model):
    values = np.random.default_rng(0).normal(-3, 1, 400)
    records = [{"scores": {"acc": 0.0, "log_probability": value}} for value in values]
    estimate = LAST_WORD.summarize(records)["perplexity"]
    delta = estimate.value * values.std(ddof=1) / math.sqrt(len(values))
    assert estimate.standard_error == pytest.approx(delta, rel=0.02)
    single = LAST_WORD.summarize(records[:1])["perplexity"]
    assert math.isnan(single.standard_error)


def test_solved_examples_stand_before_the_prompt(spread_model):
    task = COLORS.replace(description="Colors of {{ thing }}:\n")
    assert task.columns == ("colors", "right", "thing")
    few = task.with_examples(2, ROWS)
    contexts = [example.context for example in few.examples(ROWS)]
    # The row itself is never one of its examples.
    assert contexts[0] == "Colors of grass:\nthe sky is blue\n\nsnow is white, of course\n\n"
    assert contexts[1] == "Colors of the sky:\ngrass is green\n\nsnow is white, of course\n\n"
    assert contexts[3] == "Colors of coal:\ngrass is green\n\nthe sky is blue\n\n"
    task = COLORS.replace(example_delimiter=", ")
    [record] = gk.evaluation.evaluate(
        spread_model, task, ROWS[3:], num_examples=1, examples=ROWS[:1]
    ).records
    assert record["prompt"] == "coal is"
    own, _ = log_probability(spread_model, "grass is green, coal is", " white")
    assert record["log_probabilities"][1] == pytest.approx(own, abs=1e-4)
    with pytest.raises(ValueError, match=r"num_examples=4, but the table .* only 4 rows, one of"):
        few.with_examples(4).examples(ROWS)
    with pytest.raises(ValueError, match="'colors' has num_examples=2: `examples` must be a table"):
        gk.evaluation.evaluate(spread_model, COLORS, ROWS, num_examples=2)
    last = LAST_WORD.replace(example_target_delimiter="  ", example_delimiter="|")
    [example] = last.with_examples(1, TEXTS[1:]).examples(TEXTS[:1])
    assert example.context == "all is well that ends  well|"
    assert example.target == " be"


def test_the_file_of_examples_lies_beside_the_table(spread_model, tmp_path):
    task = COLORS.replace(num_examples=1, examples_file="solved.jsonl", example_delimiter=", ")
    for name, rows in (("rows.jsonl", ROWS[:2]), ("solved.jsonl", ROWS[2:])):
        lines = [json.dumps(row) + "\n" for row in rows]
        (tmp_path / name).write_text("".join(lines), encoding="utf-8")
    found = gk.evaluation.evaluate(spread_model, task, tmp_path / "rows.jsonl").records
    own, _ = log_probability(spread_model, "snow is white, of course, grass is", " green")
    assert found[0]["log_probabilities"][0] == pytest.approx(own, abs=1e-4)
    assert found[0]["place"] == f"{tmp_path / 'rows.jsonl'}, line 1"
    (tmp_path / "solved.jsonl").unlink()
    with pytest.raises(ValueError, match=r"There is no file .*solved.jsonl"):
        gk.evaluation.evaluate(spread_model, task, tmp_path / "rows.jsonl")
    with pytest.raises(ValueError, match=r"a table of solved examples, such as 'solved.jsonl'"):
        gk.evaluation.evaluate(spread_model, task, ROWS)


def test_an_empty_prompt_compares_texts(spread_model):
    task = ChoiceTask(name="pairs", prompt="", choices="[a, b]", answer="0", target_delimiter="")
    [record] = gk.evaluation.evaluate(spread_model, task, [{"a": "ab", "b": "ba"}]).records
    tokenizer = spread_model.tokenizer
    ids = [tokenizer.end_of_text_id, *tokenizer.encode("ab")]
    logits = tf.nn.log_softmax(spread_model(np.array([ids[:-1]])))[0].numpy()
    own = logits[0, ids[1]] + logits[1, ids[2]]
    assert record["log_probabilities"][0] == pytest.approx(own, abs=1e-4)


def test_an_item_that_is_too_long_is_cut_on_the_left_and_counted(spread_model):
    rows = [{"thing": "x" * 60, "colors": ["red", "blue"], "right": 0}, ROWS[0]]
    result = gk.evaluation.evaluate(spread_model, COLORS, rows)
    assert [record["was_cut"] for record in result.records] == [True, False]
    assert result.num_cut == 1
    assert "2 items, 1 cut on the left" in str(result)


def test_evaluation_changes_neither_weights_nor_seeds_and_repeats(spread_model):
    weights = [np.array(weight) for weight in spread_model.weights]
    keras.utils.set_random_seed(3)
    expected = random.random(), np.random.random(), float(tf.random.uniform(()))
    keras.utils.set_random_seed(3)
    for task, rows in ((COLORS, ROWS), (LAST_WORD, TEXTS), (SPELLING, WORDS)):
        first = gk.evaluation.evaluate(spread_model, task, rows)
        assert gk.evaluation.evaluate(spread_model, task, rows) == first
        json.dumps(first.records)
        other = gk.evaluation.evaluate(spread_model, task, rows, batch_size=1)
        for a, b in zip(first.records, other.records):
            assert a["scores"] == pytest.approx(b["scores"], abs=1e-3)
        limited = gk.evaluation.evaluate(spread_model, task, iter(rows), limit=1)
        assert len(limited.records) == 1
        assert limited.records[0]["scores"] == pytest.approx(first.records[0]["scores"], abs=1e-3)
    assert (random.random(), np.random.random(), float(tf.random.uniform(()))) == expected
    assert all(np.array_equal(*pair) for pair in zip(weights, spread_model.weights))


SPELLING = gk.datasets.PromptTask(
    name="spelling",
    prompt="{{ word }}?",
    target="{{ answer }}",
    metrics=["exact_match", "token_f1", "rouge", "bleu", "chrf"],
    max_new_tokens=3,
)
WORDS = [{"word": word, "answer": answer} for word, answer in zip("abcdef", "bbddff")]


def test_a_prompt_task_is_evaluated_as_answers(spread_model):
    table = gk.evaluation.answers(spread_model, SPELLING, WORDS)
    # Two of the answers are right.
    rows = [
        row | {"answer": answer.text or "x"} if i < 2 else row
        for i, (row, answer) in enumerate(zip(WORDS, table.answers))
    ]
    expected = gk.evaluation.answers(spread_model, SPELLING, rows)
    result = gk.evaluation.evaluate(spread_model, SPELLING, rows)
    assert list(result.metrics) == [*list(expected.scores)[:6], "bleu", "chrf"]
    for name, score in expected.scores.items():
        assert result.metrics[name].value == pytest.approx(score)
    assert result.metrics["exact_match"].standard_error == pytest.approx(
        np.std([a.scores["exact_match"] for a in expected.answers], ddof=1) / math.sqrt(6)
    )
    assert result.metrics["chrf"].standard_error > 0
    assert result.metrics["chrf"].num_items == 6
    assert [record["answer"] for record in result.records] == [a.text for a in expected.answers]
    assert [record["place"] for record in result.records] == [
        f"`source`, row {i}" for i in range(6)
    ]
    assert result.records[0]["references"] == [rows[0]["answer"]]
    assert {record["has_stopped"] for record in result.records} <= {True, False}


def test_the_error_of_bleu_is_that_of_a_bootstrap_of_the_rows():
    """The resamples of lm-evaluation-harness: `random.Random(0).choices`, a hundred times."""
    task = gk.evaluation.AnswerTask.from_prompt_task(SPELLING.replace(metrics="chrf"))
    answers = ["a small cat", "two dogs", "the end", "four"]
    right = ["a small dog", "two dogs", "an end", "fourteen"]
    records = [{"answer": a, "references": [b]} for a, b in zip(answers, right)]
    found = task.summarize(records)["chrf"]
    assert found.value == gk.evaluation.chrf(answers, right)
    generator, values = random.Random(0), []
    for _ in range(100):
        rows = generator.choices(range(4), k=4)
        values.append(gk.evaluation.chrf([answers[i] for i in rows], [right[i] for i in rows]))
    assert found.standard_error == pytest.approx(np.std(values, ddof=1))


def test_a_users_checker_and_solved_examples_of_answers(spread_model):
    def checker(answer, references):
        assert references in {("b",), ("d",), ("f",)}
        return len(answer)

    task = gk.evaluation.AnswerTask.from_prompt_task(SPELLING)
    task = task.replace(checker=checker, metrics="exact_match", example_delimiter=". ")
    result = gk.evaluation.evaluate(spread_model, task, WORDS, num_examples=1, examples=WORDS[:2])
    assert list(result.metrics) == ["exact_match", "checker"]
    prompts = [record["prompt"] for record in result.records]
    assert prompts[:2] == ["b? b. a?", "a? b. b?"]
    lengths = [len(record["answer"]) for record in result.records]
    assert result.metrics["checker"].value == np.mean(lengths)
    greedy = spread_model.generate(prompts, max_new_tokens=3, temperature=0)
    for record, text in zip(result.records, greedy):
        assert record["answer"] == text.removeprefix(record["prompt"]).strip()
    with pytest.raises(ValueError, match=r"`checker` must be a function .*got 3"):
        task.replace(checker=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": None}, "`prompt` must be a text, got None"),
        ({"name": ""}, "`name` must be a text that is not empty"),
        ({"prompt": "{{ thing"}, "`prompt` is not a Jinja template"),
        ({"choices": "[a, b"}, "`choices` is not a Jinja template"),
        ({"choices": "a }} {{ b"}, "`choices` is not a Jinja template"),
        ({"choices": ""}, "`choices` must be a text that is not empty"),
        ({"prompt": "", "choices": "['a', 'b']"}, "`prompt` or `choices` must use a column"),
        ({"prompt": "{{ thing }} "}, "`prompt` must not end with a space"),
        ({"metrics": "f1"}, r"`metrics` must hold one or several of acc, .*got \('f1',\)"),
        ({"metrics": []}, "`metrics` must hold one or several of"),
        ({"num_examples": -1}, "`num_examples` must be an integer of at least 0, got -1"),
        ({"num_examples": True}, "`num_examples` must be an integer of at least 0, got True"),
        ({"example_delimiter": 3}, "`example_delimiter` must be a text, got 3"),
        ({"file": 3}, "`file` must be a text that is not empty, got 3"),
        ({"description": "{% if %}"}, "`description` is not a Jinja template"),
    ],
)
def test_bad_arguments_of_a_choice_task(changes, message):
    with pytest.raises(ValueError, match=message):
        COLORS.replace(**changes)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"thing": "a", "colors": ["x", "y"]}, "row 0: there is no column 'right'"),
        ({"thing": None, "colors": ["x", "y"], "right": 0}, "row 0: the template `prompt` fails"),
        ({"thing": "a", "colors": ["x"], "right": 0}, "row 0: `choices` must give at least two"),
        ({"thing": "a", "colors": ["x", ""], "right": 0}, "row 0: `choices` .* none of them empty"),
        ({"thing": "a", "colors": ["x", 3], "right": 0}, "row 0: `choices` fails: .*got 3"),
        ({"thing": "a", "colors": None, "right": 0}, "row 0: `choices` fails: a value is missing"),
        ({"thing": "a", "colors": ["x", "y"], "right": 2}, "from 0 to 1 or one of .*; got 2"),
        ({"thing": "a", "colors": ["x", "y"], "right": -1}, "from 0 to 1 or one of .*; got -1"),
        ({"thing": "a", "colors": ["x", "y"], "right": "z"}, "from 0 to 1 or one of .*; got 'z'"),
        ({"thing": "a", "colors": ["x", "y"], "right": 0.5}, "from 0 to 1 or one of .*; got 0.5"),
        ({"thing": "a", "colors": ["x", "y"], "right": None}, "`answer` fails: a value is missing"),
    ],
)
def test_a_bad_row_is_refused_with_its_place(row, message):
    with pytest.raises(ValueError, match=message):
        COLORS.examples([row])


def test_other_errors_of_evaluate(spread_model):
    evaluate = gk.evaluation.evaluate
    with pytest.raises(ValueError, match="`model` must be a CausalLM with a tokenizer"):
        evaluate(None, COLORS, ROWS)
    with pytest.raises(ValueError, match="`limit` must be an integer of at least 1, got 0"):
        evaluate(spread_model, COLORS, ROWS, limit=0)
    with pytest.raises(ValueError, match="`batch_size` must be an integer of at least 1, got 0"):
        evaluate(spread_model, COLORS, ROWS, batch_size=0)
    with pytest.raises(ValueError, match="`source` must have rows, but is empty"):
        evaluate(spread_model, COLORS, [])
    with pytest.raises(ValueError, match=r"`task` must be an evaluation task .*got 3"):
        evaluate(spread_model, 3, ROWS)
    with pytest.raises(ValueError, match="`num_examples` must be at least 1 where `examples`"):
        evaluate(spread_model, COLORS, ROWS, examples=ROWS)
    with pytest.raises(ValueError, match="row 0: the template `target` gives an empty text"):
        evaluate(spread_model, LAST_WORD, [{"text": "ends with a space "}])
    task = LAST_WORD.replace(target_delimiter="")
    with pytest.raises(ValueError, match=r"row 1: `text` holds characters .*'#'"):
        evaluate(spread_model, task, [TEXTS[0], {"text": "a #"}])


def test_a_continuation_without_ids_is_refused(spread_model, monkeypatch):
    monkeypatch.setattr(text_scores, "encode_pair", lambda *arguments: ([1, 2], []))
    with pytest.raises(ValueError, match="row 0: the tokenizer encodes ' green' to no ids"):
        gk.evaluation.evaluate(spread_model, COLORS, ROWS)


CHOICE = """\
kind: choice
name: colors
prompt: "{{ thing }} is"
choices: colors
answer: right
metrics: [acc, margin]
num_examples: 2
"""


def test_a_yaml_file_is_the_task(tmp_path):
    path = tmp_path / "colors.yaml"
    path.write_text(CHOICE, encoding="utf-8")
    expected = COLORS.replace(metrics=["acc", "margin"], num_examples=2)
    assert gk.evaluation.load_task(path) == gk.evaluation.load_task(str(path)) == expected
    path.write_text(CHOICE.replace("choice\n", "continuation\n"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"colors.yaml, line 4: a key must be one of .*'choices'"):
        gk.evaluation.load_task(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: choice", "kind: quiz", "line 1: `kind` must be one of answer, choice, .*'quiz'"),
        ("kind: choice", "kind: [choice]", "line 1: `kind` must be one of"),
        ("answer: right", "", "colors.yaml must have the key 'answer'"),
        ("answer: right", "answer: '[right'", "line 5: `answer` is not a Jinja template"),
        ("num_examples: 2", "num_examples: two", "line 7: `num_examples` must be an integer"),
        (
            "num_examples: 2",
            "num_exampels: 2",
            "line 7: a key must be one of .*'num_exampels'",
        ),
        ("num_examples: 2", "example_table: x", "line 7: a key must be one of name"),
        ("num_examples: 2", "name: again", "line 7: the key 'name' stands there twice"),
        ("acc, margin", "acc, marg", "line 6: `metrics` must hold one or several of acc"),
        ("acc, margin", "acc, margin", None),
        ("name: colors", "name: 3", "line 2: `name` must be a text"),
        ("name: colors", "name: [", "broken YAML"),
        (CHOICE, "- a", "must hold keys and values, got"),
    ],
)
def test_a_malformed_file_is_refused_with_file_and_line(tmp_path, old, new, message):
    path = tmp_path / "colors.yaml"
    path.write_text(CHOICE.replace(old, new), encoding="utf-8")
    if message is None:
        gk.evaluation.load_task(path)
        return
    with pytest.raises(ValueError, match=message) as error:
        gk.evaluation.load_task(path)
    assert str(path) in str(error.value)


SUITE = """\
name: mine
limit: 50
tasks:
  - piqa
  - task: colors.yaml
    file: colors.csv
    examples_file: solved.csv
    limit: 7
  - task: boolq
    num_examples: 1
"""


def suite_file(tmp_path, old="", new=""):
    (tmp_path / "colors.yaml").write_text(CHOICE, encoding="utf-8")
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE.replace(old, new) if old else SUITE, encoding="utf-8")
    return path


def test_a_suite_of_a_user(tmp_path):
    suite = gk.evaluation.load_suite(suite_file(tmp_path))
    assert suite.name == "mine"
    assert [entry.task.name for entry in suite.entries] == ["piqa", "colors", "boolq"]
    assert [tuple(entry[1:]) for entry in suite.entries] == [
        ("piqa.jsonl", None, 50),
        ("colors.csv", "solved.csv", 7),
        ("boolq.jsonl", "boolq_train.jsonl", 50),
    ]
    assert suite.entries[2].task.num_examples == 1
    (tmp_path / "colors.csv").touch()
    missing = suite.missing_files(tmp_path)
    assert list(missing) == ["piqa.jsonl", "solved.csv", "boolq.jsonl", "boolq_train.jsonl"]
    assert missing["piqa.jsonl"].startswith("PIQA, validation split: dataset ybisk/piqa")
    assert missing["solved.csv"].startswith("the task colors does not say")
    assert missing["boolq_train.jsonl"].endswith("(solved examples)")


def test_the_file_of_a_task_is_a_suite(tmp_path):
    path = tmp_path / "one.yaml"
    path.write_text(CHOICE.replace("num_examples: 2", "file: a.csv"), encoding="utf-8")
    suite = gk.evaluation.load_suite(path)
    assert suite.name == "colors"
    [entry] = suite.entries
    assert entry[1:] == ("a.csv", None, None)
    path.write_text(CHOICE, encoding="utf-8")
    with pytest.raises(ValueError, match=r"one.yaml: the task 'colors' names no file"):
        gk.evaluation.load_suite(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  - piqa", "  - pika", "line 4: `source` must be one of .*got 'pika'"),
        ("  - piqa", "  - boolq", "line 9: the names of tasks must differ, got 'boolq' twice"),
        ("  - piqa", "  - 3", "line 4 must hold keys and values, got 3"),
        ("  - piqa", "  - lost.yaml", "line 4: There is no file .*lost.yaml"),
        ("limit: 50", "limit: none", "line 2: `limit` must be an integer of at least 1"),
        ("limit: 7", "limit: 0", "line 8: `limit` must be an integer of at least 1, got 0"),
        ("limit: 7", "limits: 7", "line 8: a key must be one of task, .*'limits'"),
        ("name: mine", "name: 3", "line 1: `name` must be a text, got 3"),
        ("name: mine\n", "", "suite.yaml must have the key 'name'"),
        ("file: colors.csv", "file: 3", "line 6: `file` must be the name of a file, got 3"),
        ("    file: colors.csv\n", "", "line 5: the task 'colors' names no file"),
        ("    examples_file: solved.csv\n", "", "line 5: .* num_examples=2: add `examples_file`"),
        ("num_examples: 1", "num_examples: -1", "line 10: `num_examples` must be an integer"),
        ("task: boolq", "tasks: boolq", "line 9: a key must be one of task"),
        ("task: boolq", "task: [boolq]", "line 9: `task` must be a name or a path"),
    ],
)
def test_a_malformed_suite_is_refused_with_file_and_line(tmp_path, old, new, message):
    path = suite_file(tmp_path, old, new)
    with pytest.raises(ValueError, match=message) as error:
        gk.evaluation.load_suite(path)
    assert str(path) in str(error.value)


def test_a_malformed_task_of_a_suite_is_named_with_both_files(tmp_path):
    path = suite_file(tmp_path)
    (tmp_path / "colors.yaml").write_text(CHOICE + "extra: 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"suite.yaml, line 5: .*colors.yaml, line 8: a key"):
        gk.evaluation.load_suite(path)


def test_the_shipped_suites():
    quick = gk.evaluation.load_suite("quick")
    assert {entry.limit for entry in quick.entries} == {100}
    standard = gk.evaluation.load_suite("standard")
    assert {entry.limit for entry in standard.entries} == {None}
    assert len(standard.entries) == len(standard.missing_files("nowhere")) == 10
    with pytest.raises(ValueError, match=r"`source` must be one of .*quick, standard.*'slow'"):
        gk.evaluation.load_suite("slow")
