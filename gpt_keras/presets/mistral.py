"""Mistral 7B and Mixtral 8x7B.

Mistral 7B: Jiang et al. 2023, table 1. Mixtral 8x7B: Jiang et al. 2024, table 1.
"""

from gpt_keras.presets.modern import modern_decoder


def _mistral(**fields):
    return modern_decoder(
        vocabulary_size=32000,
        max_sequence_length=32768,
        num_layers=32,
        num_heads=32,
        num_key_value_heads=8,
        hidden_dim=4096,
        intermediate_dim=14336,
        tie_embeddings=False,
        **fields,
    )


PRESETS = {
    "mistral_7b": _mistral(attention_windows=(4096,)),
    "mixtral_8x7b": _mistral(num_experts=8, num_experts_per_token=2, rotary_base=1000000.0),
}
