"""Rows of tables as text: the round trip, and the form of the text."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_keras.datasets import TableRows, table_rows
from gpt_keras.records import read_rows

# Strings that look like other things: literals, separators, quotes, line breaks.
STRANGE = [
    "",
    " ",
    "null",
    "true",
    "39",
    "-1.5e3",
    "NaN",
    "Infinity",
    "a; b",
    'a "b"',
    "a: b; c: d",
]
STRANGE += [
    '"',
    '"x"',
    "\\",
    "\n",
    "a\u2028b",
    "\x85",
    "[1]",
    "{",
    "[[",
    "床前明月光",
    "　x",
    ";",
    ": ",
]
TEXTS = st.text(st.characters(codec="utf-8")) | st.sampled_from(STRANGE)
NUMBERS = st.floats(allow_nan=False)
INTEGERS = st.integers(-(2**70), 2**70)
VALUES = {
    "str": TEXTS,
    "int": INTEGERS,
    "float": NUMBERS,
    "bool": st.booleans(),
    "any": TEXTS | INTEGERS | NUMBERS | st.booleans(),
}


@st.composite
def tables(draw):
    """Rows of a table whose columns each have one type, with missing values."""
    names = draw(st.lists(TEXTS, min_size=1, max_size=4, unique=True))
    kinds = [draw(st.sampled_from(list(VALUES))) for _ in names]
    row = st.fixed_dictionaries(
        {name: st.none() | VALUES[kind] for name, kind in zip(names, kinds)}
    )
    return draw(st.lists(row, min_size=1, max_size=5))


@settings(deadline=None, max_examples=200)
@given(tables())
def test_text_gives_the_row_back(rows):
    table = table_rows(rows)
    for row in rows:
        text = table.to_text(row)
        assert table.to_row(text) == row
        assert table.to_text(table.to_row(text)) == text  # also the types are the same
        assert len(text.splitlines()) == 1
    assert TableRows(json.loads(json.dumps(table.types))) == table


@settings(deadline=None)
@given(st.text(st.sampled_from('a1 ":;\\\n.{[')))
def test_any_text_is_a_row_or_a_value_error(text):
    table = TableRows({"a": "any"})
    try:
        row = table.to_row(text)
    except ValueError:
        return
    assert table.to_row(table.to_text(row)) == row


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (39, "39"),
        (39.0, "39.0"),
        (1e22, "1e+22"),
        (float("-inf"), "-Infinity"),
        (True, "true"),
        (None, "null"),
        (float("nan"), "null"),
        ("clerk", "clerk"),
        ("two words, a: b", "two words, a: b"),
        ("床前明月光", "床前明月光"),
        ("39", '"39"'),
        ("true", '"true"'),
        ("", '""'),
        (" x", '" x"'),
        ("a; b", '"a; b"'),
        ('say "a"', r'"say \"a\""'),
        ("a\nb", r'"a\nb"'),
        (np.float32(0.5), "0.5"),
        (np.int64(3), "3"),
        (np.bool_(False), "false"),
    ],
)
def test_form_of_a_value(value, text):
    assert TableRows({"x": "any"}).to_text({"x": value}) == f"x: {text}"


@pytest.mark.parametrize(
    ("name", "text"),
    [("a b", "a b: 1"), ("39", "39: 1"), ("a:b", '"a:b": 1'), ("", '"": 1'), ("a;", '"a;": 1')],
)
def test_form_of_a_name(name, text):
    table = TableRows({name: "int"})
    assert table.to_text({name: 1}) == text
    assert table.to_row(text) == {name: 1}


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", "-2", ""], "int", [1, -2, None]),
        (["1", "2.5", "1e3", ".5", "5."], "float", [1.0, 2.5, 1000.0, 0.5, 5.0]),
        (["0.5", "00.5"], "str", ["0.5", "00.5"]),
        (["true", "False"], "bool", [True, False]),
        (["1", "true"], "str", ["1", "true"]),
        (["01067", "80331"], "str", ["01067", "80331"]),
        (["+49", "30"], "str", ["+49", "30"]),
        (["1_000", "2"], "str", ["1_000", "2"]),
        (["nan", "2"], "str", ["nan", "2"]),
        (["٣", "2"], "str", ["٣", "2"]),
        (["x", ""], "str", ["x", None]),
        (["", ""], "any", [None, None]),
        (["12345678901234567890"], "int", [12345678901234567890]),
        (["9007199254740993", "0.5"], "float", [9007199254740992.0, 0.5]),
    ],
)
def test_types_of_csv_files(cells, kind, values, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,x\n" + "".join(f"0,{cell}\n" for cell in cells), encoding="utf-8")
    table = table_rows(path, exclude=["id"])
    assert table.types == {"x": kind}
    rows = [table.to_row(table.to_text(row)) for row in read_rows(path)]
    assert [row["x"] for row in rows] == values
    assert [type(row["x"]) for row in rows] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "int"),
        ([1, 2.5], "float"),
        ([2**53 + 1, 2.5], "any"),
        ([10**400, 2.5], "any"),
        ([True, False], "bool"),
        ([True, 1], "any"),
        (["1", "2"], "str"),
        (["1", 2], "any"),
        ([None, None], "any"),
        ([None, float("nan"), "x"], "str"),
    ],
)
def test_types_of_typed_rows(values, kind):
    assert table_rows([{"x": value} for value in values]).types == {"x": kind}


def test_types_of_a_data_frame():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"a": [1, 2], "b": [1.0, None], "c": ["x", None], "d": [True, False]}, index=[5, 6]
    )
    table = table_rows(frame)
    assert table.types == {"a": "int", "b": "float", "c": "str", "d": "bool"}
    assert [table.to_text(row) for row in read_rows(frame)] == [
        "a: 1; b: 1.0; c: x; d: true",
        "a: 2; b: null; c: null; d: false",
    ]


def test_a_value_has_one_text_whatever_its_source(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("n,x,yes\n3,4,TRUE\n5,0.5,false\n", encoding="utf-8")
    table = table_rows(path)
    expected = "n: 3; x: 4.0; yes: true"
    rows = [next(read_rows(path)), {"n": 3, "x": 4, "yes": True}]
    rows += [{"n": 3.0, "x": "4", "yes": np.bool_(True)}, {"yes": "true", "x": 4.0, "n": "3"}]
    assert [table.to_text(row) for row in rows] == [expected] * 4


def test_columns_and_exclude():
    rows = [{"a": 1, "b": 2, "c": 3}]
    assert list(table_rows(rows, ["c", "a"]).types) == ["c", "a"]
    assert list(table_rows(rows, exclude=["b"]).types) == ["a", "c"]
    assert list(table_rows(rows, exclude="b").types) == ["a", "c"]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "`source` must have rows, but is empty"),
        ([{"a": 1}], {"columns": ["b"]}, r"row 0: there is no column 'b'. The row has 'a'"),
        ([{"a": 1}], {"exclude": ["b"]}, r"`exclude` must name columns .*'a'; got 'b'"),
        ([{"a": 1}], {"exclude": ["a"]}, r"`types` must map columns to types, got \{\}"),
        ([{"a": 1, "b": 2}, {"a": 1}], {}, r"`source`, row 1 lacks the column 'b', unlike the"),
        ([{"a": 1}, {"a": 1, "b": 2}], {}, r"`source`, row 1 has the column 'b', unlike the"),
        ([{"a": [1]}], {}, r"row 0: 'a' must be a string, a number, .*got \[1\] of type list"),
        ([{"a": b"x"}], {}, r"row 0: 'a' must be a string"),
        ([{"a": "\ud800"}], {}, r"row 0: 'a' has a lone surrogate"),
        ([{"\ud800": 1}], {}, r"name must be a Unicode string"),
    ],
)
def test_bad_tables_are_refused(rows, options, message):
    with pytest.raises(ValueError, match=message):
        table_rows(rows, **options)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"a": 1}, "`row` must have the columns a, b, but lacks 'b'"),
        ({"a": 1.5, "b": "x"}, "`row`: 'a' must be of type int, got 1.5 of type float"),
        ({"a": "01", "b": "x"}, "`row`: 'a' must be of type int, got '01' of type str"),
        ({"a": True, "b": "x"}, "`row`: 'a' must be of type int, got True of type bool"),
        ({"a": 1, "b": 2}, "`row`: 'b' must be of type str, got 2 of type int"),
    ],
)
def test_rows_that_do_not_fit_are_refused(row, message):
    with pytest.raises(ValueError, match=message):
        TableRows({"a": "int", "b": "str"}).to_text(row)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "`text` must have the columns a, b, but lacks 'a'"),
        ("a: 1", "`text` must have the columns a, b, but lacks 'b'"),
        ("a: 1; b", "must have fields .* at character 6"),
        ("a: 1; b: x; ", "must have fields .* at character 6"),
        ("a: 1, b: x", "but lacks 'b'"),
        ("a: 1; a: 2; b: x", "each of the columns a, b once, got 'a', twice"),
        ("a: 1; c: 2; b: x", "each of the columns a, b once, got 'c', which is unknown"),
        ("a: x; b: x", "`text`: 'a' must be of type int, got 'x'"),
        ("a: 1; b: 2", "`text`: 'b' must be of type str, got 2"),
        ('a: 1; b: "x', "must have fields .* at character 6"),
        (r'a: 1; b: "\x"', "must hold JSON strings"),
        ("a: 1; b: x\ny", "must have fields .* at character 6"),
    ],
)
def test_texts_in_another_form_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        TableRows({"a": "int", "b": "str"}).to_row(text)


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ({}, "must map columns to types"),
        (["a"], "must map columns to types"),
        ({"a": "double"}, "column 'a' must be one of bool, int, float, str, any, got 'double'"),
        ({3: "int"}, "must be a Unicode string, got 3"),
    ],
)
def test_bad_types_are_refused(types, message):
    with pytest.raises(ValueError, match=message):
        TableRows(types)
