"""GPT-2 (Radford et al. 2019); many other models have the same `model_type`."""

from gpt_keras.convert.architectures.table import HEAD, HuggingFaceArchitecture
from gpt_keras.convert.name_map import Source

FIELDS = {
    "vocab_size": "vocabulary_size",
    "n_positions": "max_sequence_length",
    "n_layer": "num_layers",
    "n_head": "num_heads",
    "n_embd": "hidden_dim",
    "layer_norm_epsilon": "norm_epsilon",
    "resid_pdrop": "dropout",
    "embd_pdrop": "dropout",
    "attn_pdrop": "dropout",
    "tie_word_embeddings": "tie_embeddings",
}

ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
}

# The projections are `Conv1D` layers, with kernels oriented as in Keras. One tensor contains the
# query, key and value projections.
BLOCKS = {
    "block_{i}/attention_norm": Source("h.{i}.ln_1"),
    "block_{i}/attention/query": Source("h.{i}.attn.c_attn", part=(0, 3)),
    "block_{i}/attention/key": Source("h.{i}.attn.c_attn", part=(1, 3)),
    "block_{i}/attention/value": Source("h.{i}.attn.c_attn", part=(2, 3)),
    "block_{i}/attention/output": Source("h.{i}.attn.c_proj"),
    "block_{i}/feed_forward_norm": Source("h.{i}.ln_2"),
    "block_{i}/feed_forward/up": Source("h.{i}.mlp.c_fc"),
    "block_{i}/feed_forward/down": Source("h.{i}.mlp.c_proj"),
    "token_embedding/reverse_embeddings": Source(HEAD, transpose=True),
}

NAMES = BLOCKS | {
    "token_embedding": Source("wte"),
    "position_embedding": Source("wpe"),
    "final_norm": Source("ln_f"),
}

ARCHITECTURE = HuggingFaceArchitecture(
    name="gpt2",
    class_name="GPT2LMHeadModel",
    prefix="transformer.",
    fields=FIELDS | {"n_inner": "intermediate_dim", "activation_function": "activation"},
    choices={"activation_function": ACTIVATIONS},
    ours={"dropout": 0.1},
    theirs={"scale_attn_weights": True},
    names=lambda config: NAMES,
)
