"""A small decoder to train from nothing on one's own text, and what `gpt-keras train` builds.

Its parts were chosen by measurement, see `scripts/recipe_shakespeare.py`: with `gk.training.muon`
it learns more from the same tokens than a GPT-2 of its size does with AdamW.
"""

from typing import Any

from gpt_keras.config import GPTConfig
from gpt_keras.presets.modern import modern_decoder


def nano(hidden_dim: int = 128, **fields: Any) -> GPTConfig:
    """Return a decoder of the Llama type with norms of queries and keys.

    Args:
        hidden_dim: Width of the model. Inside the feed-forward layer it is 8/3 of that, a multiple
            of 16, so that the three matrices have as many weights as two of four times the width.
        **fields: Other fields of `GPTConfig`. Default: those of the preset `nano`.

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
