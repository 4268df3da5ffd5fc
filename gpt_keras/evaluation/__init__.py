"""Evaluation of models: perplexity, scaling laws and reports on classifiers."""

from gpt_keras.evaluation.classification import (
    ClassificationReport,
    ClassScores,
    classification_report,
)
from gpt_keras.evaluation.likelihood import PerplexityResult, perplexity
from gpt_keras.evaluation.scaling_law import PowerLaw, fit_power_law

__all__ = [
    "ClassScores",
    "ClassificationReport",
    "PerplexityResult",
    "PowerLaw",
    "classification_report",
    "fit_power_law",
    "perplexity",
]
