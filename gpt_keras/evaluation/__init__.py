"""Evaluation of models: perplexity and scaling laws."""

from gpt_keras.evaluation.likelihood import PerplexityResult, perplexity
from gpt_keras.evaluation.scaling_law import PowerLaw, fit_power_law

__all__ = ["PerplexityResult", "PowerLaw", "fit_power_law", "perplexity"]
