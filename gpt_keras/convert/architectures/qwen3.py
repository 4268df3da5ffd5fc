"""Qwen3 (Yang et al. 2025): Qwen2 with query and key norms instead of biases."""

from gpt_keras.convert.architectures import llama, qwen2
from gpt_keras.convert.architectures.table import HuggingFaceArchitecture
from gpt_keras.convert.name_map import Source

NAMES = llama.NAMES | {
    "block_{i}/attention/query_norm": Source("layers.{i}.self_attn.q_norm"),
    "block_{i}/attention/key_norm": Source("layers.{i}.self_attn.k_norm"),
}

ARCHITECTURE = HuggingFaceArchitecture(
    name="qwen3",
    class_name="Qwen3ForCausalLM",
    prefix="model.",
    fields=qwen2.FIELDS | {"attention_bias": "use_bias"},
    choices=llama.CHOICES,
    ours=llama.OURS | {"use_qk_norm": True, "head_dim": 128, "num_key_value_heads": 32},
    names=lambda config: NAMES,
    read=qwen2.read,
    write=qwen2.write,
)
