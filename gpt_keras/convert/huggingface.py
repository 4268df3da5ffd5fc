"""Hugging Face folders, with `config.json`, safetensors and a tokenizer."""

import json
import pathlib

from gpt_keras.atomic import atomic_directory
from gpt_keras.config import GPTConfig
from gpt_keras.convert.architecture import first_that_fits
from gpt_keras.convert.architectures import ARCHITECTURES
from gpt_keras.convert.architectures.table import HEAD, HuggingFaceArchitecture
from gpt_keras.convert.model_parts import (
    read_chat_template,
    read_end_token_ids,
    read_tokenizer,
    require_plain_gpt,
    write_tokenizer_files,
)
from gpt_keras.convert.name_map import assign, check_fits, collect, tensor_shapes
from gpt_keras.convert.safetensors_files import SafetensorsFolder, weights_dtype, write_safetensors
from gpt_keras.models import GPTCausalLM
from gpt_keras.models.gpt import random_weights
from gpt_keras.tokenizers.folder_settings import (
    CONFIG,
    GENERATION_CONFIG,
    SPECIAL_TOKENS,
    TOKENIZER_CONFIG,
)

CHAT_TEMPLATE = "chat_template.jinja"

# The special tokens that a chat template can use as variables.
TEMPLATE_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")

# A folder with one of these files has a tokenizer.
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer.model", "spiece.model")
_MAX_SHARD_BYTES = 5 * 10**9


def is_huggingface_folder(path) -> bool:
    """Return whether `path` is a folder with a transformers model's `config.json`."""
    try:
        settings = _read_settings(pathlib.Path(path) / CONFIG)
    except (ValueError, OSError):
        return False
    return not settings.keys().isdisjoint(("model_type", "architectures"))


def from_huggingface(folder, dtype=None) -> GPTCausalLM:
    """Load a model from a Hugging Face folder, as `save_pretrained` writes it.

    The settings and the tensors are checked before the model is built. The weights are then read
    one tensor at a time.

    Args:
        folder: A folder with `config.json` and `model.safetensors`, or shards and their index. To
            take texts, the model also needs the tokenizer's files.
        dtype: Dtype policy of the model, such as `"bfloat16"`. Default: Keras's global policy.

    Returns:
        A `GPTCausalLM`, not compiled, with weights in the dtype of the policy. If the dropout rates
        in `config.json` differ, the model has the largest one. If the tokenizer cannot be read, the
        model has no tokenizer, and a warning gives the reason.

    Raises:
        ValueError: The architecture or a setting is not supported, or the tensors do not fit the
            config. The message lists all such settings or tensors.
        ImportError: The package safetensors is not installed.

    Example:
        >>> import tempfile
        >>> import gpt_keras as gk
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=9)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     gk.convert.to_huggingface(gk.GPTCausalLM(config), folder)
        ...     gk.convert.from_huggingface(folder).config == config
        True
    """
    folder = pathlib.Path(folder)
    settings = _read_settings(folder / CONFIG)
    architecture = _architecture(settings, folder)
    try:
        config = architecture.to_config(settings)
    except ValueError as error:
        raise ValueError(f"{str(folder / CONFIG)!r}: {error}") from error
    tensors = SafetensorsFolder(folder, architecture.prefix)
    sources = architecture.sources_among(config, tensors.shapes())
    if config.tie_embeddings:
        _tie(tensors, sources["token_embedding/embeddings"].name)
    check_fits(config, sources, tensors.shapes(), str(folder))
    tokenizer = None
    if any((folder / name).is_file() for name in _TOKENIZER_FILES):
        tokenizer = read_tokenizer(folder, config.vocabulary_size)
    with random_weights(False):
        model = GPTCausalLM(config, tokenizer=tokenizer, dtype=dtype)
    assign(model.backbone, sources, tensors)
    _read_chat(model, folder)
    ends = _settings_if_there(folder / GENERATION_CONFIG).get("eos_token_id")
    read_end_token_ids(model, settings.get("eos_token_id") if ends is None else ends)
    return model


def _tie(tensors, embedding):
    """Keep one tensor of the tied pair; a file may name it as embedding or as head."""
    if embedding not in tensors.shapes() and HEAD in tensors.shapes():
        tensors.rename(HEAD, embedding)
    tensors.drop(HEAD)


def _read_chat(model, folder):
    config = _settings_if_there(folder / TOKENIZER_CONFIG)
    template = config.get("chat_template")
    if isinstance(template, list):  # several named templates
        template = {entry["name"]: entry["template"] for entry in template}
    if isinstance(template, dict):
        template = template.get("default")
    if (folder / CHAT_TEMPLATE).is_file():
        template = (folder / CHAT_TEMPLATE).read_text(encoding="utf-8")
    others = _settings_if_there(folder / SPECIAL_TOKENS)
    tokens = {name: config.get(name) or others.get(name) for name in TEMPLATE_TOKENS}
    tokens = {name: t["content"] if isinstance(t, dict) else t for name, t in tokens.items() if t}
    read_chat_template(model, template, tokens)


def _settings_if_there(path):
    return _read_settings(path) if path.is_file() else {}


def to_huggingface(model: GPTCausalLM, folder, max_shard_bytes: int = _MAX_SHARD_BYTES) -> None:
    """Write a model to a folder, for transformers' `from_pretrained`.

    The architecture is the first one that can represent the model: GPT-2, GPT-1, GPT-Neo, Llama,
    Qwen2, Qwen3, Mistral, Mixtral. The folder appears complete or not at all.

    Args:
        model: A `CausalLM` whose backbone is a `GPT`, not quantized.
        folder: A new or an empty folder.
        max_shard_bytes: Largest size of a safetensors file; larger models are split into shards.

    Raises:
        ValueError: The folder exists and is not empty, or no architecture can represent the model.
            The message says what does not fit.
        ImportError: The package safetensors is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> import gpt_keras as gk
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=9)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     gk.convert.to_huggingface(gk.GPTCausalLM(config), folder)
        ...     sorted(file.name for file in pathlib.Path(folder).iterdir())
        ['config.json', 'generation_config.json', 'model.safetensors']
    """
    gpt = require_plain_gpt(model, "Hugging Face's architectures")
    architecture = first_that_fits(ARCHITECTURES, gpt.config, "Hugging Face's")
    settings = architecture.to_settings(gpt.config)
    sources = architecture.sources(gpt.config)
    sources = {
        path: source._replace(name=architecture.full_name(source.name))
        for path, source in sources.items()
    }
    dtype = weights_dtype(gpt)
    settings["dtype"] = dtype
    with atomic_directory(folder) as temporary:
        shapes = tensor_shapes(gpt.config, sources)
        write_safetensors(temporary, shapes, dtype, collect(gpt, sources), max_shard_bytes)
        end_of_text = _write_tokenizer(model, temporary)
        settings |= end_of_text
        _write_json(temporary / CONFIG, settings)
        _write_json(temporary / GENERATION_CONFIG, end_of_text)


def _read_settings(path):
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{str(path.parent)!r} is no Hugging Face folder: no {CONFIG}.") from error
    except ValueError as error:  # not JSON or not UTF-8
        raise ValueError(f"{str(path)!r} is damaged: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{str(path)!r} must hold an object, not a {type(settings).__name__}.")
    return settings


def _architecture(settings, folder) -> HuggingFaceArchitecture:
    names = {architecture.class_name: architecture for architecture in ARCHITECTURES.values()}
    listed = settings.get("architectures") or []
    found = ARCHITECTURES.get(settings.get("model_type"))
    if found is None and "model_type" not in settings:
        found = next((names[name] for name in listed if name in names), None)
    if found is None:
        raise ValueError(
            f"{str(folder)!r} has the architecture {settings.get('model_type', listed)!r}; "
            f"supported are {', '.join(ARCHITECTURES)}."
        )
    return found


def _write_tokenizer(model, folder):
    """Write tokenizer and chat template; return the settings of special token ids."""
    if model.chat_template:
        (folder / CHAT_TEMPLATE).write_text(model.chat_template, encoding="utf-8")
    ends = list(model.end_token_ids)
    end = ends[0] if len(ends) == 1 else ends or None
    tokenizer = model.tokenizer
    if tokenizer is None:
        return {"bos_token_id": None, "eos_token_id": end}
    config = write_tokenizer_files(tokenizer, folder)
    if config is not None:
        config["model_max_length"] = model.max_sequence_length
        _write_json(folder / TOKENIZER_CONFIG, config)
    return {"bos_token_id": tokenizer.start_of_text_id, "eos_token_id": end}


def _write_json(path, content):
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_config(folder) -> GPTConfig:
    """Return the config of the model in a Hugging Face folder, from `config.json`.

    Args:
        folder: The folder.

    Returns:
        A `GPTConfig`.

    Raises:
        ValueError: The architecture or a setting is not supported.
    """
    path = pathlib.Path(folder) / CONFIG
    settings = _read_settings(path)
    try:
        return _architecture(settings, folder).to_config(settings)
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from error
