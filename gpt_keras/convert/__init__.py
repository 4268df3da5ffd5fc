"""Conversion of models from and to other formats."""

import os
import pathlib

import keras

from gpt_keras.config import GPTConfig
from gpt_keras.convert import gguf, hub, huggingface
from gpt_keras.convert.gguf import from_gguf, to_gguf
from gpt_keras.convert.huggingface import (
    from_huggingface,
    is_huggingface_folder,
    to_huggingface,
)
from gpt_keras.convert.keras_hub import from_keras_hub, is_keras_hub_folder
from gpt_keras.convert.nearby import hint
from gpt_keras.convert.openai import from_openai, is_openai_folder
from gpt_keras.convert.pretrained import PRETRAINED, resolve
from gpt_keras.convert.pretrained_vectors import WordVectors, word_vectors
from gpt_keras.gguf_file import is_gguf
from gpt_keras.models import preset_folder
from gpt_keras.models.preset_folder import read_preset


def load(source, dtype=None):
    """Load a model in any supported format; `CausalLM.from_preset` calls this.

    Args:
        source: One of the following:

            - A folder of `save_to_preset`, or a `.keras` file.
            - A Hugging Face folder, with `config.json` and safetensors.
            - `hf://owner/name` or `hf://owner/name@revision`, a folder of one of these two kinds
              on the Hugging Face hub. The default revision is the newest one;
              `gk.convert.pinned` returns its commit.
            - A GGUF file.
            - A folder in the format in which OpenAI released GPT-1 or GPT-2.
            - A folder that keras-hub's `save_to_preset` wrote.
            - The name of a pretrained model, a key of `gk.convert.PRETRAINED`.
        dtype: Dtype policy of the model, such as `"bfloat16"`, which needs half the memory of
            `"float32"`. Default: the policy with which this package saved the model, or the one of
            the keras-hub model. For the other formats it is Keras's global policy.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: `source` does not exist, is damaged, or has an unsupported architecture. Or
            `dtype` is not a floating-point policy, or is given for a quantized model.
        ImportError: A package is missing that reads the format; the `hub` extra installs the
            packages for Hugging Face and GGUF.

    Example:
        >>> import tempfile
        >>> import gpt_keras as gk
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=9)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     gk.convert.to_huggingface(gk.GPTCausalLM(config), folder)
        ...     gk.convert.load(folder).config == config
        True
    """
    if dtype is not None:
        _check_dtype(dtype)
    source = resolve(str(source))
    _check_exists(source)
    path = hub.download(source) if source.startswith(hub.PREFIX) else pathlib.Path(source)
    if is_huggingface_folder(path):
        return from_huggingface(path, dtype)
    if is_gguf(path):
        return from_gguf(path, dtype)
    if is_openai_folder(path):
        return from_openai(path, dtype)
    if is_keras_hub_folder(path):
        return from_keras_hub(path, dtype)
    try:
        return read_preset(path, dtype)
    except ValueError as error:
        raise ValueError(f"{error} {hint(str(path))}".rstrip()) from error


def _check_exists(source):
    if not source.startswith(hub.PREFIX) and not os.path.exists(source):
        raise ValueError(
            f"`source` must be a file, a folder, {hub.PREFIX}owner/name or a name in "
            f"`gk.convert.PRETRAINED`, got {source!r}. {hint(source)}".rstrip()
        )


def _check_dtype(dtype):
    try:
        policy = keras.dtype_policies.get(dtype)
        is_float = keras.backend.is_float_dtype(policy.compute_dtype)
    except (ValueError, TypeError):
        is_float = False
    if not is_float or policy.quantization_mode is not None:
        raise ValueError(
            f"`dtype` must be None or a dtype policy such as 'float32', 'bfloat16' or "
            f"'mixed_bfloat16', got {dtype!r}. (To quantize, call `quantize` of the loaded model.)"
        )


def read_config(path) -> GPTConfig:
    """Return the config of a model in a file or folder, without its weights.

    Args:
        path: A folder of `save_to_preset`, a `.keras` file, a Hugging Face folder, a GGUF file, or
            the `config.json` of one of these folders.

    Returns:
        The `GPTConfig`.

    Raises:
        ValueError: `path` has no config, or its architecture is not supported.
        ImportError: `path` is a GGUF file, and the gguf package is not installed.

    Example:
        >>> import tempfile
        >>> import gpt_keras as gk
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=9)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     gk.convert.to_huggingface(gk.GPTCausalLM(config), folder)
        ...     gk.convert.read_config(folder) == config
        True
    """
    path = pathlib.Path(path)
    folder = path.parent if path.name == huggingface.CONFIG else path
    if is_huggingface_folder(folder):
        return huggingface.read_config(folder)
    if is_gguf(path):
        return gguf.read_config(path)
    return preset_folder.read_config(path)


def pinned(source: str) -> str:
    """Return the name of a model on the hub, pinned to its current commit.

    A branch or a tag can move to another commit. The pinned name always loads the same files.

    Args:
        source: `hf://owner/name[@revision]`, or a key of `gk.convert.PRETRAINED`. The model is
            downloaded, unless it is in Hugging Face's cache.

    Returns:
        `hf://owner/name@commit`, for `gk.convert.load` and `from_preset`.

    Raises:
        ValueError: `source` does not exist, or is not on the hub.
        ImportError: The package huggingface_hub is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> gk.convert.pinned("model.gguf")
        Traceback (most recent call last):
        ...
        ValueError: `source` must be on the hub, hf://owner/name[@revision], got 'model.gguf'.
    """
    found = resolve(str(source))
    if not found.startswith(hub.PREFIX):
        raise ValueError(
            f"`source` must be on the hub, {hub.PREFIX}owner/name[@revision], got {found!r}."
        )
    commit = hub.download(found).name  # Hugging Face's cache has one folder per commit
    return f"{found.partition('@')[0]}@{commit}"


__all__ = [
    "PRETRAINED",
    "WordVectors",
    "from_gguf",
    "from_huggingface",
    "from_keras_hub",
    "from_openai",
    "load",
    "pinned",
    "read_config",
    "to_gguf",
    "to_huggingface",
    "word_vectors",
]
