"""Optimizers, losses and metrics for `model.fit`."""

from gpt_keras.training.losses import CrossEntropy
from gpt_keras.training.metrics import Perplexity
from gpt_keras.training.optimizers import AdamW, Muon, adamw, muon

__all__ = ["AdamW", "CrossEntropy", "Muon", "Perplexity", "adamw", "muon"]

_MOVED = ("LossWatch", "RunRecord", "SampleText", "TensorBoard", "Throughput")


def __getattr__(name):
    if name in _MOVED:
        raise AttributeError(f"`gk.training.{name}` is now `gk.callbacks.{name}`.")
    raise AttributeError(f"module 'gpt_keras.training' has no attribute {name!r}")
