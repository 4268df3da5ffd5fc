"""A model as a folder that people can read: config.json, tokenizer.json, weights."""

import json
import pathlib
import zipfile

import keras

from gpt_keras import tokenizers
from gpt_keras.atomic import atomic_directory
from gpt_keras.config import GPTConfig
from gpt_keras.version import __version__

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
WEIGHTS = "model.weights.h5"


def write_preset(model, directory) -> None:
    """Write `model`, a `CausalLM`, to `directory`, whole or not at all.

    Raises:
        ValueError: the directory exists and is not empty.
    """
    config = {
        "gpt_keras_version": __version__,
        "model": keras.saving.serialize_keras_object(model),
    }
    # The compile settings belong to a training, not to a model that is handed on.
    config["model"].pop("compile_config", None)
    with atomic_directory(directory) as folder:
        (folder / CONFIG).write_text(
            json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8"
        )
        if model.tokenizer is not None:
            model.tokenizer.save(folder / TOKENIZER)
        model.save_weights(folder / WEIGHTS)


def read_preset(path):
    """Load a model from a folder that `write_preset` wrote, or from a `.keras` file.

    Raises:
        ValueError: a file is missing, cut short, or not what the others say; the message names it.
    """
    path = pathlib.Path(path)
    if path.is_file() and path.suffix == ".keras":
        return _load("is damaged", path, lambda: keras.saving.load_model(path, compile=False))
    missing = [name for name in (CONFIG, WEIGHTS) if not (path / name).is_file()]
    if missing:
        raise ValueError(
            f"{str(path)!r} is neither a .keras file nor a preset folder: "
            f"it lacks {' and '.join(missing)}."
        )
    model = _load(
        "does not describe a model",
        path / CONFIG,
        lambda: keras.saving.deserialize_keras_object(_read_json(path / CONFIG)["model"]),
    )
    if (path / TOKENIZER).exists():
        model.tokenizer = tokenizers.load(path / TOKENIZER)
    _load(
        "is damaged or belongs to another model",
        path / WEIGHTS,
        lambda: model.load_weights(path / WEIGHTS),
    )
    return model


def read_config(path) -> GPTConfig:
    """Read the config alone from a preset folder, a `.keras` file or a JSON file; build no model.

    Raises:
        ValueError: there is no config in it.
    """
    path = pathlib.Path(path)

    def read():
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                content = json.loads(archive.read(CONFIG))
        else:
            content = _read_json(path / CONFIG if path.is_dir() else path)
        return GPTConfig.from_dict(_find_fields(content))

    return _load("holds no GPTConfig", path, read)


def _load(what_failure_means, path, read):
    """Call `read`, and turn the many errors of damaged files into one that names the file."""
    try:
        return read()
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{str(path)!r} {what_failure_means}: {error}") from error


def _read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _find_fields(content):
    """The first mapping inside a serialized model that looks like a `GPTConfig`."""
    if not isinstance(content, dict):
        return None
    if {"vocabulary_size", "num_layers", "hidden_dim"} <= content.keys():
        return content
    return next(filter(None, map(_find_fields, content.values())), None)
