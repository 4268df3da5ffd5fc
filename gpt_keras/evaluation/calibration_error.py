"""Calibration: confidence of answers against the share of right ones."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpt_keras.checks import check_positive_int
from gpt_keras.evaluation.bootstrap import bootstrap_estimate
from gpt_keras.evaluation.estimate import Estimate, mean_estimate


class CalibrationBin(NamedTuple):
    """Items whose confidence lies in one interval.

    Attributes:
        low: Lower end of the interval, which does not belong to it unless it is 0.
        high: Upper end of the interval.
        confidence: Mean confidence of the items.
        accuracy: Share of right items, with its standard error and their number.

    Example:
        >>> import gpt_keras as gk
        >>> found = gk.evaluation.calibration([0.9, 0.8, 0.6], [1, 1, 0], num_bins=2)
        >>> [bin] = found.bins
        >>> print(bin.low, bin.high, round(bin.confidence, 3), bin.accuracy)
        0.5 1.0 0.767 0.667 ± 0.333
    """

    low: float
    high: float
    confidence: float
    accuracy: Estimate


class Calibration(NamedTuple):
    """Result of `calibration`, for `gk.plots.reliability`.

    Attributes:
        expected_calibration_error: Mean difference of confidence and accuracy over the bins,
            weighted by their numbers of items.
        accuracy: Share of right items.
        confidence: Mean confidence. Above `accuracy`, the model is too sure.
        bins: The bins with items, from low to high confidence.

    Example:
        >>> import gpt_keras as gk
        >>> print(gk.evaluation.calibration([0.9, 0.8, 0.6], [1, 1, 0], num_bins=2))
        expected calibration error 0.100 ± 0.131, accuracy 0.667, confidence 0.767
    """

    expected_calibration_error: Estimate
    accuracy: float
    confidence: float
    bins: list[CalibrationBin]

    def __str__(self):
        return (
            f"expected calibration error {self.expected_calibration_error}, accuracy "
            f"{self.accuracy:.3f}, confidence {self.confidence:.3f}"
        )


def calibration(
    confidences: Sequence[float], is_correct: Sequence[bool], *, num_bins: int = 10
) -> Calibration:
    """Return the expected calibration error and the bins of a reliability diagram.

    The items are put into bins of equal width by their confidence. The error is the mean of
    `|accuracy - confidence|` over the bins, weighted by their numbers of items (Guo et al. 2017,
    "On Calibration of Modern Neural Networks", section 2).

    The error of few items is too high: even a perfectly calibrated model has one by chance, which
    shrinks with the number of items in a bin. Compare errors only with the same number of items and
    bins. The bootstrap's standard error does not see this bias.

    Args:
        confidences: Probability that the model gives to its answer, for each item; for records of
            choices, the first result of `choice_confidences`.
        is_correct: Whether the answer is right, for each item.
        num_bins: Number of bins.

    Returns:
        A `Calibration`.

    Raises:
        ValueError: `confidences` is empty or is not from 0 to 1; `is_correct` is not a truth value
            for each of them; or `num_bins` is not a positive integer.

    Example:
        >>> import gpt_keras as gk
        >>> sure, unsure = [0.95] * 20, [0.55] * 20
        >>> found = gk.evaluation.calibration(sure + unsure, [1] * 14 + [0] * 6 + [1, 0] * 10)
        >>> print(found)    # (|0.7 - 0.95| + |0.5 - 0.55|) / 2
        expected calibration error 0.150 ± 0.064, accuracy 0.600, confidence 0.750
    """
    check_positive_int("num_bins", num_bins)
    confidences, is_correct = _checked(confidences, is_correct)
    edges = np.linspace(0, 1, num_bins + 1)
    numbers = np.searchsorted(edges[1:-1], confidences)
    gaps = is_correct - confidences

    def error(items):
        # The sum of a bin's gaps is its number of items times (accuracy - confidence).
        sums = np.bincount(numbers[items], gaps[items], num_bins)
        return float(np.abs(sums).sum() / len(items))

    bins = []
    for number in np.unique(numbers):
        members = numbers == number
        bins.append(
            CalibrationBin(
                float(number / num_bins),
                float((number + 1) / num_bins),
                float(confidences[members].mean()),
                mean_estimate(is_correct[members]),
            )
        )
    return Calibration(
        bootstrap_estimate(error, len(confidences)),
        float(is_correct.mean()),
        float(confidences.mean()),
        bins,
    )


def choice_confidences(
    records: Sequence[Mapping[str, Any]],
) -> tuple[list[float], list[bool]]:
    """Return the probability of each chosen answer, and whether it is right.

    The probability of a choice is its likelihood divided by the sum of the likelihoods of all
    choices (a softmax of the log-probabilities; Kadavath et al. 2022, section 3). The most likely
    choice is the answer, as in the metric `acc`.

    Args:
        records: Records of a task with choices. Each has `log_probabilities` in nats, one for each
            choice, and `answer`, the number of the right choice.

    Returns:
        `(confidences, is_correct)` for `calibration`.

    Raises:
        ValueError: There are no records, or a record lacks one of the two keys.

    Example:
        >>> import gpt_keras as gk
        >>> records = [{"log_probabilities": [-2.0, -2.0 - 1.0986], "answer": 0}]
        >>> confidences, is_correct = gk.evaluation.choice_confidences(records)
        >>> round(confidences[0], 3), is_correct
        (0.75, [True])
    """
    if not records:
        raise ValueError("`records` must hold at least one record, got none.")
    confidences, is_correct = [], []
    for i, record in enumerate(records):
        if "log_probabilities" not in record or "answer" not in record:
            raise ValueError(
                "`records` must have the keys 'log_probabilities' and 'answer', got "
                f"{', '.join(map(repr, record)) or 'no keys'} in record {i}."
            )
        scores = np.array(record["log_probabilities"], np.float64)
        chosen = int(scores.argmax())
        confidences.append(float(1 / np.exp(scores - scores[chosen]).sum()))
        is_correct.append(chosen == record["answer"])
    return confidences, is_correct


def _checked(confidences: Any, is_correct: Any) -> tuple[np.ndarray, np.ndarray]:
    shown = confidences
    try:
        confidences = np.asarray(confidences, np.float64)
        is_correct = np.asarray(is_correct, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`confidences` must be numbers, and `is_correct` truth values ({error})."
        ) from error
    is_share = confidences.ndim == 1 and confidences.size > 0
    if not is_share or not ((confidences >= 0) & (confidences <= 1)).all():
        raise ValueError(
            f"`confidences` must be one number from 0 to 1 for each item, got {shown!r}."
        )
    if is_correct.shape != confidences.shape or not np.isin(is_correct, (0, 1)).all():
        raise ValueError(
            f"`is_correct` must be one truth value for each of {len(confidences)} items, got an "
            f"array of shape {is_correct.shape}."
        )
    return confidences, is_correct
