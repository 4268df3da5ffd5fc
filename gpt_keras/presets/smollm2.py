"""SmolLM2 (Ben Allal et al. 2025, table 8), with the released configurations."""

from gpt_keras.presets.modern import modern_decoder


def _smollm2(**fields):
    return modern_decoder(vocabulary_size=49152, max_sequence_length=8192, **fields)


PRESETS = {
    "smollm2_135m": _smollm2(
        num_layers=30,
        num_heads=9,
        num_key_value_heads=3,
        hidden_dim=576,
        intermediate_dim=1536,
        rotary_base=100000.0,
    ),
    "smollm2_360m": _smollm2(
        num_layers=32,
        num_heads=15,
        num_key_value_heads=5,
        hidden_dim=960,
        intermediate_dim=2560,
        rotary_base=100000.0,
    ),
    "smollm2_1.7b": _smollm2(
        num_layers=24,
        num_heads=32,
        hidden_dim=2048,
        intermediate_dim=8192,
        rotary_base=130000.0,
    ),
}
