"""GGUF files, the format of llama.cpp, read and written."""

from gpt_keras.convert.gguf.models import from_gguf, read_config, to_gguf

__all__ = ["from_gguf", "read_config", "to_gguf"]
