"""A small decoder to train from scratch; `gpt-keras train` builds it by default.

Its parts were chosen by measurement, in `scripts/recipe_shakespeare.py`. Trained with
`gk.training.muon` on the same tokens, it learns more than a GPT-2 of its size with AdamW.
"""

from typing import Any

from gpt_keras.config import GPTConfig
from gpt_keras.presets.modern import modern_decoder


def nano(hidden_dim: int = 128, **fields: Any) -> GPTConfig:
    """Return the config of a Llama-style decoder with query and key norms.

    Args:
        hidden_dim: Width of the model. The inner width of the feed-forward layer is about 8/3 of
            it, rounded to a multiple of 16. So the three matrices of SwiGLU have as many weights
            as two matrices with an inner width of `4 * hidden_dim`.
        **fields: Other fields of `GPTConfig`. Default: the fields of the preset `nano`.

    Returns:
        A `GPTConfig`.

    Example:
        >>> from gpt_keras.presets.nano import nano
        >>> config = nano(vocabulary_size=71, max_sequence_length=64)
        >>> config.intermediate_dim, config.num_parameters
        (336, 788736)
    """
    common = {
        "vocabulary_size": 4096,
        "max_sequence_length": 128,
        "num_layers": 4,
        "num_heads": 4,
        "hidden_dim": hidden_dim,
        "intermediate_dim": 16 * max(1, round(hidden_dim / 6)),
        "use_qk_norm": True,
    }
    return modern_decoder(**common | fields)


PRESETS = {"nano": nano()}
