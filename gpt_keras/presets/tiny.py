"""A model of a few thousand parameters, for examples and tests: it is made at once."""

from gpt_keras.presets.modern import modern_decoder

PRESETS = {
    # One id for each byte; grouped-query attention, so that all that modern decoders have is in it.
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
