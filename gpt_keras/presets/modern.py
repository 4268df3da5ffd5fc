"""Fields that decoders of the Llama type share (Touvron et al. 2023, section 2.2)."""

from typing import Any

from gpt_keras.config import GPTConfig


def modern_decoder(**fields: Any) -> GPTConfig:
    """Return a config with rotary positions, RMSNorm, SwiGLU and no biases.

    Args:
        **fields: The fields of `GPTConfig` that differ from model to model.

    Example:
        >>> from gpt_keras.presets.modern import modern_decoder
        >>> config = modern_decoder(vocabulary_size=100, max_sequence_length=64, num_layers=2,
        ...                         num_heads=4, num_key_value_heads=2, hidden_dim=16)
        >>> config.norm, config.activation
        ('rms_norm', 'swiglu')
    """
    common = {
        "position_embedding": "rotary",
        "norm": "rms_norm",
        "activation": "swiglu",
        "use_bias": False,
    }
    return GPTConfig(**common | fields)
