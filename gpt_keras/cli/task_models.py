"""Saved task models: which class a folder holds, and loading it."""

from typing import Any

from .package import gk

TASKS = ("GPTClassifier", "GPTMultipleChoice")


def serialized(source: str) -> dict[str, Any] | None:
    """Return class and config of a saved model, without building it.

    Args:
        source: A preset folder or a `.keras` file. For any other source, the result is None.
    """
    from gpt_keras.models.preset_folder import read_serialized

    try:
        return read_serialized(source)
    except ValueError:
        return None


def check_no_task(source: str) -> None:
    """Check that a source is not a task model: its head would be lost."""
    found = serialized(source)
    if found and found["class_name"] in TASKS:
        raise ValueError(
            f"`model` must be a language model, but {source!r} holds a {found['class_name']}, "
            "which is fine-tuned already."
        )


def load_task(source: str):
    """Load a task model, and raise an error that names the command for any other model."""
    found = serialized(source)
    if found and found["class_name"] not in TASKS:
        raise ValueError(
            f"`model` must be a classifier, but {source!r} holds a {found['class_name']}. "
            f"gpt-keras finetune makes a classifier of it."
        )
    model = gk.convert.load(source)
    if type(model).__name__ not in TASKS:
        raise ValueError(
            f"`model` must be a classifier, but {source!r} holds a {type(model).__name__}. "
            f"gpt-keras finetune makes a classifier of it."
        )
    return model
