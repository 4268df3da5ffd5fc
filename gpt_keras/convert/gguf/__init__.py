"""GGUF files, the format of llama.cpp, read and written."""

from gpt_keras.convert.gguf.models import from_gguf, to_gguf

__all__ = ["from_gguf", "to_gguf"]
