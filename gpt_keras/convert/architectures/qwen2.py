"""Qwen2 (Yang et al. 2024): Llama with query, key and value biases, and windows."""

from gpt_keras.convert.architectures import llama
from gpt_keras.convert.architectures.table import HuggingFaceArchitecture

FIELDS = llama.FIELDS | {"attention_windows": "attention_windows"}

_FULL, _SLIDING = "full_attention", "sliding_attention"


def read(settings):
    """Return the settings with the window settings replaced by `attention_windows`.

    Args:
        settings: The settings in `config.json`; changed in place.

    Raises:
        ValueError: `layer_types` does not have a known type for each layer.
    """
    num_layers = settings.get("num_hidden_layers") or 0
    first, window = settings.pop("max_window_layers", 28), settings.pop("sliding_window", 4096)
    if not settings.pop("use_sliding_window", False):
        window = None
    types = settings.pop("layer_types", None)
    if types is None:
        types = [_SLIDING if window and i >= first else _FULL for i in range(num_layers)]
    windows = {_FULL: None} if window is None else {_FULL: None, _SLIDING: window}
    if len(types) != num_layers or set(types) - windows.keys():
        raise ValueError(
            f"layer_types is {types!r}, which must name {' or '.join(map(repr, windows))} for each "
            f"of {num_layers} layers."
        )
    if _SLIDING in types:
        settings["attention_windows"] = tuple(windows[kind] for kind in types)
    return settings


def write(config):
    """Return the window settings for a config.

    Older versions of transformers read `max_window_layers` instead of `layer_types`.
    """
    windows = [config.attention_window(i) for i in range(config.num_layers)]
    settings = {"layer_types": [_FULL if window is None else _SLIDING for window in windows]}
    if _SLIDING not in settings["layer_types"]:
        return settings | {"use_sliding_window": False, "sliding_window": None}
    first = settings["layer_types"].index(_SLIDING)
    settings |= {"use_sliding_window": True, "sliding_window": windows[first]}
    return settings | {"max_window_layers": first}


ARCHITECTURE = HuggingFaceArchitecture(
    name="qwen2",
    class_name="Qwen2ForCausalLM",
    prefix="model.",
    fields=FIELDS,
    choices=llama.CHOICES,
    ours=llama.OURS | {"use_qkv_bias": True},
    names=lambda config: llama.NAMES,
    read=read,
    write=write,
)
