"""GPT-2 (Radford et al. 2019, table 2); sizes of the released checkpoints."""

from gpt_keras.config import GPTConfig


def _gpt2(num_layers: int, num_heads: int, hidden_dim: int) -> GPTConfig:
    return GPTConfig(
        vocabulary_size=50257,
        max_sequence_length=1024,
        num_layers=num_layers,
        num_heads=num_heads,
        hidden_dim=hidden_dim,
        dropout=0.1,
    )


PRESETS = {
    "gpt2_small": _gpt2(num_layers=12, num_heads=12, hidden_dim=768),
    "gpt2_medium": _gpt2(num_layers=24, num_heads=16, hidden_dim=1024),
    "gpt2_large": _gpt2(num_layers=36, num_heads=20, hidden_dim=1280),
    "gpt2_xl": _gpt2(num_layers=48, num_heads=25, hidden_dim=1600),
}
