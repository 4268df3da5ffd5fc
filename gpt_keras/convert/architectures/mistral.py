"""Mistral (Jiang et al. 2023): Llama with sliding-window attention in every layer."""

from gpt_keras.convert.architectures import llama
from gpt_keras.convert.architectures.table import HuggingFaceArchitecture

FIELDS = llama.FIELDS | {"attention_windows": "attention_windows"}


def read(settings):
    """Return the settings with `sliding_window` replaced by `attention_windows`."""
    if "sliding_window" in settings:
        window = settings.pop("sliding_window")
        settings["attention_windows"] = None if window is None else (window,)
    return settings


def write(config):
    """Return the setting `sliding_window`."""
    return {"sliding_window": config.attention_window(0)}


ARCHITECTURE = HuggingFaceArchitecture(
    name="mistral",
    class_name="MistralForCausalLM",
    prefix="model.",
    fields=FIELDS,
    choices=llama.CHOICES,
    ours=llama.OURS | {"attention_windows": (4096,)},
    names=lambda config: llama.NAMES,
    read=read,
    write=write,
)
