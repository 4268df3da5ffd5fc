"""Generating token ids with any backbone that has the cache protocol; knows nothing of text."""

from gpt_keras.generation.generator import Generator
from gpt_keras.generation.kv_cache import write_cache
from gpt_keras.generation.sampling import fold_in, row_seeds

__all__ = ["Generator", "fold_in", "row_seeds", "write_cache"]
