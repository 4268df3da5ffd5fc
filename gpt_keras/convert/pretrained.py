"""Names of pretrained models, and their repositories on the Hugging Face hub."""

import pathlib

from gpt_keras.cache import default_cache_dir

# Repositories on the Hugging Face hub, without a commit: the newest one is loaded.
# `gk.convert.pinned` returns its name.
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
    """Return the path of a GGUF file that replaces the download of a pretrained model."""
    return default_cache_dir() / "models" / f"{name}.gguf"


def resolve(source: str) -> str:
    """Return the file or repository of a pretrained model; other sources unchanged.

    The search order for a name of `PRETRAINED` is: a file or folder of this name in the working
    directory, the GGUF file `cached_file(name)`, the hub. With the GGUF file, the model loads
    without a network.

    Args:
        source: A name of `PRETRAINED`, or any other source of a model.

    Returns:
        A path or an `hf://` name.

    Example:
        >>> from gpt_keras.convert.pretrained import resolve
        >>> resolve("gpt2_medium"), resolve("my_folder")
        ('hf://openai-community/gpt2-medium', 'my_folder')
    """
    if source not in PRETRAINED or pathlib.Path(source).exists():
        return source
    file = cached_file(source)
    return str(file) if file.exists() else PRETRAINED[source]
