"""Text generation with any causal Keras model: decoding strategies and settings."""

from gpt_keras.generation.backbone import Backbone
from gpt_keras.generation.beam_search import BeamSearch
from gpt_keras.generation.context import Context
from gpt_keras.generation.mixin import Continuation
from gpt_keras.generation.processors import PROCESSORS
from gpt_keras.generation.prompt_cache import PromptCache
from gpt_keras.generation.sampling import fold_in
from gpt_keras.generation.speculative import DraftModel, PromptLookup
from gpt_keras.generation.strategies import BestOf, Sampling, Strategy

__all__ = [
    "PROCESSORS",
    "Backbone",
    "BeamSearch",
    "BestOf",
    "Context",
    "Continuation",
    "DraftModel",
    "PromptCache",
    "PromptLookup",
    "Sampling",
    "Strategy",
    "fold_in",
]
