"""Evaluation: tasks, perplexity, answers, statistics, bias, memorization."""

from gpt_keras.evaluation.bootstrap import Interval, bootstrap_estimate, bootstrap_interval
from gpt_keras.evaluation.calibration_error import (
    Calibration,
    CalibrationBin,
    calibration,
    choice_confidences,
)
from gpt_keras.evaluation.canaries import CanaryExposure, canary_exposure
from gpt_keras.evaluation.classification import (
    ClassificationReport,
    ClassScores,
    classification_report,
)
from gpt_keras.evaluation.comparison import Comparison, MetricDifference, compare
from gpt_keras.evaluation.contamination import DocumentOverlap, NgramOverlap, ngram_overlap
from gpt_keras.evaluation.counterfactual_generation import (
    CounterfactualPair,
    CounterfactualsResult,
    counterfactuals,
)
from gpt_keras.evaluation.diversity import distinct_n, repetition_rate, self_bleu
from gpt_keras.evaluation.estimate import Estimate
from gpt_keras.evaluation.evaluation_task import EvaluationTask, TaskResult, evaluate
from gpt_keras.evaluation.generated_answers import Answer, AnswersResult, answers
from gpt_keras.evaluation.likelihood import PerplexityResult, perplexity
from gpt_keras.evaluation.memorization import LongestMatch, TextIndex
from gpt_keras.evaluation.scaling_law import PowerLaw, fit_power_law
from gpt_keras.evaluation.short_answers import exact_match, token_f1
from gpt_keras.evaluation.stereotypes import StereotypeReport, StereotypeTask
from gpt_keras.evaluation.text_overlap import BleuScore, RougeScores, bleu, chrf, rouge

__all__ = [
    "Answer",
    "AnswersResult",
    "BleuScore",
    "Calibration",
    "CalibrationBin",
    "CanaryExposure",
    "ClassScores",
    "ClassificationReport",
    "Comparison",
    "CounterfactualPair",
    "CounterfactualsResult",
    "DocumentOverlap",
    "Estimate",
    "EvaluationTask",
    "Interval",
    "LongestMatch",
    "MetricDifference",
    "NgramOverlap",
    "PerplexityResult",
    "PowerLaw",
    "RougeScores",
    "StereotypeReport",
    "StereotypeTask",
    "TaskResult",
    "TextIndex",
    "answers",
    "bleu",
    "bootstrap_estimate",
    "bootstrap_interval",
    "calibration",
    "canary_exposure",
    "choice_confidences",
    "chrf",
    "classification_report",
    "compare",
    "counterfactuals",
    "distinct_n",
    "evaluate",
    "exact_match",
    "fit_power_law",
    "ngram_overlap",
    "perplexity",
    "repetition_rate",
    "rouge",
    "self_bleu",
    "token_f1",
]
