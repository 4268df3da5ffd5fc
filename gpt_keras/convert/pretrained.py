"""Names of pretrained models, and where they are published."""

import pathlib

from gpt_keras.cache import default_cache_dir

# Where each is published: on the Hugging Face hub. No commits are named, so the newest one is
# loaded; `gk.convert.pinned` tells which that is.
PRETRAINED = {
    "gpt1": "hf://openai-community/openai-gpt",
    "gpt2_small": "hf://openai-community/gpt2",
    "gpt2_medium": "hf://openai-community/gpt2-medium",
    "gpt2_large": "hf://openai-community/gpt2-large",
    "gpt2_xl": "hf://openai-community/gpt2-xl",
    "smollm2_135m": "hf://HuggingFaceTB/SmolLM2-135M",
    "smollm2_135m_instruct": "hf://HuggingFaceTB/SmolLM2-135M-Instruct",
    "smollm2_360m": "hf://HuggingFaceTB/SmolLM2-360M",
    "smollm2_360m_instruct": "hf://HuggingFaceTB/SmolLM2-360M-Instruct",
    "smollm2_1.7b": "hf://HuggingFaceTB/SmolLM2-1.7B",
    "smollm2_1.7b_instruct": "hf://HuggingFaceTB/SmolLM2-1.7B-Instruct",
    "qwen2_0.5b": "hf://Qwen/Qwen2-0.5B",
    "qwen2_1.5b": "hf://Qwen/Qwen2-1.5B",
}


def cached_file(name: str) -> pathlib.Path:
    """Return where a GGUF file of a named model is looked for before the hub is asked."""
    return default_cache_dir() / "models" / f"{name}.gguf"


def resolve(source: str) -> str:
    """Return where a named model is found; what is no name is returned as it is.

    A GGUF file at `cached_file(name)` comes before the hub, so that a model may be had without it.
    A file or folder of that name in the working directory comes before both.

    Example:
        >>> from gpt_keras.convert.pretrained import resolve
        >>> resolve("gpt2_medium"), resolve("my_folder")
        ('hf://openai-community/gpt2-medium', 'my_folder')
    """
    if source not in PRETRAINED or pathlib.Path(source).exists():
        return source
    file = cached_file(source)
    return str(file) if file.exists() else PRETRAINED[source]
