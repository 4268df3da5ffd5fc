"""Large modern decoders in place of GPT-4, whose architecture is unpublished.

GPT-4's report (OpenAI 2023, section 2) gives "no further details about the architecture (including
model size)". These presets have the parts of modern open decoders: rotary positions, RMSNorm,
SwiGLU and grouped-query attention. One is dense, one is a mixture of experts. Their size, 130
billion parameters, is a free choice, not an estimate. Only the vocabulary size is known to be
GPT-4's: that of its public tokenizer (cl100k, 100,277 ids).
"""

from gpt_keras.presets.modern import modern_decoder


def _gpt4(**fields):
    return modern_decoder(
        vocabulary_size=100277,
        max_sequence_length=8192,
        num_key_value_heads=8,
        rotary_base=500000.0,
        tie_embeddings=False,
        **fields,
    )


PRESETS = {
    "gpt4_class": _gpt4(num_layers=80, num_heads=96, hidden_dim=12288, intermediate_dim=34304),
    "gpt4_class_moe": _gpt4(
        num_layers=52,
        num_heads=48,
        hidden_dim=6144,
        intermediate_dim=16192,
        num_experts=8,
        num_experts_per_token=2,
    ),
}
