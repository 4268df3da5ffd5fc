"""A model of a few thousand parameters, fast to build, for examples and tests."""

from gpt_keras.presets.modern import modern_decoder

PRESETS = {
    # One id per byte. One key head, so that examples and tests cover grouped-query attention.
    "tiny": modern_decoder(
        vocabulary_size=256,
        max_sequence_length=32,
        num_layers=2,
        num_heads=2,
        num_key_value_heads=1,
        hidden_dim=16,
        intermediate_dim=32,
    ),
}
