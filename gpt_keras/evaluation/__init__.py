"""Evaluation: tasks, suites, perplexity, answers, scaling laws, reports."""

from gpt_keras.evaluation.answer_task import AnswerTask
from gpt_keras.evaluation.choice_task import ChoiceExample, ChoiceTask
from gpt_keras.evaluation.classification import (
    ClassificationReport,
    ClassScores,
    classification_report,
)
from gpt_keras.evaluation.continuation_task import ContinuationExample, ContinuationTask
from gpt_keras.evaluation.estimate import Estimate, mean_estimate
from gpt_keras.evaluation.evaluation_task import EvaluationTask, TaskResult
from gpt_keras.evaluation.few_shot import FewShotTask
from gpt_keras.evaluation.generated_answers import Answer, AnswersResult, answers
from gpt_keras.evaluation.likelihood import PerplexityResult, perplexity
from gpt_keras.evaluation.scaling_law import PowerLaw, fit_power_law
from gpt_keras.evaluation.short_answers import exact_match, token_f1
from gpt_keras.evaluation.suites import Suite, SuiteEntry, load_suite
from gpt_keras.evaluation.task_evaluation import evaluate
from gpt_keras.evaluation.task_loading import load_task
from gpt_keras.evaluation.text_overlap import BleuScore, RougeScores, bleu, chrf, rouge

__all__ = [
    "Answer",
    "AnswerTask",
    "AnswersResult",
    "BleuScore",
    "ChoiceExample",
    "ChoiceTask",
    "ClassScores",
    "ClassificationReport",
    "ContinuationExample",
    "ContinuationTask",
    "Estimate",
    "EvaluationTask",
    "FewShotTask",
    "PerplexityResult",
    "PowerLaw",
    "RougeScores",
    "Suite",
    "SuiteEntry",
    "TaskResult",
    "answers",
    "bleu",
    "chrf",
    "classification_report",
    "evaluate",
    "exact_match",
    "fit_power_law",
    "load_suite",
    "load_task",
    "mean_estimate",
    "perplexity",
    "rouge",
    "token_f1",
]
