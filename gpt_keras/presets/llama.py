"""Llama 2 and Llama 3.

Llama 2: Touvron et al. 2023, table 1. Llama 3: Grattafiori et al. 2024, table 3.
"""

from gpt_keras.presets.modern import modern_decoder

PRESETS = {
    "llama2_7b": modern_decoder(
        vocabulary_size=32000,
        max_sequence_length=4096,
        num_layers=32,
        num_heads=32,
        hidden_dim=4096,
        intermediate_dim=11008,
        tie_embeddings=False,
    ),
    "llama3_8b": modern_decoder(
        vocabulary_size=128256,
        max_sequence_length=8192,
        num_layers=32,
        num_heads=32,
        num_key_value_heads=8,
        hidden_dim=4096,
        intermediate_dim=14336,
        rotary_base=500000.0,
        tie_embeddings=False,
    ),
}
