"""GPT-1 (Radford et al. 2018, "Improving Language Understanding", section 4.1)."""

from gpt_keras.config import GPTConfig

PRESETS = {
    # The released checkpoint has 116,534,784 parameters; the usual name is 117M.
    "gpt1": GPTConfig(
        vocabulary_size=40478,
        max_sequence_length=512,
        num_layers=12,
        num_heads=12,
        hidden_dim=768,
        dropout=0.1,
        norm_position="post",
    ),
}
