"""A small decoder to train from nothing on one's own text, and what `gpt-keras train` builds.

Its parts were chosen by measurement, see `scripts/recipe_shakespeare.py`: with `gk.training.muon`
it learns more from the same tokens than a GPT-2 of its size does with AdamW.
"""

from typing import Any

from gpt_keras.config import GPTConfig
from gpt_keras.presets.modern import modern_decoder


def nano(hidden_dim: int, **fields: Any) -> GPTConfig:
    """Return a decoder of the Llama type with norms of queries and keys.

    Args:
        hidden_dim: width of the model. Inside the feed-forward layer it is 8/3 of that, a multiple
            of 16, so that the three matrices have as many weights as two of four times the width.
        **fields: other fields of `GPTConfig`.

    Example:
        >>> from gpt_keras.presets.nano import nano
        >>> config = nano(128, vocabulary_size=71, max_sequence_length=64, num_layers=4,
        ...               num_heads=4)
        >>> config.intermediate_dim, config.num_parameters
        (336, 788736)
    """
    inner = 16 * max(1, round(hidden_dim / 6))
    common = {"hidden_dim": hidden_dim, "intermediate_dim": inner, "use_qk_norm": True}
    return modern_decoder(**common | fields)


PRESETS = {
    "nano": nano(128, vocabulary_size=4096, max_sequence_length=128, num_layers=4, num_heads=4)
}
