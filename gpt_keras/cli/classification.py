"""The command `gpt-keras classify`."""

import csv
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TextIO

from .files import check_writable, print_written
from .package import gk
from .task_models import load_task

# Rows of a file are classified and written in groups of this many batches.
_BATCHES = 8


def classify(
    model: str,
    *texts: str,
    file: str | None = None,
    text: str = "text",
    text_pair: str | None = None,
    format: Literal["tsv", "jsonl"] | None = None,
    output: str | None = None,
    batch_size: int = 32,
) -> None:
    """Print the label and the probabilities of texts.

    For example: gpt-keras classify my_classifier "I loved it" "Never again"

    Args:
        model: Directory written by gpt-keras finetune or save_to_preset, or a .keras file.
        texts: Texts to classify. A classifier of pairs takes the two texts of one pair; a model of
            multiple choice takes a context and its answers.
        file: Table of texts to classify: a .csv, .tsv, .jsonl, .json or .parquet file.
        text: Column of the texts in file.
        text_pair: Column of the second texts in file, for a classifier of pairs.
        format: Form of the results. tsv is a table with a header, where a text with a tab or a line
            break stands in double quotes; jsonl is one JSON object a line. The default is that of
            output, or tsv.
        output: New .tsv or .jsonl file for the results. By default, they are printed.
        batch_size: Number of texts that the model runs at once.
    """
    from gpt_keras.checks import check_positive_int

    check_positive_int("batch_size", batch_size)
    if bool(texts) == (file is not None):
        raise ValueError("`texts` or `file` must be given, and not both.")
    format = _format(format, output)
    rows = None if file is None else _rows(file, text, text_pair)  # errors before the model loads
    classifier = load_task(model)
    examples = _examples(classifier, texts) if rows is None else rows
    columns = _columns(classifier, is_file=rows is not None, has_pairs=text_pair is not None)

    def write(stream: TextIO) -> None:
        _write(stream, format, columns, _results(classifier, examples, batch_size))

    if output is None:
        write(sys.stdout)
        return
    from gpt_keras.atomic import atomic_file

    with atomic_file(output) as temporary, temporary.open("w", encoding="utf-8") as stream:
        write(stream)
    print_written(output)


def _format(format: str | None, output: str | None) -> str:
    """Return the form of the results, after checks of the output file."""
    if output is None:
        return format or "tsv"
    path = pathlib.Path(output)
    suffix = path.suffix.removeprefix(".")
    if suffix not in ("tsv", "jsonl"):
        raise ValueError(f"`output` must end in .tsv or .jsonl, got {output!r}.")
    if format not in (None, suffix):
        raise ValueError(f"`format` must be that of `output`, {suffix}, got {format}.")
    if path.exists():
        raise ValueError(f"`output` must be a new file, but {output!r} exists already.")
    check_writable(output)
    return suffix


def _rows(file: str, text: str, text_pair: str | None) -> list[str] | list[tuple[str, str]]:
    """Return the texts, or pairs of texts, of a table."""
    columns = [text] if text_pair is None else [text, text_pair]
    rows = list(gk.records.read_rows(file, columns))
    if not rows:
        raise ValueError(f"`file` must have rows, but {file!r} is empty.")
    for row in rows:
        for column in columns:
            if not isinstance(row[column], str) or not row[column].strip():
                raise ValueError(
                    f"{row.place}: the text {column!r} must be a string that is not blank, got "
                    f"{row[column]!r}."
                )
    return [row[text] if text_pair is None else (row[text], row[text_pair]) for row in rows]


def _examples(classifier, texts: Sequence[str]) -> list:
    """Return the examples in the positional texts of the command."""
    blank = next((text for text in texts if not text.strip()), None)
    if blank is not None:
        raise ValueError(f"`texts` must not be blank, got {blank!r}.")
    if not _takes_pairs(classifier):
        return list(texts)
    if len(texts) < 2:
        raise ValueError(
            "`texts` must be a context and its answers for a model of multiple choice, got one "
            "text."
            if _is_choice(classifier)
            else "`texts` must be the two texts of one pair for this classifier, got one text."
        )
    if _is_choice(classifier):
        return [(texts[0], list(texts[1:]))]
    if len(texts) > 2:
        raise ValueError(
            f"`texts` must be the two texts of one pair for this classifier, got {len(texts)} "
            "texts. For several pairs, give a `file`."
        )
    return [tuple(texts)]


def _columns(classifier, is_file: bool, has_pairs: bool) -> list[str]:
    """Return the names of the columns of an example, after a check of the flags."""
    if not is_file:
        has_pairs = _takes_pairs(classifier)
    elif _is_choice(classifier):
        raise ValueError("`file` must be left out for a model of multiple choice: give `texts`.")
    elif has_pairs != _takes_pairs(classifier):
        kind = "pairs of texts" if _takes_pairs(classifier) else "single texts"
        need = "must be given" if _takes_pairs(classifier) else "must be left out"
        raise ValueError(f"`text_pair` {need}: the model is a classifier of {kind}.")
    if _is_choice(classifier):
        return ["context", "answers"]
    return ["text", "text_pair"] if has_pairs else ["text"]


def _is_choice(classifier) -> bool:
    return isinstance(classifier, gk.GPTMultipleChoice)


def _takes_pairs(classifier) -> bool:
    return getattr(classifier, "layout", "multiple_choice") != "classification"


def _results(classifier, examples: Sequence, batch_size: int) -> Iterator[tuple[Any, Any]]:
    """Yield each example with its `Classification`."""
    size = batch_size * _BATCHES
    for first in range(0, len(examples), size):
        group = examples[first : first + size]
        yield from zip(group, classifier.classify(group, batch_size), strict=True)


def _write(stream: TextIO, format: str, columns: Sequence[str], results: Iterator) -> None:
    write = {"tsv": _tsv_writer, "jsonl": _json_writer}[format](stream, columns)
    for example, result in results:
        values = dict(zip(columns, [example] if len(columns) == 1 else example))
        write(values, result)
        stream.flush()


def _json_writer(stream: TextIO, columns: Sequence[str]) -> Callable:
    def write(values, result):
        row = {**values, "label": result.label, "probabilities": result.probabilities}
        print(json.dumps(row, ensure_ascii=False), file=stream)

    return write


def _tsv_writer(stream: TextIO, columns: Sequence[str]) -> Callable:
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    is_first = True

    def write(values, result):
        nonlocal is_first
        if is_first:
            probabilities = [f"probability of {label}" for label in result.probabilities]
            writer.writerow([*columns, "label", *probabilities])
            is_first = False
        cells = [
            v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values.values()
        ]
        writer.writerow(
            [*cells, result.label, *(f"{p:.6g}" for p in result.probabilities.values())]
        )

    return write
