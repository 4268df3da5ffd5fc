"""Qwen2 (Yang et al. 2024): Llama with biases on queries, keys and values."""

from gpt_keras.convert.architecture import Architecture
from gpt_keras.convert.architectures import llama


def _read(settings):
    # Windows that are switched off leave their settings behind.
    settings.pop("max_window_layers", None)
    if not settings.get("use_sliding_window"):
        settings.pop("sliding_window", None)
    if set(settings.get("layer_types") or ()) <= {"full_attention"}:
        settings.pop("layer_types", None)
    return settings


ARCHITECTURE = Architecture(
    model_type="qwen2",
    class_name="Qwen2ForCausalLM",
    prefix="model.",
    fields=llama.FIELDS,
    choices=llama.CHOICES,
    ours=llama.OURS | {"use_qkv_bias": True},
    names=lambda config: llama.NAMES,
    read=_read,
)
