"""Named configs, each with its source."""

from collections.abc import Sequence

from gpt_keras.config import GPTConfig
from gpt_keras.presets import gpt1, gpt2, gpt3, gpt4, llama, mistral, nano, qwen2, smollm2

_FAMILIES = (nano, gpt1, gpt2, gpt3, gpt4, llama, smollm2, qwen2, mistral)
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


def table() -> str:
    r"""Return all presets as a table in Markdown, counted from the configs themselves.

    Example:
        >>> import gpt_keras as gk
        >>> print(*gk.presets.table().splitlines()[:4], sep="\n")
        | preset | layers | width | heads | context | vocabulary | parameters |
        |---|--:|--:|--:|--:|--:|--:|
        | `nano` | 4 | 128 | 4 | 128 | 4,096 | 1,303,936 |
        | `gpt1` | 12 | 768 | 12 | 512 | 40,478 | 116,534,784 |
    """
    lines = [
        "| preset | layers | width | heads | context | vocabulary | parameters |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, config in _PRESETS.items():
        heads = f"{config.num_heads}"
        if config.num_key_value_heads != config.num_heads:
            heads += f" ({config.num_key_value_heads} for keys)"
        lines.append(
            f"| `{name}` | {config.num_layers} | {config.hidden_dim:,} | {heads} | "
            f"{config.max_sequence_length:,} | {config.vocabulary_size:,} | "
            f"{config.num_parameters:,} |"
        )
    return "\n".join(lines)


def list() -> Sequence[str]:  # the last one here: from now on it hides Python's own
    """Return the names that `get` takes.

    Example:
        >>> import gpt_keras as gk
        >>> gk.presets.list()[:3]
        ['nano', 'gpt1', 'gpt2_small']
    """
    return [*_PRESETS]


__all__ = ["get", "list", "table"]
