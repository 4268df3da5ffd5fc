"""The GPT family for Keras: layers, models, training, generation and export."""

from gpt_keras import (
    datasets,
    export,
    generation,
    layers,
    models,
    presets,
    tokenizers,
    training,
)
from gpt_keras.config import GPTConfig
from gpt_keras.models import GPT, CausalLM, GPTCausalLM
from gpt_keras.version import __version__

__all__ = [
    "GPT",
    "CausalLM",
    "GPTCausalLM",
    "GPTConfig",
    "__version__",
    "datasets",
    "export",
    "generation",
    "layers",
    "models",
    "presets",
    "tokenizers",
    "training",
]
