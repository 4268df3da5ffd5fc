"""The architectures of Hugging Face that a `GPT` can be: one table each."""

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

# A model is written as the first one that can hold it.
ARCHITECTURES: dict[str, HuggingFaceArchitecture] = {
    module.ARCHITECTURE.name: module.ARCHITECTURE
    for module in (gpt2, openai_gpt, gpt_neo, llama, qwen2, qwen3, mistral, mixtral)
}

__all__ = ["ARCHITECTURES"]
