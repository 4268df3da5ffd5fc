"""Comparison of models over suites: paired differences, and what cannot be compared."""

import numpy as np
import pytest

import gpt_keras as gk
from gpt_keras.evaluation.estimate import mean_estimate


def result(scores, task="sums", **entry):
    """Return a result with these scores of a task."""
    records = [{"place": str(i), "scores": {"acc": score}} for i, score in enumerate(scores)]
    metrics = {"acc": mean_estimate(scores), "bleu": mean_estimate([30.0])}
    entry = {"sha256": "a", "description_sha256": "b", "num_items": len(scores)} | entry
    found = gk.evaluation.TaskResult(task, metrics, records, 0)
    return gk.evaluation.SuiteResult({"tasks": {task: entry}}, {task: found})


def both(*results):
    """Return one result with the tasks of several."""
    record = {"tasks": {task: e for found in results for task, e in found.record["tasks"].items()}}
    tasks = {task: found for result in results for task, found in result.tasks.items()}
    return gk.evaluation.SuiteResult(record, tasks)


A = np.array([1, 1, 1, 0, 1, 0, 1, 1], float)
B = np.array([1, 0, 0, 0, 1, 1, 0, 1], float)


def test_differences_are_paired():
    found = gk.evaluation.compare_suites({"a": result(A), "b": result(B), "c": result(A)})
    difference = found.differences["b"]["sums"]["acc"].difference
    assert difference.value == pytest.approx((A - B).mean())
    assert difference.standard_error == pytest.approx((A - B).std(ddof=1) / np.sqrt(8))
    assert found.differences["c"]["sums"]["acc"].difference.value == 0
    titles, rows = found.table()
    assert titles == ["task", "metric", "a", "b", "difference", "p", "c", "difference", "p"]
    assert rows[0][:3] == ["sums", "acc", "0.750 ± 0.164"]
    assert rows[0][3:5] == ["0.500 ± 0.189", "+0.250 ± 0.250"]
    # A metric of the whole corpus has values only.
    assert rows[1] == [
        "",
        "bleu",
        *["30.000 ± nan", "30.000 ± nan", "", ""],
        "30.000 ± nan",
        "",
        "",
    ]
    assert "+0.250 ± 0.250" in str(found)


def test_a_metric_that_is_no_mean_of_its_scores_has_no_difference():
    a, b = result(A), result(B)
    b.tasks["sums"].metrics["acc"] = mean_estimate([0.4, 0.7])  # such as a mean over groups
    found = gk.evaluation.compare_suites({"a": a, "b": b})
    assert found.differences == {"b": {"sums": {}}}
    assert found.table()[1][0][4:] == ["", ""]


def test_a_small_p_value():
    found = gk.evaluation.compare_suites({"a": result([1.0] * 20), "b": result([0.0] * 20)})
    assert found.table()[1][0][-1] == "< 0.001"


def test_tasks_that_only_one_model_has():
    other = result(B, "products")
    found = gk.evaluation.compare_suites({"a": both(result(A), other), "b": both(other)})
    assert list(found.differences["b"]) == ["products"]
    _, rows = found.table()
    assert rows[0] == ["sums", "acc", "0.750 ± 0.164", "", "", ""]
    assert rows[2][0] == "products"
    assert rows[2][4].startswith("+0.000")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (result(A, "products"), "must have a task in common, got sums and products"),
        (result(A, sha256="c"), "must have the same data of the task 'sums'"),
        (result(A, description_sha256="c"), "must have the same description"),
        (result(A, examples_sha256="c"), "must have the same examples"),
        (result(A, seed=1), "must have the same seed"),
        (result(A[:7]), "must have the same number of items"),
    ],
)
def test_what_cannot_be_compared(other, message):
    with pytest.raises(ValueError, match=message):
        gk.evaluation.compare_suites({"a": result(A), "b": other})


def test_records_of_other_items():
    other = result(A)
    other.tasks["sums"].records[3]["place"] = "elsewhere"
    with pytest.raises(ValueError, match="'a' and 'b', task 'sums'"):
        gk.evaluation.compare_suites({"a": result(A), "b": other})
