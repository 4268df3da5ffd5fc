"""Rows of tables, against pandas and the writers of `csv`, `json` and pyarrow."""

import csv
import gzip
import io
import itertools
import json
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt_keras.records import Row, read_rows

ROWS = [
    {"text": "Good, but long", "label": "yes"},
    {"text": 'He said "no"', "label": "no"},
    {"text": "two\nlines", "label": "no"},
    {"text": "床前明月光", "label": "yes"},
]

# Characters that a cell may hold: with a carriage return, `csv` itself would change line ends.
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1)


def write(path, content):
    content = content if isinstance(content, bytes) else content.encode("utf-8")
    path.write_bytes(content)
    return path


def csv_text(rows, delimiter=","):
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def json_lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_parquet(path, rows):
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def source(kind, rows, folder):
    """Return the rows as a source of a kind."""
    if kind in ("csv", "tsv"):
        return write(folder / f"a.{kind}", csv_text(rows, "," if kind == "csv" else "\t"))
    if kind in ("jsonl", "ndjson"):
        return write(folder / f"a.{kind}", json_lines(rows))
    if kind == "json":
        return write(folder / "a.json", json.dumps(rows, indent=2))
    if kind == "parquet":
        return write_parquet(folder / "a.parquet", rows)
    if kind == "pandas":
        return pytest.importorskip("pandas").DataFrame(rows)
    return {"list": list, "generator": iter, "tuple": tuple}[kind](rows)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json"])
def test_a_compressed_file_gives_the_same_rows(kind, tmp_path):
    path = source(kind, ROWS, tmp_path)
    path.with_suffix(f".{kind.upper()}.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert list(read_rows(path.with_suffix(f".{kind.upper()}.gz"))) == ROWS


KINDS = ["csv", "tsv", "jsonl", "ndjson", "json", "parquet", "pandas", "list", "generator", "tuple"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_source_gives_the_same_rows(kind, tmp_path):
    assert list(read_rows(source(kind, ROWS, tmp_path))) == ROWS
    assert list(read_rows(source(kind, ROWS, tmp_path), ["label"])) == [
        {"label": row["label"]} for row in ROWS
    ]
    assert list(next(read_rows(source(kind, ROWS, tmp_path), ["label", "text"]))) == [
        "label",
        "text",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_column_is_refused_with_the_columns_that_exist(kind, tmp_path):
    with pytest.raises(ValueError, match=r"no column 'txt'. The row has 'text', 'label'"):
        list(read_rows(source(kind, ROWS, tmp_path), ["text", "txt"]))


@pytest.mark.parametrize("kind", KINDS)
def test_missing_values_are_none(kind, tmp_path):
    rows = [{"a": "x", "b": None}, {"a": None, "b": "y"}]
    assert list(read_rows(source(kind, rows, tmp_path))) == rows


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json"])
def test_a_byte_order_mark_is_dropped(suffix, tmp_path):
    path = source(suffix[1:], ROWS, tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert list(read_rows(str(path))) == ROWS


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.fixed_dictionaries({"a": CELLS, "b, c": CELLS}), min_size=1, max_size=5),
    delimiter=st.sampled_from([",", "\t"]),
)
def test_csv_reads_what_python_writes(rows, delimiter, tmp_path):
    path = write(tmp_path / ("a.csv" if delimiter == "," else "a.tsv"), csv_text(rows, delimiter))
    assert list(read_rows(path)) == rows


def test_csv_reads_as_pandas_does(tmp_path):
    pandas = pytest.importorskip("pandas")
    text = 'id,text,n\r\n1,"a, ""b""\r\nc",\r\n\r\n2, d ,3\r\n'
    path = write(tmp_path / "a.csv", text)
    expected = pandas.read_csv(path, dtype=str).to_dict("records")
    expected = [{k: None if v != v else v for k, v in row.items()} for row in expected]
    assert list(read_rows(path)) == expected


def test_pandas_keeps_types_and_turns_its_missing_values_into_none():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "i": pandas.array([1, None], "Int64"),
            "f": [float("nan"), 0.5],
            "b": [True, False],
            "t": pandas.to_datetime(["2020-01-01", None]),
            "s": ["x", None],
        },
        index=[7, 9],
    )
    first, second = read_rows(frame)
    assert first == {"i": 1, "f": None, "b": True, "t": frame["t"][7], "s": "x"}
    assert second == {"i": None, "f": 0.5, "b": False, "t": None, "s": None}
    assert (first.place, second.place) == ("`source`, row 0", "`source`, row 1")


def test_values_of_json_keep_their_types(tmp_path):
    rows = [{"a": 1, "b": 1.5, "c": True, "d": ["x"], "e": {"f": None}}]
    for kind in ("jsonl", "json", "parquet"):
        assert list(read_rows(source(kind, rows, tmp_path))) == rows


def test_places_are_the_lines_where_rows_begin(tmp_path):
    path = source("csv", ROWS, tmp_path)
    lines = [int(row.place.rpartition(" ")[2]) for row in read_rows(path)]
    assert lines == [2, 3, 4, 6]  # the third row has two lines
    assert all(row.place.startswith(f"{path}, line ") for row in read_rows(path))
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n\n{"a": 2}')
    assert [row.place for row in read_rows(path)] == [f"{path}, line 1", f"{path}, line 3"]


def test_rows_keep_their_place_through_a_filter(tmp_path):
    rows = [row for row in read_rows(source("csv", ROWS, tmp_path)) if row["label"] == "no"]
    places = [row.place for row in read_rows(rows, ["text"])]
    assert [place.rpartition(", ")[2] for place in places] == ["line 3", "line 4"]
    assert not next(read_rows(rows, ["text"])).is_typed


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_files_are_read_lazily(kind, tmp_path):
    path = source(kind, ROWS, tmp_path)
    path.write_bytes(path.read_bytes() + b"\xff\xff")
    assert [row["text"] for row in itertools.islice(read_rows(path), 3)] == [
        row["text"] for row in ROWS[:3]
    ]


def test_a_generator_is_read_lazily():
    rows = read_rows({"n": n} for n in itertools.count())
    assert [row["n"] for row in itertools.islice(rows, 3)] == [0, 1, 2]


def test_a_long_field_is_read_and_the_limit_of_csv_stays(tmp_path):
    limit = csv.field_size_limit()
    path = write(tmp_path / "a.csv", "text\n" + "x" * (limit + 1) + "\n")
    rows = read_rows(path)
    assert len(next(rows)["text"]) == limit + 1
    assert csv.field_size_limit() == limit


def test_an_empty_table_has_no_rows(tmp_path):
    pandas = pytest.importorskip("pandas")
    assert list(read_rows(write(tmp_path / "a.csv", "text,label\n"))) == []
    assert list(read_rows(write(tmp_path / "a.jsonl", ""))) == []
    assert list(read_rows(write(tmp_path / "a.json", "[]"))) == []
    assert list(read_rows([])) == []
    assert list(read_rows(pandas.DataFrame({"text": []}))) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\nx,1\ny\n", r"a\.csv, line 3: the row has 1 fields.*header has 2"),
        ("a.csv", "text,label\nx,y,1\n", r"a\.csv, line 2: the row has 3 fields.*header has 2"),
        ("a.csv", 'text,label\nx,1\n"y,1\nz,1\n', r"a\.csv, line 3: the row that begins here is"),
        ("a.tsv", 'text\tlabel\nx\t1\n"y" z\t1\n', r"a\.tsv, line 3: the row that begins here is"),
        ("a.csv", "text,text\nx,1\n", r"a\.csv, line 1: .*must differ, got 'text' twice"),
        ("a.csv", "", r"a\.csv must begin with the names of its columns, but is empty"),
        ("a.csv", b"text,label\nx,1\n\xe9,2\n", r"a\.csv, line 3: the byte 0xe9 is not UTF-8"),
        ("a.csv", "text,label\n".encode("utf-16"), r"a\.csv, line 1: the byte 0xff is not UTF-8"),
        ("a.jsonl", '{"a": 1}\n{"a": \n', r"a\.jsonl, line 2: broken JSON \(Expecting value"),
        ("a.jsonl", '{"a": 1}\n[1]\n', r"a\.jsonl, line 2: a row must be a JSON object, got \[1\]"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\xff"}\n', r"a\.jsonl, line 2: the byte 0xff is not UTF-8"),
        ("a.jsonl", "[" * 100_000, r"a\.jsonl, line 1: broken JSON \(too many nested"),
        ("a.json", '[{"a": 1},\n{"a": }]', r"a\.json, line 2: broken JSON .* column 7"),
        ("a.json", '[{"a": 1},\n2]', r"a\.json, row 1: a row must be a JSON object, got 2"),
        ("a.json", '{"a": [1]}', r"a\.json must hold a list of JSON objects, got \{'a': \[1\]\}"),
        ("a.json", '{"a": 1}\n{"a": 2}\n', r"line 2: broken JSON \(Extra data.*suffix \.jsonl"),
        ("a.json", b'[{"a":\n "\xff"}]', r"a\.json, line 2: the byte 0xff is not UTF-8"),
    ],
)
def test_broken_files_are_refused_with_file_and_line(name, content, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        list(read_rows(write(tmp_path / name, content)))


def test_a_row_without_a_field_is_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "x", "label": 1}\n{"text": "y"}\n')
    assert len(list(read_rows(path))) == 2
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2: there is no column 'label'.* 'text'"):
        list(read_rows(path, ["text", "label"]))


def test_another_delimiter_is_recognized_in_the_error(tmp_path):
    path = write(tmp_path / "a.csv", "text;label\nx;1\n")
    with pytest.raises(ValueError, match=r"The row has 'text;label'. For another delimiter"):
        list(read_rows(path, ["text"]))


def test_broken_parquet_is_refused(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", ROWS)
    content = path.read_bytes()
    for damaged in (b"", b"PAR1", content[:-9] + b"\0" * 5 + content[-4:]):
        with pytest.raises(ValueError, match=r"a\.parquet, row 0: broken parquet"):
            list(read_rows(write(path, damaged)))


def test_parquet_without_pyarrow_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        list(read_rows(write(tmp_path / "a.parquet", b"PAR1")))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("missing.csv", r"no file 'missing\.csv'"),
        ("a.xlsx", r"one of \.csv, \.tsv, \.jsonl, \.ndjson, \.json, \.parquet, got 'a\.xlsx'"),
        ("text,label", r"The suffix of a table must be one of"),
        ("a.gz", r"The suffix of a table must be one of .* may be followed by \.gz"),
        ("a.parquet.gz", r"`source` cannot be a parquet file in \.gz.*: unpack a\.parquet\.gz"),
        ({"text": ["x"]}, r"`source` must be .*got dict. Pass pandas\.DataFrame"),
        (b"text", r"`source` must be a path, .*got bytes"),
        (3, r"`source` must be .*got int"),
    ],
)
def test_other_sources_are_refused_at_once(value, message):
    with pytest.raises(ValueError, match=message):
        read_rows(value)


def test_other_rows_are_refused():
    with pytest.raises(ValueError, match=r"`source`, row 1: a row must be a dict, got 'x'"):
        list(read_rows([{"a": 1}, "x"]))
    with pytest.raises(ValueError, match=r"`source`, row 0: the name of a column .* got 3"):
        list(read_rows([{3: 1}]))
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"`source`: the name of a column .* got 0"):
        list(read_rows(pandas.DataFrame([[1, 2]])))
    with pytest.raises(ValueError, match=r"`source`: the names of columns must differ, got 'a'"):
        list(read_rows(pandas.DataFrame([[1, 2]], columns=["a", "a"])))


@pytest.mark.parametrize("columns", ["text", [1]])
def test_columns_must_be_names(columns):
    with pytest.raises(ValueError, match="`columns` must be several names of columns"):
        read_rows(ROWS, columns)


def test_a_row_is_a_dict():
    row = Row({"a": 1}, place="row 0")
    assert (row, row.is_typed, isinstance(row, dict)) == ({"a": 1}, True, True)
