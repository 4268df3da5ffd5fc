"""A model as a folder that people can read: config.json, tokenizer.json, weights."""

import json
import pathlib

import keras

from gpt_keras import tokenizers
from gpt_keras.atomic import atomic_directory
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


def read_preset(directory):
    """Load a model from a folder that `write_preset` wrote.

    Raises:
        ValueError: a file is missing, cut short, or not what the others say; the message names it.
    """
    folder = pathlib.Path(directory)
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{str(folder)!r} is not a preset folder: it lacks {' and '.join(missing)}."
        )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["model"]
        model = keras.saving.deserialize_keras_object(config)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(folder / CONFIG)!r} does not describe a model: {error}") from error
    if (folder / TOKENIZER).exists():
        model.tokenizer = tokenizers.load(folder / TOKENIZER)
    try:
        model.load_weights(folder / WEIGHTS)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{str(folder / WEIGHTS)!r} is damaged or belongs to another model: {error}"
        ) from error
    return model
