"""Named configs, each with its source."""

from collections.abc import Sequence

from gpt_keras.config import GPTConfig
from gpt_keras.presets import gpt1, gpt2, gpt3, gpt4, llama, mistral, qwen2, smollm2

_FAMILIES = (gpt1, gpt2, gpt3, gpt4, llama, smollm2, qwen2, mistral)
_PRESETS = {name: config for family in _FAMILIES for name, config in family.PRESETS.items()}


def get(name: str) -> GPTConfig:
    """Return the config of a preset.

    Args:
        name: one of `list()`.

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


def list() -> Sequence[str]:  # the last one here: from now on it hides Python's own
    """Return the names that `get` takes.

    Example:
        >>> import gpt_keras as gk
        >>> gk.presets.list()[:3]
        ['gpt1', 'gpt2_small', 'gpt2_medium']
    """
    return [*_PRESETS]


__all__ = ["get", "list"]
