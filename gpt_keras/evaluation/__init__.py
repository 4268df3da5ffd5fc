"""Evaluation: perplexity, generated answers, scaling laws, classifier reports."""

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

__all__ = [
    "Answer",
    "AnswersResult",
    "BleuScore",
    "ClassScores",
    "ClassificationReport",
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
