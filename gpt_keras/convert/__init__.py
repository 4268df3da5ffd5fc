"""Models in other formats, read and written."""

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
    """Load a model from any form that is known; `CausalLM.from_preset` calls this.

    Args:
        source: A folder that `save_to_preset` wrote, a `.keras` file, a Hugging Face folder, or
            `hf://owner/name[@revision]` for either kind of folder on the Hugging Face hub; a GGUF
            file; a folder as OpenAI released GPT-1 or GPT-2, or as keras-hub writes one; or the
            name of a pretrained model, one of `gk.convert.PRETRAINED`. On the hub the newest
            revision is taken unless one is named; `gk.convert.pinned` tells which.
        dtype: Dtype policy of the model, such as `"bfloat16"`, whose weights take half the memory
            of `"float32"`. Default: the one that the model was saved with; of files from elsewhere,
            whose weights are read in any dtype, Keras's global policy.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: There is no such model, it is damaged, or it cannot be read; or `dtype` is no
            policy for floats, or is given for a model that is quantized.
        ImportError: A package of the `hub` extra is missing.

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
    """Read the shape of a model from a file or folder, without reading or making its weights.

    Args:
        path: A folder that `save_to_preset` wrote, a `.keras` file, a Hugging Face folder, a GGUF
            file, or a `config.json` of any of these folders.

    Returns:
        The `GPTConfig`.

    Raises:
        ValueError: There is no config in it, or its architecture is not known.
        ImportError: A package that reads GGUF is missing.

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
    """Return the name of a model on the hub with the commit that it has now, to load it again.

    What a branch or a tag stands for may change; a commit never does.

    Args:
        source: `hf://owner/name[@revision]`, or a name of `gk.convert.PRETRAINED`. The model is
            downloaded, unless it is in Hugging Face's cache.

    Returns:
        `hf://owner/name@commit`, which `gk.convert.load` and `from_preset` take.

    Raises:
        ValueError: There is no such model, or it is not on the hub.
        ImportError: huggingface_hub is not installed.

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
    commit = hub.download(found).name  # the cache names its folders so
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
