"""The GPT family for Keras: layers, models, training, generation and export."""

import importlib

from gpt_keras import (
    callbacks,
    chat,
    convert,
    datasets,
    evaluation,
    export,
    finetuning,
    generation,
    interpretation,
    layers,
    models,
    presets,
    records,
    tokenizers,
    training,
)
from gpt_keras.config import GPTConfig
from gpt_keras.generation import Backbone
from gpt_keras.models import (
    GPT,
    CausalLM,
    GPTCausalLM,
    GPTClassifier,
    GPTMultipleChoice,
    LSTMBackbone,
    NGramLM,
)
from gpt_keras.version import __version__

__all__ = [
    "GPT",
    "Backbone",
    "CausalLM",
    "GPTCausalLM",
    "GPTClassifier",
    "GPTConfig",
    "GPTMultipleChoice",
    "LSTMBackbone",
    "NGramLM",
    "__version__",
    "callbacks",
    "chat",
    "convert",
    "datasets",
    "evaluation",
    "export",
    "finetuning",
    "generation",
    "interpretation",
    "layers",
    "models",
    "plots",
    "presets",
    "records",
    "tokenizers",
    "training",
]


def __getattr__(name):
    if name == "plots":  # imports matplotlib, which training and serving do not need
        return importlib.import_module("gpt_keras.plots")
    raise AttributeError(f"module 'gpt_keras' has no attribute {name!r}")
