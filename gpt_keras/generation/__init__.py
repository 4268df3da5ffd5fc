"""Generating token ids with any backbone that has the cache protocol; knows nothing of text."""

from gpt_keras.generation.beam_search import BeamSearch
from gpt_keras.generation.generator import Generator, settings_specs
from gpt_keras.generation.kv_cache import bucket_lengths, move_cache, write_cache
from gpt_keras.generation.processors import PROCESSORS
from gpt_keras.generation.prompt_cache import PromptCache
from gpt_keras.generation.runner import CHUNKS, Runner
from gpt_keras.generation.sampling import fold_in, row_seeds
from gpt_keras.generation.speculative import DraftModel, PromptLookup
from gpt_keras.generation.state import Request
from gpt_keras.generation.stopping import Rules
from gpt_keras.generation.strategies import BestOf, Sampling

__all__ = [
    "CHUNKS",
    "PROCESSORS",
    "BeamSearch",
    "BestOf",
    "DraftModel",
    "Generator",
    "PromptCache",
    "PromptLookup",
    "Request",
    "Rules",
    "Runner",
    "Sampling",
    "bucket_lengths",
    "fold_in",
    "move_cache",
    "row_seeds",
    "settings_specs",
    "write_cache",
]
