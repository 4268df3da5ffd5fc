"""Qwen2 (Yang et al. 2024, table 1), with query, key and value biases."""

from gpt_keras.presets.modern import modern_decoder


def _qwen2(**fields):
    return modern_decoder(
        vocabulary_size=151936,
        max_sequence_length=32768,
        num_key_value_heads=2,
        rotary_base=1000000.0,
        norm_epsilon=1e-6,
        use_qkv_bias=True,
        **fields,
    )


PRESETS = {
    "qwen2_0.5b": _qwen2(num_layers=24, num_heads=14, hidden_dim=896, intermediate_dim=4864),
    "qwen2_1.5b": _qwen2(num_layers=28, num_heads=12, hidden_dim=1536, intermediate_dim=8960),
}
