"""Saved task models and adapters: loading and describing them."""

import collections
import json
import pathlib
from collections.abc import Iterable
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
    """Load a task model; the error for another model names `gpt-keras finetune`."""
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


def describe_task(source: str) -> dict[str, str]:
    """Return rows of text about the task and the adapters of a saved model.

    Args:
        source: As in `serialized`. There are no rows for a language model without adapters.
    """
    found = serialized(source)
    rows = {}
    if found is None:
        return rows
    config = found["config"]
    if found["class_name"] in TASKS:
        rows["task"] = f"{found['class_name']}, {config.get('layout', 'multiple choice')}"
        if config.get("num_classes"):
            names = config.get("class_names") or range(config["num_classes"])
            rows["classes"] = f"{config['num_classes']:,}: {_short(names)}"
        rows["pooling"] = config.get("pooling", "extract")
        if config.get("max_sequence_length"):
            rows["longest text"] = f"{config['max_sequence_length']:,} tokens"
    adapters = config.get("lora") or {}
    if adapters:
        ranks = sorted({adapter["rank"] for adapter in adapters.values()})
        rows["adapters"] = f"LoRA of rank {' or '.join(map(str, ranks))} in {counted(adapters)}"
    return rows


def describe_adapter(source: str) -> dict[str, str] | None:
    """Return rows of text about the folder of a LoRA adapter; None if it is none.

    Args:
        source: A path.
    """
    from gpt_keras.convert.peft import CONFIG, HEAD

    path = pathlib.Path(source) / CONFIG
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        rank, alpha, targets = (config[name] for name in ("r", "lora_alpha", "target_modules"))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} does not describe a LoRA adapter: {error!r}.") from error
    patterns = (config.get("rank_pattern") or {}).values()
    ranks = sorted({rank, *patterns})
    head = (path.parent / HEAD).is_file()
    return {
        "adapter": f"LoRA of rank {' or '.join(map(str, ranks))}, lora_alpha {alpha:g}",
        "layers": targets if isinstance(targets, str) else f"{len(targets)}: {_short(targets)}",
        "base model": config.get("base_model_name_or_path") or "not named",
        "head": "of a task model" if head else None,
        "to use it": f"gpt-keras generate MODEL ... --adapter {source}" if not head else None,
    }


def counted(paths: Iterable[str]) -> str:
    """Return the names of layers with their numbers, such as "2 query, 2 value, head".

    Args:
        paths: Paths of the layers.
    """
    counts = collections.Counter(path.split("/")[-1] for path in paths)
    return ", ".join(f"{count} {name}" if count > 1 else name for name, count in counts.items())


def _short(names: Iterable) -> str:
    """Return the first names, separated by commas."""
    names = [str(name) for name in names]
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
