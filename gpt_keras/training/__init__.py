"""What `model.fit` needs besides a model and data: optimizers, metrics, callbacks."""

from gpt_keras.training.callbacks import SampleText, Throughput
from gpt_keras.training.metrics import Perplexity
from gpt_keras.training.optimizers import AdamW, adamw

__all__ = ["AdamW", "Perplexity", "SampleText", "Throughput", "adamw"]
