"""Preset folders: a model as config.json, tokenizer.json and model.weights.h5."""

import json
import pathlib
import tempfile
import zipfile

import keras

from gpt_keras import tokenizers
from gpt_keras.atomic import atomic_directory
from gpt_keras.config import GPTConfig
from gpt_keras.models.tokenizer_config import tokenizer_beside_config
from gpt_keras.tokenizers.tokenizer import FILE_NAME
from gpt_keras.version import __version__

CONFIG = "config.json"
WEIGHTS = "model.weights.h5"

# Keras stores the files of `save_assets` in this folder of the archive.
_ARCHIVED_TOKENIZER = f"assets/{FILE_NAME}"


def write_preset(model, directory) -> None:
    """Write a model to a preset folder, completely or not at all.

    Args:
        model: A `CausalLM` or a task model.
        directory: Folder to write; it is created if needed.

    Raises:
        ValueError: The directory exists and is not empty.
    """
    with tokenizer_beside_config():
        serialized = keras.saving.serialize_keras_object(model)
    config = {"gpt_keras_version": __version__, "model": serialized}
    # Optimizer and loss belong to a training run. A preset is for generation or new training.
    config["model"].pop("compile_config", None)
    with atomic_directory(directory) as folder:
        (folder / CONFIG).write_text(
            json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8"
        )
        if model.tokenizer is not None:
            model.tokenizer.save(folder / FILE_NAME)
        model.save_weights(folder / WEIGHTS)


def read_preset(path, dtype=None):
    """Load a model from a folder of `write_preset`, or from a `.keras` file.

    Args:
        path: The folder or file.
        dtype: Dtype policy of the model; None for the policy that it was saved with.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: A file is missing, truncated, or does not match the others; the message names
            it. Or `dtype` is given, but the model is quantized or its layers have own dtypes.
    """
    path = pathlib.Path(path)
    if path.is_file() and path.suffix == ".keras":
        if dtype is None:
            return _load("is damaged", path, lambda: keras.saving.load_model(path, compile=False))
        config = _load("is damaged", path, lambda: _archived_config(path))
        _set_dtype(config, dtype, path)
        return _load("is damaged", path, lambda: _read_archive(path, config))
    missing = [name for name in (CONFIG, WEIGHTS) if not (path / name).is_file()]
    if missing:
        raise ValueError(
            f"{str(path)!r} is neither a .keras file nor a preset folder: "
            f"it lacks {' and '.join(missing)}."
        )
    meaning = "does not describe a model"
    config = _load(meaning, path / CONFIG, lambda: _read_json(path / CONFIG)["model"])
    if dtype is not None:
        _set_dtype(config, dtype, path)
    model = _load(meaning, path / CONFIG, lambda: keras.saving.deserialize_keras_object(config))
    if (path / FILE_NAME).exists():
        model.tokenizer = tokenizers.load(path / FILE_NAME)
    _load(
        "is damaged or belongs to another model",
        path / WEIGHTS,
        lambda: model.load_weights(path / WEIGHTS),
    )
    return model


def read_config(path) -> GPTConfig:
    """Return the config in a preset folder, without building the model.

    Args:
        path: A preset folder, a `.keras` file or a JSON file.

    Raises:
        ValueError: It contains no `GPTConfig`.
    """
    path = pathlib.Path(path)

    def read():
        if zipfile.is_zipfile(path):
            content = _archived_config(path)
        else:
            content = _read_json(path / CONFIG if path.is_dir() else path)
        return GPTConfig.from_dict(_find_fields(content))

    return _load("holds no GPTConfig", path, read)


def read_serialized(path) -> dict:
    """Return the class and config of a saved model, without building it.

    Args:
        path: A preset folder, or a `.keras` file.

    Returns:
        A dict as of `keras.saving.serialize_keras_object`: `class_name`, `config`, ....

    Raises:
        ValueError: It contains no model.
    """
    path = pathlib.Path(path)

    def read():
        content = _archived_config(path) if zipfile.is_zipfile(path) else _read_json(path / CONFIG)
        content = content.get("model", content)
        if not isinstance(content["config"], dict) or not isinstance(content["class_name"], str):
            raise TypeError("not a serialized model")
        return content

    return _load("holds no model", path, read)


def _load(what_failure_means, path, read):
    """Call `read`, and convert its errors into a `ValueError` that names the file."""
    try:
        return read()
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{str(path)!r} {what_failure_means}: {error}") from error


def _read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _archived_config(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(CONFIG))


def _read_archive(path, config):
    """Load a `.keras` file with a changed config, which Keras itself cannot do."""
    config.pop("compile_config", None)
    model = keras.saving.deserialize_keras_object(config)
    model.load_weights(path)
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        if _ARCHIVED_TOKENIZER in archive.namelist():
            model.tokenizer = tokenizers.load(archive.extract(_ARCHIVED_TOKENIZER, folder))
    return model


def _set_dtype(serialized, dtype, path):
    """Change the dtype policy of a serialized model, or of the backbone inside it."""
    config = serialized.get("config") or {}
    if "dtype" not in config:
        backbone = config.get("backbone") or config.get("model") or {}  # of a task model
        config = backbone.get("config") or {}
    old = config.get("dtype")
    if old is None or (isinstance(old, dict) and old.get("class_name") != "DTypePolicy"):
        why = "has layers with dtypes of their own" if old is None else "is quantized"
        raise ValueError(f"`dtype` must be None: the model in {str(path)!r} {why}.")
    config["dtype"] = keras.dtype_policies.serialize(keras.dtype_policies.get(dtype))


def _find_fields(content):
    """Return the first mapping in a serialized model with the fields of a `GPTConfig`."""
    if not isinstance(content, dict):
        return None
    if {"vocabulary_size", "num_layers", "hidden_dim"} <= content.keys():
        return content
    return next(filter(None, map(_find_fields, content.values())), None)
