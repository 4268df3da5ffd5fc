"""Texts with labels from the rows of a table, split for training and evaluation."""

import dataclasses
import os
import re
import reprlib
import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gpt_keras.checks import check_positive_int, check_rate, check_seed
from gpt_keras.datasets.class_labels import label_name, number_labels
from gpt_keras.datasets.labeled_texts import LabeledTexts
from gpt_keras.datasets.splits import draw_splits, units_of
from gpt_keras.datasets.table_text import TableRows
from gpt_keras.records import Row, read_rows
from gpt_keras.texts import is_unicode
from gpt_keras.tokenizers import Tokenizer

SPLITS = ("train", "validation", "test")


class Conflict(NamedTuple):
    """Text that has several labels.

    Attributes:
        text: The text, or a pair of texts.
        labels: Its labels, one for each row.
        places: Place of each row.
    """

    text: str | tuple[str, ...]
    labels: tuple[str, ...]
    places: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class DataReport:
    """Counts of what `gk.datasets.classification` found in a table.

    `print(report)` shows them as text.

    Attributes:
        num_rows: Number of rows that were read.
        num_duplicates: Number of rows whose text an earlier row has.
        num_dropped: Number of rows that were dropped: by `drop_duplicates`, and the `num_shared`.
        conflicts: The texts that have several labels.
        num_too_long: Number of rows with more than `sequence_length` tokens, of which the model
            reads only a part. None without a tokenizer.
        counts: For each split, the number of rows of each class.
        num_shared: Number of rows that were dropped because a ready-made split has their text too.
            None without such splits.
    """

    num_rows: int
    num_duplicates: int
    num_dropped: int
    conflicts: tuple[Conflict, ...]
    num_too_long: int | None
    counts: dict[str, dict[str, int]]
    num_shared: int | None = None

    def __str__(self) -> str:
        lines = [f"rows read: {self.num_rows}"]
        for split, counts in self.counts.items():
            classes = ", ".join(f"{name} {count}" for name, count in counts.items())
            lines.append(f"{split}: {sum(counts.values())} ({classes})")
        lines.append(f"rows with the text of an earlier row: {self.num_duplicates}")
        lines.append(f"rows dropped as duplicates: {self.num_dropped}")
        if self.num_shared is not None:
            lines.append(f"  because a validation or test file has the text: {self.num_shared}")
        lines.append(f"texts with several labels: {len(self.conflicts)}")
        if self.num_too_long is not None:
            lines.append(f"rows over the length (truncated): {self.num_too_long}")
        return "\n".join(lines)


class ClassificationData(NamedTuple):
    """Texts with labels for training and evaluation, and the names of the classes.

    Attributes:
        train: The training part.
        validation: The validation part; None if there is none.
        test: The test part; None if there is none.
        class_names: Name of each class. Pass them to `GPTClassifier`, which saves them.
        class_weights: Weight of each class, for `fit(class_weight=...)`: balanced weights, the
            number of training rows divided by (classes x training rows of the class).
        report: Counts of duplicates, conflicts, long rows, and of the classes in each split.
    """

    train: LabeledTexts
    validation: LabeledTexts | None
    test: LabeledTexts | None
    class_names: tuple[str, ...]
    class_weights: dict[int, float]
    report: DataReport


def classification(
    source: Any,
    *,
    text: str | Sequence[str] | TableRows,
    label: str,
    class_names: Sequence[str] | None = None,
    validation: Any = None,
    test: Any = None,
    validation_fraction: float | None = None,
    test_fraction: float | None = None,
    group: str | None = None,
    drop_duplicates: bool = False,
    tokenizer: Tokenizer | None = None,
    sequence_length: int | None = None,
    seed: int = 0,
) -> ClassificationData:
    """Read texts with labels from a table, and split them for `fit` and `evaluate`.

    The split is stratified: each part has about the same shares of classes. Rows with the same text
    are always in the same part, because a model could otherwise remember the labels of the test.
    Two texts are the same if they differ in white space only.

    A data set that is already split has the other parts in `validation` and `test`. They have the
    same columns and labels as `source`. A text that is in several tables stays in only one of them:
    in `test` if it is there, else in `validation`.

    All checks run before any training. Rows without a text or a label raise an error; remove them
    first, for example with a generator over `gk.records.read_rows`.

    Args:
        source: A table as in `gk.records.read_rows`: the path of a CSV, TSV, JSON Lines, JSON or
            parquet file, a `pandas.DataFrame`, or an iterable of dicts.
        text: Column of the texts. Or two columns, for pairs (`layout="entailment"` of
            `GPTClassifier`). Or a `TableRows`, which turns each row into a text.
        label: Column of the labels: names (strings), integers or truth values. White space around
            names is removed.
        class_names: Names of the classes in the order of their numbers. The labels are these names,
            are the numbers 0, 1, ... of the names. Default: the sorted labels of `source`; integers
            sort by value.
        validation: A ready-made validation part, a table as `source`. Default: drawn from `source`.
        test: A ready-made test part, a table as `source`. Default: drawn from `source`.
        validation_fraction: Fraction of the rows of `source` for validation, in [0, 1). Default:
            0.1, or 0 with `validation`.
        test_fraction: Fraction of the rows of `source` for the test, in [0, 1). Default: 0.1, or 0
            with `test`.
        group: Column whose equal values must stay in one part, such as an author. Shares of classes
            and sizes of the parts are then less exact.
        drop_duplicates: Whether to keep one row of rows with the same text and label, and no row of
            a text with several labels. By default all rows stay: in a table of few columns,
            different cases have the same text.
        tokenizer: Tokenizer that counts the tokens of each row, to report rows over the length.
        sequence_length: Number of tokens of text that the model reads. A `GPTClassifier` truncates
            longer rows. Its special tokens count too: subtract 2, or 3 for pairs, from its
            `max_sequence_length`. Must be given with `tokenizer`.
        seed: Seed of the split.

    Returns:
        A `ClassificationData`.

    Raises:
        ValueError: An argument is out of range, a column does not exist, or a line is broken. Also:
            a row lacks its text, label or group, a label is not one of `class_names`, a label has
            only one text, there are fewer than two classes, or a part is empty. Or two tables have
            rows of the same group.
        ImportError: The source is a parquet file, and pyarrow is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> rows = [{"review": f"I {verb} it {i} times", "stars": stars}
        ...         for i in range(10) for verb, stars in (("loved", 5), ("left", 1))]
        >>> data = gk.datasets.classification(rows, text="review", label="stars", test_fraction=0.2)
        >>> data.class_names, data.class_weights
        (('1', '5'), {0: 1.0, 1: 1.0})
        >>> print(data.report)
        rows read: 20
        train: 14 (1 7, 5 7)
        validation: 2 (1 1, 5 1)
        test: 4 (1 2, 5 2)
        rows with the text of an earlier row: 0
        rows dropped as duplicates: 0
        texts with several labels: 0
        >>> texts, labels = data.validation
        >>> [int(label) for label in labels] == [int("loved" in text) for text in texts]
        True
    """
    text_columns = _text_columns(text, label, group)
    fractions = _fractions(
        _fraction("validation", validation, validation_fraction),
        _fraction("test", test, test_fraction),
    )
    check_seed(seed)
    _check_length(tokenizer, sequence_length)
    others = [label] if group is None else [label, group]
    columns = list(dict.fromkeys([*text_columns, *others]))
    tables = [
        [] if table is None else _read_table(name, table, columns)
        for name, table in (("source", source), ("validation", validation), ("test", test))
    ]
    rows = [row for table in tables for row in table]
    table_of = np.repeat(range(len(SPLITS)), [len(table) for table in tables])

    texts = [_row_texts(row, text) for row in rows]  # each a tuple of one text or two
    places = [row.place for row in rows]
    names = [label_name(row, label) for row in rows]
    if class_names is None:  # a label of `test` alone is a mistake, since it cannot be learned
        class_names, _ = number_labels(names[: len(tables[0])], places)
    class_names, labels = number_labels(names, places, class_names)
    keys = [tuple(" ".join(part.split()) for part in parts) for parts in texts]
    conflicts = _conflicts(keys, texts, labels, class_names, places)
    last_table = {key: table for key, table in zip(keys, table_of)}  # the test comes last
    is_shared = np.array([last_table[key] != table for key, table in zip(keys, table_of)])
    seen = set()
    is_first = np.array([not (key in seen or seen.add(key)) for key in keys])
    is_kept = ~is_shared
    if drop_duplicates:
        seen = set()
        is_first_in_table = np.array(
            [not (key in seen or seen.add(key)) for key in zip(keys, table_of)]
        )
        is_kept &= is_first_in_table & np.array([key not in conflicts for key in keys])
    kept = np.flatnonzero(is_kept)
    drawn = kept[table_of[kept] == 0]  # these rows are split here
    _check_classes(drawn, keys, labels, places, class_names)

    together = [[keys[i] for i in drawn]]
    if group is not None:
        groups = [_group(row, group) for row in rows]
        _check_groups(kept, groups, table_of, places, group)
        together.append([groups[i] for i in drawn])
    splits = draw_splits(labels[drawn], units_of(*together), fractions, seed)
    _check_not_empty(splits, fractions)
    parts = [drawn[splits == i] for i in range(len(SPLITS))]
    for i, ready in enumerate((None, validation, test)):
        if ready is not None:
            parts[i] = kept[table_of[kept] == i]
            if not len(parts[i]):
                raise ValueError(f"No row of `{SPLITS[i]}` is left after dropping duplicates.")
    array = np.array(texts, object)  # (rows, 1), or (rows, 2) for pairs
    array = array[:, 0] if array.shape[1] == 1 else array
    examples = [LabeledTexts(array[part], labels[part]) if len(part) else None for part in parts]
    too_long = None
    if tokenizer is not None:
        found = [part for part in examples if part is not None]
        too_long = sum(part.num_longer_than(sequence_length, tokenizer) for part in found)
    counts = [np.bincount(labels[part], minlength=len(class_names)) for part in parts]
    report = DataReport(
        num_rows=len(rows),
        num_duplicates=int((~is_first).sum()),
        num_dropped=len(rows) - len(kept),
        conflicts=tuple(conflicts.values()),
        num_too_long=too_long,
        counts={
            split: dict(zip(class_names, count.tolist()))
            for split, count in zip(SPLITS, counts)
            if count.any()
        },
        num_shared=None if validation is None and test is None else int(is_shared.sum()),
    )
    _warn(report, sequence_length)
    weights = counts[0].sum() / (len(class_names) * counts[0])
    return ClassificationData(
        *examples,
        class_names=class_names,
        class_weights=dict(enumerate(weights.tolist())),
        report=report,
    )


def _text_columns(text, label, group) -> list[str]:
    """Return the columns that make the text, after checks of all names of columns."""
    for name, column in (("label", label), ("group", group)):
        if not isinstance(column, str) and (name, column) != ("group", None):
            raise ValueError(f"`{name}` must be the name of a column, got {column!r}.")
    if isinstance(text, TableRows):
        columns = list(text.types)
    else:
        columns = [text] if isinstance(text, str) else list(text) if _is_pair(text) else None
    if columns is None:
        raise ValueError(
            f"`text` must be the name of a column, two names, or a TableRows; got {text!r}."
        )
    if label in columns:
        raise ValueError(
            f"`text` must not contain the column of the labels, {label!r}: the model would read "
            "the answer."
        )
    return columns


def _is_pair(text) -> bool:
    return (
        isinstance(text, list | tuple)
        and len(text) == 2
        and all(isinstance(column, str) for column in text)
    )


def _read_table(name, table, columns) -> list[Row]:
    rows = list(read_rows(table, columns))
    if not rows:
        shown = str(table) if isinstance(table, str | os.PathLike) else f"`{name}`"
        raise ValueError(f"{shown} must have rows, but is empty.")
    for row in rows:  # errors about the row begin with its place
        row.place = re.sub(r"^`source`", f"`{name}`", row.place)
    return rows


def _fraction(name, table, fraction) -> float:
    if table is None:
        return 0.1 if fraction is None else fraction
    if fraction not in (None, 0):
        raise ValueError(
            f"`{name}_fraction` must be None with a ready-made `{name}`, got {fraction!r}."
        )
    return 0


def _fractions(validation_fraction, test_fraction) -> list[float]:
    check_rate("validation_fraction", validation_fraction)
    check_rate("test_fraction", test_fraction)
    if validation_fraction + test_fraction >= 1:
        raise ValueError(
            "`validation_fraction` and `test_fraction` must leave rows for training: their sum "
            f"must be below 1, got {validation_fraction} + {test_fraction}."
        )
    return [1 - validation_fraction - test_fraction, validation_fraction, test_fraction]


def _check_length(tokenizer, sequence_length) -> None:
    if (tokenizer is None) != (sequence_length is None):
        raise ValueError(
            "`tokenizer` and `sequence_length` must be given together, to count the rows over the "
            f"length; got {tokenizer!r} and {sequence_length!r}."
        )
    if tokenizer is not None:
        check_positive_int("sequence_length", sequence_length)
        if not isinstance(tokenizer, Tokenizer):
            raise ValueError(f"`tokenizer` must be a gk.tokenizers.Tokenizer, got {tokenizer!r}.")


def _row_texts(row: Row, text) -> tuple[str, ...]:
    """Return the text of a row, or its two texts, as a tuple."""
    if isinstance(text, TableRows):
        return (text.to_text(row),)
    return tuple(_text(row, column) for column in ([text] if isinstance(text, str) else text))


def _text(row: Row, column: str) -> str:
    value = row[column]
    if value is None or (isinstance(value, str) and not value.strip()):
        raise ValueError(f"{row.place}: the text {column!r} is missing.")
    if not isinstance(value, str):
        raise ValueError(
            f"{row.place}: the text {column!r} must be a string, got {value!r}. For columns of "
            "numbers, see gk.datasets.table_rows."
        )
    if not is_unicode(value):
        raise ValueError(f"{row.place}: the text {column!r} has a lone surrogate: {value!r:.60}.")
    return str(value)


def _group(row: Row, column: str) -> Any:
    value = row[column]
    if value is None or value != value:
        raise ValueError(f"{row.place}: the group {column!r} is missing.")
    if isinstance(value, dict | list | set):
        raise ValueError(
            f"{row.place}: the group {column!r} must be a string or a number, got {value!r}."
        )
    return value


def _conflicts(keys, texts, labels, class_names, places) -> dict[tuple, Conflict]:
    """Return the texts with several labels, by their key."""
    rows_of = defaultdict(list)
    for i, key in enumerate(keys):
        rows_of[key].append(i)
    conflicts = {}
    for key, own in rows_of.items():
        if len({int(labels[i]) for i in own}) > 1:
            parts = texts[own[0]]
            conflicts[key] = Conflict(
                text=parts[0] if len(parts) == 1 else parts,
                labels=tuple(class_names[labels[i]] for i in own),
                places=tuple(places[i] for i in own),
            )
    return conflicts


def _check_classes(kept, keys, labels, places, class_names) -> None:
    """Check that there are two classes, and two different texts of each."""
    if len(class_names) < 2:
        raise ValueError(f"There must be at least two labels, got only {class_names[0]!r}.")
    texts_of = [set() for _ in class_names]
    place_of = {}
    for i in kept:
        texts_of[labels[i]].add(keys[i])
        place_of.setdefault(labels[i], places[i])
    for label, texts in enumerate(texts_of):
        if len(texts) < 2:
            where = f" ({place_of[label]})" if texts else ""
            raise ValueError(
                f"Each label must have at least two different texts, but {class_names[label]!r} "
                f"has {len(texts)}{where}. Is it misspelled? Otherwise remove it, or add texts."
            )


def _check_groups(kept, groups, table_of, places, column) -> None:
    """Check that no group is in several tables."""
    first = {}
    for i in kept:
        other = first.setdefault(groups[i], i)
        if table_of[other] != table_of[i]:
            raise ValueError(
                f"{places[i]}: the group {column!r} is {groups[i]!r}, as at {places[other]}. A "
                "group must stay in one table."
            )


def _check_not_empty(splits, fractions) -> None:
    for number, (name, fraction) in enumerate(zip(SPLITS, fractions)):
        if fraction and not (splits == number).any():
            raise ValueError(
                f"The {name} part is empty: its fraction is {fraction:g} of {len(splits)} rows, of "
                f"which equal texts and groups stay together. Change `validation_fraction` and "
                "`test_fraction` (0 for no such part), or give more rows."
            )


def _warn(report: DataReport, sequence_length) -> None:
    if report.conflicts:
        first = report.conflicts[0]
        warnings.warn(
            f"{len(report.conflicts)} texts have several labels, such as "
            f"{reprlib.repr(first.text)}: {first.labels[0]!r} at {first.places[0]}. "
            "`report.conflicts` lists them.",
            stacklevel=3,
        )
    if report.num_shared:
        warnings.warn(
            f"{report.num_shared} rows were dropped, because a later table has their text too: the "
            "model could remember the labels of the test.",
            stacklevel=3,
        )
    if report.num_too_long:
        rows = sum(sum(counts.values()) for counts in report.counts.values())
        warnings.warn(
            f"{report.num_too_long} of {rows} rows have more than "
            f"sequence_length={sequence_length} tokens: the model reads only a part of them.",
            stacklevel=3,
        )
