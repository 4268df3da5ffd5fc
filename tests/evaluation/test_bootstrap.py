"""Bootstrap intervals, and the paired comparison, against scipy."""

import math

import numpy as np
import pytest
import scipy.stats

import gpt_keras as gk

evaluation = gk.evaluation


def test_an_interval_is_scipys():
    values = np.random.default_rng(0).exponential(size=80)
    expected = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=1
    ).confidence_interval
    interval = evaluation.bootstrap_interval(values, num_samples=20_000)
    assert interval.value == pytest.approx(values.mean())
    # Two runs of 20,000 samples differ by about a hundredth of the interval.
    width = expected.high - expected.low
    assert interval.low == pytest.approx(expected.low, abs=0.02 * width)
    assert interval.high == pytest.approx(expected.high, abs=0.02 * width)
    assert (interval.confidence, interval.num_items) == (0.95, 80)


def test_an_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        sample = generator.binomial(1, 0.7, 100)
        interval = evaluation.bootstrap_interval(sample, confidence=0.9, num_samples=200, seed=seed)
        covered += interval.low <= 0.7 <= interval.high
    # Binomial with 200 trials: 0.9 plus or minus three standard deviations, and granularity.
    assert 0.82 <= covered / 200 <= 0.97


def test_a_statistic_of_rows_and_the_seed():
    rows = np.random.default_rng(0).normal([1, 2], 0.1, (60, 2))

    def ratio(drawn):
        return drawn[:, 0].mean() / drawn[:, 1].mean()

    interval = evaluation.bootstrap_interval(rows, ratio, seed=3)
    assert interval == evaluation.bootstrap_interval(rows.tolist(), ratio, seed=3)
    assert interval != evaluation.bootstrap_interval(rows, ratio, seed=4)
    assert interval.low < interval.value < interval.high
    assert interval.value == pytest.approx(ratio(rows))


def test_the_standard_error_of_a_mean():
    values = np.random.default_rng(0).normal(size=50)
    found = evaluation.bootstrap_estimate(lambda rows: values[rows].mean(), 50, num_samples=5000)
    assert found.value == pytest.approx(values.mean())
    assert found.standard_error == pytest.approx(values.std() / math.sqrt(50), rel=0.05)
    assert found.num_items == 50
    assert math.isnan(evaluation.bootstrap_estimate(lambda rows: 1.0, 1).standard_error)


def test_the_global_seed_of_numpy_stays():
    np.random.seed(5)
    state = np.random.get_state()[1].copy()
    evaluation.bootstrap_interval([1, 2, 3])
    assert (np.random.get_state()[1] == state).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": []}, "`values` must hold an entry for each item"),
        ({"values": 3}, "`values` must hold an entry for each item, got 3"),
        ({"values": ["a"]}, "`values` must hold numbers, got"),
        ({"values": [1, math.nan]}, "finite numbers, got nan as item number 1"),
        ({"values": [1], "confidence": 95}, "`confidence` must be between 0 and 1, got 95"),
        ({"values": [1], "num_samples": 0}, "`num_samples` must be an integer of at least 1"),
        ({"values": [1], "seed": -1}, "`seed` must be an integer from 0"),
        ({"values": [1, 2], "statistic": lambda x: x}, "`statistic` must return one number, got"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluation.bootstrap_interval(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((lambda rows: 1.0, 0), "`num_items` must be an integer of at least 1"),
        ((lambda rows: "a", 2), "`statistic` must return one number, got 'a'"),
    ],
)
def test_bad_arguments_of_an_estimate(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluation.bootstrap_estimate(*arguments)
    with pytest.raises(ValueError, match="`num_samples` must be at least 2, got 1"):
        evaluation.bootstrap_estimate(lambda rows: 1.0, 2, num_samples=1)


# Comparison


def result(rows, **changes):
    records = [
        {"place": f"data/piqa.jsonl, line {i + 1}", "prompt": f"Question {i}", "scores": scores}
        | changes
        for i, scores in enumerate(rows)
    ]
    return evaluation.TaskResult("piqa", {}, records, 0)


def drawn(seed, num_items=200):
    generator = np.random.default_rng(seed)
    hard = generator.normal(size=num_items)
    return [
        result(
            [
                {"acc": float(x + generator.normal() < shift), "margin": x + generator.normal()}
                for x in hard
            ]
        )
        for shift in (0.8, 0.5)
    ]


def values(found, name):
    return np.array([record["scores"][name] for record in found.records])


def test_accuracy_is_compared_by_mcnemars_exact_test():
    a, b = drawn(0)
    found = evaluation.compare(a, b).metrics["acc"]
    first, second = values(a, "acc"), values(b, "acc")
    better, worse = int((first > second).sum()), int((first < second).sum())
    expected = scipy.stats.binomtest(better, better + worse).pvalue
    assert 0 < expected < 0.2
    assert found.p_value == pytest.approx(expected, rel=1e-9)
    assert found.test == "sign test"
    # McNemar's variance of a difference of shares (Agresti 2013, section 11.1).
    n = len(first)
    share = (better - worse) / n
    assert found.difference.value == pytest.approx(share)
    expected = math.sqrt(((better + worse) / n - share**2) / (n - 1))
    assert found.difference.standard_error == pytest.approx(expected)
    assert found.a.value == pytest.approx(first.mean())
    # The pairs agree, so the paired error is below that of independent samples.
    independent = math.hypot(found.a.standard_error, found.b.standard_error)
    assert found.difference.standard_error < independent


def test_other_metrics_are_compared_by_the_paired_normal_test():
    a, b = drawn(1)
    found = evaluation.compare(a, b, "margin")
    assert list(found.metrics) == ["margin"]
    assert found.num_items == 200
    margin = found.metrics["margin"]
    expected = scipy.stats.ttest_rel(values(a, "margin"), values(b, "margin"))
    assert margin.difference.value / margin.difference.standard_error == pytest.approx(
        expected.statistic
    )
    assert margin.p_value == pytest.approx(2 * scipy.stats.norm.sf(abs(expected.statistic)))
    assert margin.test == "normal"


def test_terms_have_equal_weight():
    generator = np.random.default_rng(0)
    terms = ["nurse"] * 30 + ["smith"] * 90
    a, b = (
        result([{"ss": float(x)} for x in generator.binomial(1, share, 120)])
        for share in (0.7, 0.4)
    )
    for found in (a, b):
        for record, term in zip(found.records, terms, strict=True):
            record["target"] = term
    found = evaluation.compare(a, b).metrics["ss"]
    differences = values(a, "ss") - values(b, "ss")
    parts = differences[:30], differences[30:]
    assert found.difference.value == pytest.approx(np.mean([part.mean() for part in parts]))
    expected = math.sqrt(sum(part.var() / len(part) for part in parts)) / 2
    assert found.difference.standard_error == pytest.approx(expected, rel=0.1)
    z = found.difference.value / found.difference.standard_error
    assert found.p_value == pytest.approx(2 * scipy.stats.norm.sf(z))
    assert found.test == "normal"


def test_the_p_value_of_equal_models_is_not_too_small_too_often():
    generator = np.random.default_rng(0)
    small = 0
    for _ in range(300):
        a, b = (
            result([{"acc": float(x)} for x in generator.binomial(1, 0.6, 40)]) for _ in range(2)
        )
        small += evaluation.compare(a, b).metrics["acc"].p_value < 0.05
    assert small / 300 < 0.05 + 0.02


def test_equal_results_and_many_items():
    a = result([{"acc": 1.0}, {"acc": 0.0}])
    found = evaluation.compare(a, a).metrics["acc"]
    assert (found.p_value, found.difference.value) == (1.0, 0.0)
    # The exact test works with integers, so thousands of items do not overflow.
    a, b = (result([{"acc": x}] * 5000) for x in (1.0, 0.0))
    assert evaluation.compare(a, b).metrics["acc"].p_value == 0.0
    assert str(evaluation.compare(a, b)).startswith("piqa: 5000 items\nacc 1.000 - 0.000 = 1.000")


def test_a_folder_of_the_same_file_may_differ():
    a = result([{"acc": 1.0}], place="here/piqa.jsonl, line 1")
    b = result([{"acc": 1.0}], place="C:\\there\\piqa.jsonl, line 1")
    assert evaluation.compare(a, b).metrics["acc"].p_value == 1.0


GOOD = [{"acc": 1.0, "margin": 0.2}, {"acc": 0.0, "margin": 0.1}]


@pytest.mark.parametrize(
    ("b", "message"),
    [
        (result(GOOD[:1]), "the same items, got 2 and 1 items"),
        (result(GOOD, prompt="Q"), "the prompt of item 0 is 'Question 0' in `a` and 'Q' in `b`"),
        (result(GOOD, place="row 0"), "the place of item 0 is 'piqa.jsonl, line 1' in `a`"),
        (result(GOOD, choices=["a", "b"]), "the choices of item 0 is None in `a`"),
        (result(GOOD, scores=None), "`b` must have `scores`, a dict from metrics to numbers"),
        (result([{"f1": 1.0}] * 2), "must have a metric in common"),
        ("results.json", "`b` must be a TaskResult of `evaluate`, got 'results.json'"),
    ],
)
def test_results_of_other_items_are_refused(b, message):
    with pytest.raises(ValueError, match=message):
        evaluation.compare(result(GOOD), b)


def test_a_metric_must_be_in_both_results():
    with pytest.raises(ValueError, match="for each item of both results: acc; got 'margin'"):
        evaluation.compare(result(GOOD), result([{"acc": 1.0}] * 2), "margin")
