"""Fields shared by Llama-style decoders (Touvron et al. 2023, section 2.2)."""

from typing import Any

from gpt_keras.config import GPTConfig


def modern_decoder(**fields: Any) -> GPTConfig:
    """Return a config with rotary positions, RMSNorm, SwiGLU and no biases.

    Args:
        **fields: Further fields of `GPTConfig`. They override the four common ones.

    Returns:
        A `GPTConfig`.

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
