"""Evaluation: perplexity, generated answers, scaling laws, classifier reports."""

from gpt_keras.evaluation.classification import (
    ClassificationReport,
    ClassScores,
    classification_report,
)
from gpt_keras.evaluation.estimate import Estimate
from gpt_keras.evaluation.evaluation_task import EvaluationTask, TaskResult, evaluate
from gpt_keras.evaluation.generated_answers import Answer, AnswersResult, answers
from gpt_keras.evaluation.likelihood import PerplexityResult, perplexity
from gpt_keras.evaluation.scaling_law import PowerLaw, fit_power_law
from gpt_keras.evaluation.short_answers import exact_match, token_f1
from gpt_keras.evaluation.suite_comparison import SuiteComparison, compare_suites
from gpt_keras.evaluation.suite_result import SuiteResult, load_results
from gpt_keras.evaluation.suite_run import evaluate_suite
from gpt_keras.evaluation.text_overlap import BleuScore, RougeScores, bleu, chrf, rouge

__all__ = [
    "Answer",
    "AnswersResult",
    "BleuScore",
    "ClassScores",
    "ClassificationReport",
    "Estimate",
    "EvaluationTask",
    "PerplexityResult",
    "PowerLaw",
    "RougeScores",
    "SuiteComparison",
    "SuiteResult",
    "TaskResult",
    "answers",
    "bleu",
    "chrf",
    "classification_report",
    "compare_suites",
    "evaluate",
    "evaluate_suite",
    "exact_match",
    "fit_power_law",
    "load_results",
    "perplexity",
    "rouge",
    "token_f1",
]
