"""Llama (Touvron et al. 2023); SmolLM2 and other decoders have the same type."""

from gpt_keras.convert.architectures.table import HEAD, HuggingFaceArchitecture
from gpt_keras.convert.name_map import Source

FIELDS = {
    "vocab_size": "vocabulary_size",
    "max_position_embeddings": "max_sequence_length",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "hidden_size": "hidden_dim",
    "intermediate_size": "intermediate_dim",
    "hidden_act": "activation",
    "rms_norm_eps": "norm_epsilon",
    "rope_theta": "rotary_base",
    "rotary_scaling": "rotary_scaling",
    "attention_dropout": "dropout",
    "tie_word_embeddings": "tie_embeddings",
}

CHOICES = {"hidden_act": {"silu": "swiglu", "swish": "swiglu"}}

OURS = {
    "position_embedding": "rotary",
    "norm": "rms_norm",
    "norm_epsilon": 1e-6,
    "activation": "swiglu",
    "use_bias": False,
    "use_feed_forward_bias": False,
    "tie_embeddings": False,
}

NAMES = {
    "token_embedding": Source("embed_tokens"),
    "block_{i}/attention_norm": Source("layers.{i}.input_layernorm"),
    "block_{i}/attention/query": Source("layers.{i}.self_attn.q_proj", transpose=True),
    "block_{i}/attention/key": Source("layers.{i}.self_attn.k_proj", transpose=True),
    "block_{i}/attention/value": Source("layers.{i}.self_attn.v_proj", transpose=True),
    "block_{i}/attention/output": Source("layers.{i}.self_attn.o_proj", transpose=True),
    "block_{i}/feed_forward_norm": Source("layers.{i}.post_attention_layernorm"),
    "block_{i}/feed_forward/gate": Source("layers.{i}.mlp.gate_proj", transpose=True),
    "block_{i}/feed_forward/up": Source("layers.{i}.mlp.up_proj", transpose=True),
    "block_{i}/feed_forward/down": Source("layers.{i}.mlp.down_proj", transpose=True),
    "final_norm": Source("norm"),
    "token_embedding/reverse_embeddings": Source(HEAD, transpose=True),
}

ARCHITECTURE = HuggingFaceArchitecture(
    name="llama",
    class_name="LlamaForCausalLM",
    prefix="model.",
    fields=FIELDS | {"attention_bias": "use_bias", "mlp_bias": "use_feed_forward_bias"},
    choices=CHOICES,
    ours=OURS,
    names=lambda config: NAMES,
)
