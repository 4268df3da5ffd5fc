"""Rows of tables: CSV, TSV, JSON, parquet, pandas, and iterables of dicts."""

import csv
import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from gpt_keras.file_bytes import format_suffix, is_compressed, read_lines

# Longest field of a CSV file, in characters. The default of `csv` is 131,072, less than a book.
_LONGEST_FIELD = 1 << 30

_SOURCES = (
    "a path, a pandas.DataFrame, or an iterable of dicts such as a list, a generator or a "
    "datasets.Dataset"
)


class Row(dict):
    """Row of a table: a dict from columns to values, with its place in the source.

    Attributes:
        place: File and line of the row, or its number. Errors about the row begin with it.
        is_typed: False if the source has no types, as CSV, and all values are strings.

    Args:
        fields: Value of each column; None for a missing value.
        place: As the attribute.
        is_typed: As the attribute.

    Example:
        >>> from gpt_keras.records import Row
        >>> row = Row({"text": "To be"}, place="hamlet.jsonl, line 3")
        >>> row["text"], row.place
        ('To be', 'hamlet.jsonl, line 3')
    """

    __slots__ = ("is_typed", "place")

    def __init__(self, fields: Mapping[str, Any], place: str, is_typed: bool = True):
        super().__init__(fields)
        self.place = place
        self.is_typed = is_typed


class MissingColumn(ValueError):
    """Error of a row that lacks a column.

    Example:
        >>> from gpt_keras.records import MissingColumn, read_rows
        >>> try:
        ...     list(read_rows([{"body": "To be"}], ["text"]))
        ... except MissingColumn as error:
        ...     print(error)
        `source`, row 0: there is no column 'text'. The row has 'body'.
    """


def missing_column(column: str, place: str, existing: Iterable[str]) -> MissingColumn:
    """Return the error of a row that lacks a column.

    Args:
        column: The column.
        place: Place of the row, as in `Row`.
        existing: The columns that the row has.

    Example:
        >>> from gpt_keras.records import missing_column
        >>> missing_column("text", "a.csv, line 2", ["body", "label"])
        MissingColumn("a.csv, line 2: there is no column 'text'. The row has 'body', 'label'.")
    """
    names = list(existing)
    hint = ""
    if len(names) == 1 and any(sign in names[0] for sign in ";\t|"):
        hint = " For another delimiter, pass pandas.read_csv(path, sep=...)."
    listed = ", ".join(map(repr, names)) or "no columns"
    return MissingColumn(f"{place}: there is no column {column!r}. The row has {listed}.{hint}")


def read_rows(source: Any, columns: Sequence[str] | None = None) -> Iterator[Row]:
    r"""Read the rows of a table, one at a time.

    Files are UTF-8, with or without a byte order mark. The suffix names the format:

    - `.csv` and `.tsv`: the first row names the columns. Fields may stand in double quotes, as
      pandas and spreadsheets write them. All values are strings, and an empty field is missing.
    - `.jsonl` and `.ndjson`: one JSON object a line.
    - `.json`: a list of JSON objects. The whole file is read at once.
    - `.parquet`: needs pyarrow. With `columns`, only these columns are read.

    All of them but parquet may be compressed by gzip, with `.gz` at the end of the name, such as
    `reviews.csv.gz`. They are decompressed as they are read. Errors give the line in the
    decompressed text.

    Missing values are None: an empty field of a CSV file, `null`, and NaN or NA in pandas. For
    another encoding, delimiter or sign of missing values, read the file with pandas and pass the
    `DataFrame`.

    Args:
        source: A path, a `pandas.DataFrame`, or an iterable of dicts: a list, a generator, a
            `datasets.Dataset`.
        columns: The columns to read, in this order. Default: all columns. Rows of JSON and dicts
            then keep their own keys.

    Yields:
        A `Row` for each row.

    Raises:
        ValueError: There is no such file, its suffix is unknown, an archive is damaged, a line is
            broken or not UTF-8, or a row lacks one of `columns` (`MissingColumn`). The message
            gives the file and the line.
        ImportError: The source is a parquet file, and pyarrow is not installed.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import gpt_keras as gk
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "reviews.csv"
        ...     _ = path.write_text('text,stars\n"Good, but long",4\nNo.,\n', encoding="utf-8")
        ...     list(gk.records.read_rows(path))
        [{'text': 'Good, but long', 'stars': '4'}, {'text': 'No.', 'stars': None}]
    """
    columns = None if columns is None else _checked_columns(columns)
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        rows = _reader(path)(path, columns)
    elif hasattr(source, "itertuples"):
        rows = _read_frame(source)
    elif isinstance(source, bytes | Mapping | Set) or not isinstance(source, Iterable):
        hint = " Pass pandas.DataFrame(source)." if isinstance(source, Mapping) else ""
        raise ValueError(f"`source` must be {_SOURCES}; got {type(source).__name__}.{hint}")
    else:
        rows = _read_dicts(source)
    return rows if columns is None else _selected(rows, columns)


def _checked_columns(columns):
    if isinstance(columns, str) or not all(isinstance(column, str) for column in columns):
        raise ValueError(f"`columns` must be several names of columns, got {columns!r}.")
    return list(columns)


def _reader(path: Path) -> Callable:
    suffix = format_suffix(path)
    reader = _READERS.get(suffix)
    if reader is None:
        raise ValueError(
            f"The suffix of a table must be one of {', '.join(_READERS)}, got {str(path)!r}. "
            "It may be followed by .gz."
        )
    if suffix == ".parquet" and is_compressed(path):
        raise ValueError(
            "`source` cannot be a parquet file in .gz, because it is not read from beginning to "
            f"end: unpack {path}."
        )
    if not path.is_file():
        raise ValueError(f"There is no file {str(path)!r}.")
    return reader


def _selected(rows: Iterator[Row], columns: list[str]) -> Iterator[Row]:
    for row in rows:
        for column in columns:
            if column not in row:
                raise missing_column(column, row.place, row)
        yield Row({column: row[column] for column in columns}, row.place, row.is_typed)


# Files


def _decoded_lines(path: Path) -> Iterator[str]:
    for number, line in enumerate(read_lines(path), start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise ValueError(
                f"{path}, line {number}: the byte 0x{byte:02x} is not UTF-8. Save the file as "
                "UTF-8, or read it with pandas and its `encoding`."
            ) from error


def _read_delimited(path: Path, columns: list[str] | None, delimiter: str) -> Iterator[Row]:
    # A broken quote would silently join rows if the reader were not strict.
    reader = csv.reader(_decoded_lines(path), delimiter=delimiter, strict=True)
    header = None
    while True:
        place = f"{path}, line {reader.line_num + 1}"
        cells = _next_cells(reader, place)
        if cells is None:
            break
        if not cells:  # an empty line
            continue
        if header is None:
            header = cells
            _check_different(header, place)
            for column in columns or ():
                if column not in header:
                    raise missing_column(column, place, header)
            continue
        if len(cells) != len(header):
            raise ValueError(
                f"{place}: the row has {len(cells)} fields, but the header has {len(header)}. A "
                "field with a delimiter or a line break must stand in double quotes."
            )
        yield Row({name: cell or None for name, cell in zip(header, cells)}, place, is_typed=False)
    if header is None:
        raise ValueError(f"{path} must begin with the names of its columns, but is empty.")


def _next_cells(reader, place: str) -> list[str] | None:
    # The limit is a global setting of `csv`: it is raised for this row only.
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        return next(reader, None)
    except csv.Error as error:
        raise ValueError(
            f"{place}: the row that begins here is broken ({error}). A field that begins with a "
            "double quote must end with one, and a quote inside is doubled."
        ) from error
    finally:
        csv.field_size_limit(limit)


def _check_different(names: Sequence[str], place: str) -> None:
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise ValueError(f"{place}: the names of columns must differ, got {twice!r} twice.")


def _read_json_lines(path: Path, columns: list[str] | None) -> Iterator[Row]:
    for number, line in enumerate(_decoded_lines(path), start=1):
        if line.strip():
            place = f"{path}, line {number}"
            yield _json_row(_parsed(line, place), place)


def _read_json(path: Path, columns: list[str] | None) -> Iterator[Row]:
    values = _parsed("".join(_decoded_lines(path)), str(path))
    if not isinstance(values, list):
        raise ValueError(
            f"{path} must hold a list of JSON objects, got {_short(values)}. A file with an object "
            "a line has the suffix .jsonl."
        )
    for number, value in enumerate(values):
        place = f"{path}, row {number}"
        yield _json_row(value, place)


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if "\n" in text.rstrip("\n") else ""
        hint = ""
        if line and error.msg == "Extra data":
            hint = " A file with an object a line has the suffix .jsonl."
        raise ValueError(
            f"{place}{line}: broken JSON ({error.msg} at column {error.colno}).{hint}"
        ) from error
    except RecursionError as error:
        raise ValueError(f"{place}: broken JSON (too many nested values).") from error


def _json_row(value: Any, place: str) -> Row:
    if not isinstance(value, dict):
        raise ValueError(f"{place}: a row must be a JSON object, got {_short(value)}.")
    return Row(value, place)


def _read_parquet(path: Path, columns: list[str] | None) -> Iterator[Row]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("Parquet files need pyarrow: pip install pyarrow") from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _check_different(names, str(path))
            for column in columns or ():
                if column not in names:
                    raise missing_column(column, str(path), names)
            for batch in file.iter_batches(batch_size=1024, columns=columns):
                for fields in batch.to_pylist():
                    yield Row(fields, f"{path}, row {number}")
                    number += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}, row {number}: broken parquet ({error}).") from error


_READERS = {
    ".csv": functools.partial(_read_delimited, delimiter=","),
    ".tsv": functools.partial(_read_delimited, delimiter="\t"),
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json,
    ".parquet": _read_parquet,
}

# Suffixes of the files that `read_rows` reads.
SUFFIXES = tuple(_READERS)


# Objects


def _read_frame(frame: Any) -> Iterator[Row]:
    names = list(frame.columns)
    _check_names(names, "`source`")
    _check_different(names, "`source`")
    is_missing = frame.isna().to_numpy()
    for number, values in enumerate(frame.itertuples(index=False, name=None)):
        values = (None if gone else value for value, gone in zip(values, is_missing[number]))
        yield Row(dict(zip(names, values)), f"`source`, row {number}")


def _read_dicts(source: Iterable) -> Iterator[Row]:
    for number, fields in enumerate(source):
        place = f"`source`, row {number}"
        if isinstance(fields, Row):  # read from a file, and perhaps filtered
            yield fields
            continue
        if not isinstance(fields, Mapping):
            raise ValueError(f"{place}: a row must be a dict, got {_short(fields)}.")
        _check_names(fields, place)
        yield Row(fields, place)


def _check_names(names: Iterable, place: str) -> None:
    wrong = next((name for name in names if not isinstance(name, str)), None)
    if wrong is not None:
        raise ValueError(f"{place}: the name of a column must be a string, got {wrong!r}.")


def _short(value: Any) -> str:
    shown = repr(value)
    return f"{shown[:60]}{'...' if len(shown) > 60 else ''} of type {type(value).__name__}"
