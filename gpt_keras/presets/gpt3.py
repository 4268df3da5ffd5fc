"""GPT-3 (Brown et al. 2020, table 2.1), whose weights were never released.

Dense and locally banded attention layers alternate. The paper does not state the width of the
bands. It is 256 tokens here, as in GPT-Neo (Black et al. 2021), a public model with this pattern.

In two rows of the table, the number of heads times their width is not the width of the model. Both
rows are copied as printed. "XL" has 24 heads of 128 at a width of 2,048. This makes 1.52 billion
parameters where the table says 1.3 (16 heads would make 1.32). "13B" has 40 heads of 128 at a width
of 5,140, which makes 12.94 billion.
"""

from gpt_keras.config import GPTConfig


def _gpt3(num_layers: int, hidden_dim: int, num_heads: int, head_dim: int) -> GPTConfig:
    return GPTConfig(
        vocabulary_size=50257,
        max_sequence_length=2048,
        num_layers=num_layers,
        num_heads=num_heads,
        hidden_dim=hidden_dim,
        head_dim=head_dim,
        attention_windows=(None, 256),
    )


PRESETS = {
    "gpt3_small": _gpt3(num_layers=12, hidden_dim=768, num_heads=12, head_dim=64),
    "gpt3_medium": _gpt3(num_layers=24, hidden_dim=1024, num_heads=16, head_dim=64),
    "gpt3_large": _gpt3(num_layers=24, hidden_dim=1536, num_heads=16, head_dim=96),
    "gpt3_xl": _gpt3(num_layers=24, hidden_dim=2048, num_heads=24, head_dim=128),
    "gpt3_2.7b": _gpt3(num_layers=32, hidden_dim=2560, num_heads=32, head_dim=80),
    "gpt3_6.7b": _gpt3(num_layers=32, hidden_dim=4096, num_heads=32, head_dim=128),
    "gpt3_13b": _gpt3(num_layers=40, hidden_dim=5140, num_heads=40, head_dim=128),
    "gpt3_175b": _gpt3(num_layers=96, hidden_dim=12288, num_heads=96, head_dim=128),
}
