"""Named configs of published models and small models, each with its source."""

from gpt_keras.config import GPTConfig
from gpt_keras.presets import (
    gpt1,
    gpt2,
    gpt3,
    gpt4,
    llama,
    mistral,
    nano,
    qwen2,
    smollm2,
    tiny,
)

_FAMILIES = (tiny, nano, gpt1, gpt2, gpt3, gpt4, llama, smollm2, qwen2, mistral)
_PRESETS = {name: config for family in _FAMILIES for name, config in family.PRESETS.items()}


def get(name: str) -> GPTConfig:
    """Return the config of a preset; it has no weights.

    Args:
        name: One of `names()`.

    Returns:
        A `GPTConfig`. Its method `replace` makes a variant.

    Raises:
        ValueError: `name` is not the name of a preset.

    Example:
        >>> import gpt_keras as gk
        >>> gk.presets.get("gpt2_small").num_layers
        12
    """
    if name not in _PRESETS:
        raise ValueError(f"`name` must be one of {', '.join(_PRESETS)}, got {name!r}.")
    return _PRESETS[name]


def table() -> str:
    r"""Return a Markdown table of all presets, with their sizes and parameter counts.

    Returns:
        The text of the table, computed from the configs.

    Example:
        >>> import gpt_keras as gk
        >>> print(*gk.presets.table().splitlines()[:4], sep="\n")
        | preset | layers | width | heads | context | vocabulary | parameters |
        |---|--:|--:|--:|--:|--:|--:|
        | `tiny` | 2 | 16 | 2 (1 for keys) | 32 | 256 | 8,784 |
        | `nano` | 4 | 128 | 4 | 128 | 4,096 | 1,303,936 |
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


def names() -> list[str]:
    """Return the names of all presets, for `get`.

    Returns:
        A list of names, grouped by family.

    Example:
        >>> import gpt_keras as gk
        >>> gk.presets.names()[:3]
        ['tiny', 'nano', 'gpt1']
    """
    return [*_PRESETS]


def __getattr__(name):
    if name == "list":
        raise AttributeError("`gk.presets.list` is now `gk.presets.names`.")
    raise AttributeError(f"module 'gpt_keras.presets' has no attribute {name!r}")


__all__ = ["get", "names", "table"]
