"""Supported architectures of Hugging Face, one table per module."""

from gpt_keras.convert.architectures import (
    gpt2,
    gpt_neo,
    llama,
    mistral,
    mixtral,
    openai_gpt,
    qwen2,
    qwen3,
)
from gpt_keras.convert.architectures.table import HuggingFaceArchitecture

# Writing uses the first architecture that can represent the model.
ARCHITECTURES: dict[str, HuggingFaceArchitecture] = {
    module.ARCHITECTURE.name: module.ARCHITECTURE
    for module in (gpt2, openai_gpt, gpt_neo, llama, qwen2, qwen3, mistral, mixtral)
}

__all__ = ["ARCHITECTURES"]
