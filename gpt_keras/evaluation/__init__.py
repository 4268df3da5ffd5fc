"""Evaluation: tasks, suites, perplexity, answers, statistics, bias, memorization."""

import importlib
from typing import TYPE_CHECKING

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
from gpt_keras.evaluation.estimate import Estimate, mean_estimate
from gpt_keras.evaluation.generated_answers import Answer, AnswersResult, answers
from gpt_keras.evaluation.likelihood import PerplexityResult, perplexity
from gpt_keras.evaluation.memorization import LongestMatch, TextIndex
from gpt_keras.evaluation.scaling_law import PowerLaw, fit_power_law
from gpt_keras.evaluation.short_answers import exact_match, token_f1
from gpt_keras.evaluation.suites.comparison import SuiteComparison, compare_suites
from gpt_keras.evaluation.suites.result import SuiteResult, load_results
from gpt_keras.evaluation.suites.run import evaluate_suite
from gpt_keras.evaluation.suites.suite import Suite, SuiteEntry, load_suite
from gpt_keras.evaluation.tasks.answer import AnswerTask
from gpt_keras.evaluation.tasks.choice import ChoiceExample, ChoiceTask
from gpt_keras.evaluation.tasks.continuation import ContinuationExample, ContinuationTask
from gpt_keras.evaluation.tasks.evaluation import evaluate
from gpt_keras.evaluation.tasks.few_shot import FewShotTask
from gpt_keras.evaluation.tasks.loading import load_task
from gpt_keras.evaluation.tasks.stereotype import StereotypeReport, StereotypeTask
from gpt_keras.evaluation.tasks.task import EvaluationTask, TaskResult
from gpt_keras.evaluation.text_overlap import BleuScore, RougeScores, bleu, chrf, rouge

if TYPE_CHECKING:
    from gpt_keras.evaluation.harness import HarnessModel

__all__ = [
    "Answer",
    "AnswerTask",
    "AnswersResult",
    "BleuScore",
    "Calibration",
    "CalibrationBin",
    "CanaryExposure",
    "ChoiceExample",
    "ChoiceTask",
    "ClassScores",
    "ClassificationReport",
    "Comparison",
    "ContinuationExample",
    "ContinuationTask",
    "CounterfactualPair",
    "CounterfactualsResult",
    "DocumentOverlap",
    "Estimate",
    "EvaluationTask",
    "FewShotTask",
    "HarnessModel",
    "Interval",
    "LongestMatch",
    "MetricDifference",
    "NgramOverlap",
    "PerplexityResult",
    "PowerLaw",
    "RougeScores",
    "StereotypeReport",
    "StereotypeTask",
    "Suite",
    "SuiteComparison",
    "SuiteEntry",
    "SuiteResult",
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
    "compare_suites",
    "counterfactuals",
    "distinct_n",
    "evaluate",
    "evaluate_suite",
    "exact_match",
    "fit_power_law",
    "load_results",
    "load_suite",
    "load_task",
    "mean_estimate",
    "ngram_overlap",
    "perplexity",
    "repetition_rate",
    "rouge",
    "self_bleu",
    "token_f1",
]


def __getattr__(name):
    if name == "HarnessModel":  # imports lm_eval, which nothing else needs
        return importlib.import_module("gpt_keras.evaluation.harness").HarnessModel
    raise AttributeError(f"module 'gpt_keras.evaluation' has no attribute {name!r}")
