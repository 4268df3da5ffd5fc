"""GPT-1 (Radford et al. 2018): norms after the residual sums, no final norm."""

from gpt_keras.convert.architectures import gpt2
from gpt_keras.convert.architectures.table import HuggingFaceArchitecture
from gpt_keras.convert.name_map import Source

NAMES = gpt2.BLOCKS | {
    "token_embedding": Source("tokens_embed"),
    "position_embedding": Source("positions_embed"),
}

ARCHITECTURE = HuggingFaceArchitecture(
    name="openai-gpt",
    class_name="OpenAIGPTLMHeadModel",
    prefix="transformer.",
    fields=gpt2.FIELDS | {"afn": "activation"},
    # In this architecture, transformers computes "gelu" with the tanh approximation.
    choices={"afn": {"gelu": "gelu_tanh", "relu": "relu"}},
    ours={"dropout": 0.1, "norm_position": "post"},
    names=lambda config: NAMES,
)
