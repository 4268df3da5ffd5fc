"""How good a model is.

The function `perplexity` hides the module of the same name, on purpose:
`gpt_keras.evaluation.perplexity(...)` is the call.
"""

from gpt_keras.evaluation.perplexity import PerplexityResult, perplexity
from gpt_keras.evaluation.scaling_law import PowerLaw, fit_power_law

__all__ = ["PerplexityResult", "PowerLaw", "fit_power_law", "perplexity"]
