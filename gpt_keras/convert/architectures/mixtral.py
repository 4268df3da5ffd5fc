"""Mixtral (Jiang et al. 2024): Mistral with a mixture of experts in every block."""

from gpt_keras.convert.architectures import llama, mistral
from gpt_keras.convert.architectures.table import HuggingFaceArchitecture
from gpt_keras.convert.name_map import Source

_EXPERT = "layers.{i}.block_sparse_moe.experts.{e}"

NAMES = llama.NAMES | {
    "block_{i}/feed_forward/router": Source("layers.{i}.block_sparse_moe.gate", transpose=True),
    "block_{i}/feed_forward/expert_{e}/gate": Source(f"{_EXPERT}.w1", transpose=True),
    "block_{i}/feed_forward/expert_{e}/down": Source(f"{_EXPERT}.w2", transpose=True),
    "block_{i}/feed_forward/expert_{e}/up": Source(f"{_EXPERT}.w3", transpose=True),
}


def _fused_names(config):
    """Return the names of transformers 5.

    One tensor stacks all experts of a layer; gate and up projections are concatenated.
    """
    names = llama.NAMES | {
        "block_{i}/feed_forward/router": Source("layers.{i}.mlp.gate", transpose=True)
    }
    for e in range(config.num_experts):
        how = {"transpose": True, "entry": e, "num_entries": config.num_experts}
        both, down = "layers.{i}.mlp.experts.gate_up_proj", "layers.{i}.mlp.experts.down_proj"
        expert = f"block_{{i}}/feed_forward/expert_{e}"
        names[f"{expert}/gate/kernel"] = Source(both, part=(0, 2), **how)
        names[f"{expert}/up/kernel"] = Source(both, part=(1, 2), **how)
        names[f"{expert}/down/kernel"] = Source(down, **how)
    return names


ARCHITECTURE = HuggingFaceArchitecture(
    name="mixtral",
    class_name="MixtralForCausalLM",
    prefix="model.",
    fields=mistral.FIELDS
    | {
        "num_local_experts": "num_experts",
        "num_experts_per_tok": "num_experts_per_token",
        "router_aux_loss_coef": "router_loss_weight",
    },
    choices=llama.CHOICES,
    ours=llama.OURS
    | {
        "norm_epsilon": 1e-5,
        "rotary_base": 1e6,
        "num_experts": 8,
        "num_experts_per_token": 2,
        "router_loss_weight": 0.001,
    },
    names=lambda config: NAMES,
    other_names=_fused_names,
    read=mistral.read,
    write=mistral.write,
)
