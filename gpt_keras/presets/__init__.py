"""Named configs, each with its source."""

from gpt_keras.config import GPTConfig
from gpt_keras.presets import gpt2

_PRESETS = {**gpt2.PRESETS}


def names() -> list[str]:
    """Return the names that `get` takes."""
    return list(_PRESETS)


def get(name: str) -> GPTConfig:
    """Return the config of a preset.

    Args:
        name: one of `names()`.

    Returns:
        A `GPTConfig`; its method `replace` makes a variant of it.

    Raises:
        ValueError: there is no preset of that name.

    Example:
        >>> import gpt_keras as gk
        >>> gk.presets.get("gpt2_small").num_layers
        12
    """
    if name not in _PRESETS:
        raise ValueError(f"`name` must be one of {', '.join(_PRESETS)}, got {name!r}.")
    return _PRESETS[name]


__all__ = ["get", "names"]
