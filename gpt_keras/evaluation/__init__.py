"""Evaluation: perplexity, generated answers, scaling laws, classifier reports."""

import importlib
from typing import TYPE_CHECKING

from gpt_keras.evaluation.classification import (
    ClassificationReport,
    ClassScores,
    classification_report,
)
from gpt_keras.evaluation.generated_answers import Answer, AnswersResult, answers
from gpt_keras.evaluation.likelihood import PerplexityResult, perplexity
from gpt_keras.evaluation.scaling_law import PowerLaw, fit_power_law
from gpt_keras.evaluation.short_answers import exact_match, token_f1
from gpt_keras.evaluation.text_overlap import BleuScore, RougeScores, bleu, chrf, rouge

if TYPE_CHECKING:
    from gpt_keras.evaluation.harness import HarnessModel

__all__ = [
    "Answer",
    "AnswersResult",
    "BleuScore",
    "ClassScores",
    "ClassificationReport",
    "HarnessModel",
    "PerplexityResult",
    "PowerLaw",
    "RougeScores",
    "answers",
    "bleu",
    "chrf",
    "classification_report",
    "exact_match",
    "fit_power_law",
    "perplexity",
    "rouge",
    "token_f1",
]


def __getattr__(name):
    if name == "HarnessModel":  # imports lm_eval, which nothing else needs
        return importlib.import_module("gpt_keras.evaluation.harness").HarnessModel
    raise AttributeError(f"module 'gpt_keras.evaluation' has no attribute {name!r}")
