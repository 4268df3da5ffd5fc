"""Splits that stand in files of their own: one label map, no text in two of them."""

import pytest

import gpt_keras as gk
from gpt_keras.datasets import classification

TRAIN = [("good one", "pos"), ("fine one", "pos"), ("bad one", "neg"), ("poor one", "neg")]
VALIDATION = [("good two", "pos"), ("bad two", "neg")]
TEST = [("fine two", "pos"), ("poor two", "neg")]


def table(pairs):
    return [{"text": text, "label": label} for text, label in pairs]


def read(train=TRAIN, validation=VALIDATION, test=TEST, **options):
    tables = {name: table(t) for name, t in (("validation", validation), ("test", test)) if t}
    return classification(table(train), text="text", label="label", **tables, **options)


def pairs(part, names):
    return [(text, names[label]) for text, label in zip(*part)]


def test_each_table_is_a_part_in_its_own_order():
    data = read()
    assert data.class_names == ("neg", "pos")
    assert [pairs(part, data.class_names) for part in data[:3]] == [TRAIN, VALIDATION, TEST]
    assert data.report.num_rows == 8
    assert data.report.num_dropped == data.report.num_shared == 0
    assert data.report.counts["test"] == {"neg": 1, "pos": 1}
    assert "a validation or test file has the text: 0" in str(data.report)


def test_the_other_part_is_drawn_from_the_training_table():
    train = [(f"{label} {i}", label) for i in range(10) for label in ("neg", "pos")]
    data = read(train, validation=None)
    assert [len(part.labels) for part in data[:3]] == [18, 2, 2]
    data = read(train, test=None, test_fraction=0.2)
    assert [len(part.labels) for part in data[:3]] == [16, 2, 4]
    assert read(train, test=None, test_fraction=0).test is None
    assert pairs(data.validation, data.class_names) == VALIDATION
    assert not set(data.train.texts) & set(data.test.texts)


def test_a_text_stays_in_the_last_of_its_tables():
    train = [*TRAIN, ("bad  two", "neg"), ("fine two", "pos")]
    validation = [*VALIDATION, ("poor two ", "neg")]
    with pytest.warns(UserWarning, match="3 rows were dropped"):
        data = read(train, validation)
    assert [pairs(part, data.class_names) for part in data[:3]] == [TRAIN, VALIDATION, TEST]
    assert data.report.num_shared == data.report.num_dropped == 3
    assert data.report.num_duplicates == 3


def test_duplicates_inside_of_a_table_stay_unless_they_are_dropped():
    test = [*TEST, ("fine two", "pos")]
    assert len(read(test=test).test.labels) == 3
    data = read(test=test, drop_duplicates=True)
    assert pairs(data.test, data.class_names) == TEST
    assert (data.report.num_dropped, data.report.num_shared) == (1, 0)


def test_a_conflict_between_tables_is_reported():
    with pytest.warns(UserWarning, match="1 texts have several labels"):
        data = read([*TRAIN, ("good two", "neg")])
    (conflict,) = data.report.conflicts
    assert conflict.labels == ("neg", "pos")
    assert conflict.places == ("`source`, row 4", "`validation`, row 0")
    with pytest.warns(UserWarning, match="several labels"):
        data = read([*TRAIN, ("good two", "neg")], drop_duplicates=True)
    assert pairs(data.validation, data.class_names) == VALIDATION[1:]


def test_numbers_of_classes_are_those_of_the_training_table():
    rows = [{"text": f"{i} {c}", "label": c} for i in range(2) for c in (9, 10)]
    test = [{"text": "x", "label": 10}]
    data = classification(rows, text="text", label="label", test=test, validation_fraction=0)
    assert (data.class_names, data.test.labels.tolist()) == (("9", "10"), [1])


def test_a_label_of_the_test_alone_is_refused_by_file_and_line(tmp_path):
    for name, pairs in (("train", TRAIN), ("val", [*VALIDATION, ("so two", "soso")])):
        lines = ["text,label", *map(",".join, pairs)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"val\.csv, line 4: a label must be .*got 'soso'"):
        classification(
            tmp_path / "train.csv", text="text", label="label", validation=tmp_path / "val.csv"
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_fraction": 0.1}, "`validation_fraction` must be None with a ready-made"),
        ({"test_fraction": 0.1}, "`test_fraction` must be None with a ready-made `test`, got 0.1"),
        ({"train": []}, "`source` must have rows"),
        ({"train": TRAIN[:3]}, "'neg' has 1"),
        ({"train": [*TRAIN, ("odd", "new")]}, "'new' has 1"),
        ({"validation": [("", "pos")]}, "`validation`, row 0: the text 'text' is missing"),
        ({"test": [("a", None)]}, "`test`, row 0: the label 'label' is missing"),
        ({"validation": TEST}, "No row of `validation` is left"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_bad_tables(options, message):
    with pytest.raises(ValueError, match=message):
        read(**options)


def test_an_empty_table_and_a_missing_column():
    for validation, message in (([], "must have rows"), ([{"text": "a"}], "no column 'label'")):
        with pytest.raises(ValueError, match=message):
            classification(table(TRAIN), text="text", label="label", validation=validation)


def test_a_group_stays_in_one_table():
    def rows(pairs, author):
        return [{**row, "author": author} for row in table(pairs)]

    tables = {"validation": rows(VALIDATION, "b"), "test": rows(TEST, "a")}
    with pytest.raises(
        ValueError, match="`test`, row 0: the group 'author' is 'a', as at `source`"
    ):
        classification(rows(TRAIN, "a"), text="text", label="label", group="author", **tables)
    tables["test"] = rows(TEST, "c")
    data = classification(rows(TRAIN, "a"), text="text", label="label", group="author", **tables)
    assert len(data.train.labels) == 4


def test_long_rows_of_all_tables_count():
    tokenizer = gk.tokenizers.CharacterTokenizer("abcdefghijklmnopqrstuvwxyz ")
    with pytest.warns(UserWarning, match="1 of 8 rows"):
        data = read(
            test=[*TEST[:1], ("poor two and more", "neg")], tokenizer=tokenizer, sequence_length=8
        )
    assert data.report.num_too_long == 1
