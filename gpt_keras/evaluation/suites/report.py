"""`report.md`: the results of a suite for readers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt_keras.atomic import atomic_file
from gpt_keras.evaluation.suites.comparison import SuiteComparison
from gpt_keras.evaluation.suites.folder import REPORT
from gpt_keras.evaluation.suites.result import TITLES, SuiteResult, result_rows
from gpt_keras.evaluation.tasks.task import TaskResult
from gpt_keras.run_files import code_block, table_cell

# Number of items with the lowest scores, and of items with the highest ones, of each task.
_NUM_SHOWN = 2
_PROMPT_CHARACTERS, _FIELD_CHARACTERS = 800, 200


def write_report(
    folder: Path, result: SuiteResult, comparison: SuiteComparison | None = None, picture: str = ""
) -> None:
    """Write `report.md`, completely or not at all.

    Args:
        folder: Folder of the evaluation.
        result: The results.
        comparison: Comparison with other models.
        picture: File name of the comparison's picture in the folder.
    """
    text = "\n".join(_report(result, comparison, picture)) + "\n"
    with atomic_file(folder / REPORT) as file:
        file.write_text(text, encoding="utf-8", errors="surrogatepass")


def _report(result: SuiteResult, comparison: SuiteComparison | None, picture: str) -> list[str]:
    record, model, machine = result.record, result.record["model"], result.record["machine"]
    seconds = sum(entry["seconds"] for entry in record["tasks"].values())
    items = sum(entry["num_items"] for entry in record["tasks"].values())
    lines = [
        f"# Evaluation: {record['suite']}",
        "",
        f"Began {record['began']}. {items:,} items in {seconds:,.1f} s.",
        "",
        f"- Model: {model['class']}, {model['parameters']:,} parameters, {model['dtype']}, "
        f"SHA-256 {_short_digest(model['sha256'])}",
        f"- Machine: {machine['system']}, {machine['cores']} cores, {machine['gpus']} GPUs",
        "- Versions: " + ", ".join(f"{name} {v}" for name, v in record["versions"].items()),
        "",
        *_table(TITLES, result_rows(result.tasks), "lrlrrr"),
        "",
        "The value is followed by its standard error. The interval is 1.96 standard errors to both "
        "sides. Cut items were longer than the model's context and lost tokens on the left.",
    ]
    if comparison is not None:
        titles, rows = comparison.table()
        lines += ["", "## Comparison", "", *_table(titles, rows, "ll" + "r" * (len(titles) - 2))]
        lines += ["", f"A difference is {table_cell(comparison.name)} minus the other model on the"]
        lines += ["same items, with its standard error; p tests whether there is none."]
        lines += ["", f"![metrics with 95% intervals]({picture})"] if picture else []
    lines += ["", "## Data", ""]
    titles = ("task", "file", "SHA-256", "source", "seconds", "items/s", "batch size")
    lines += _table(titles, _data_rows(record["tasks"]), "llllrrr")
    if record["settings"]:
        lines += ["", "## Settings", "", "| | |", "|---|---|"]
        lines += [f"| {name} | {table_cell(value)} |" for name, value in record["settings"].items()]
    lines += ["", "## Items to look at", ""]
    lines += [f"The items of each task with the {_NUM_SHOWN} lowest and the {_NUM_SHOWN} highest"]
    lines += ["scores, the first ones of equal scores. `items/TASK.jsonl` has all items."]
    for name, task in result.tasks.items():
        lines += _items(name, task)
    return lines


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    lines = ["|".join(["", *(f" {table_cell(title)} " for title in titles), ""])]
    lines.append("|".join(["", *("---" if side == "l" else "--:" for side in sides), ""]))
    for row in rows:
        lines.append("|".join(["", *(f" {table_cell(cell)} " for cell in row), ""]))
    return lines


def _data_rows(tasks: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    rows = []
    for name, entry in tasks.items():
        speed = f"{entry['num_items'] / entry['seconds']:.1f}" if entry["seconds"] else ""
        sizes = ", ".join(map(str, entry["batch_sizes"]))
        end = (entry["source"] or "", f"{entry['seconds']:,.1f}", speed, sizes)
        rows.append((name, entry["file"], _short_digest(entry["sha256"]), *end))
        if "examples_file" in entry:
            digest = _short_digest(entry["examples_sha256"])
            rows.append(("", entry["examples_file"], digest, "", "", "", ""))
    return rows


def _items(name: str, task: TaskResult) -> list[str]:
    metric = next((m for m in task.metrics if all(_has(r, m) for r in task.records)), None)
    numbers = range(len(task.records))
    if metric is None:
        chosen = [*numbers[:_NUM_SHOWN]]
    else:
        scores = [float(record["scores"][metric]) for record in task.records]
        low = sorted(numbers, key=lambda i: (scores[i], i))[:_NUM_SHOWN]
        high = sorted(numbers, key=lambda i: (-scores[i], i))[:_NUM_SHOWN]
        chosen = list(dict.fromkeys([*low, *high]))
    lines = []
    for i in chosen:
        record = task.records[i]
        verdict = ""
        if metric is not None and set(scores) <= {0, 1}:
            verdict = ": right" if scores[i] else ": wrong"
        elif metric is not None:
            verdict = f": {metric} {scores[i]:.3f}"
        cut = ", cut on the left" if record["was_cut"] else ""
        lines += ["", f"### {name}, item {i}{verdict}{cut}", ""]
        shown = {k: v for k, v in record.items() if k not in ("prompt", "was_cut")}
        if "prompt" in record:
            lines += [*code_block(_last(str(record["prompt"]))), ""]
        lines += [f"- {key}: {_short(value)}" for key, value in shown.items()]
    return lines


def _has(record: Mapping[str, Any], metric: str) -> bool:
    return metric in record.get("scores", ())


def _last(text: str) -> str:
    """Return the end of a prompt, where its question is."""
    return text if len(text) <= _PROMPT_CHARACTERS else "..." + text[-_PROMPT_CHARACTERS:]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split()).replace("`", "'")
    text = text if len(text) <= _FIELD_CHARACTERS else text[:_FIELD_CHARACTERS] + "..."
    return f"`{text}`"


def _short_digest(digest: str) -> str:
    return digest[:12]
