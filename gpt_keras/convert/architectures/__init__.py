"""The architectures of Hugging Face that a `GPT` can be: one table each."""

from gpt_keras.convert.architecture import Architecture
from gpt_keras.convert.architectures import (
    gpt2,
    gpt_neo,
    llama,
    mistral,
    mixtral,
    openai_gpt,
    qwen2,
)

# A model is written as the first one that can hold it.
ARCHITECTURES: dict[str, Architecture] = {
    module.ARCHITECTURE.model_type: module.ARCHITECTURE
    for module in (gpt2, openai_gpt, gpt_neo, llama, qwen2, mistral, mixtral)
}

__all__ = ["ARCHITECTURES"]
