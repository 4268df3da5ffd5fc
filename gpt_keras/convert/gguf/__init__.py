"""Reading and writing of GGUF files, the format of llama.cpp."""

from gpt_keras.convert.gguf.models import from_gguf, read_config, to_gguf

__all__ = ["from_gguf", "read_config", "to_gguf"]
