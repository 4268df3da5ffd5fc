"""Interpretation of models: attention, attribution, ablation, embeddings.

Most functions return NumPy arrays, which `gk.plots` draws. They accept any Keras model with
`gk.layers.TransformerBlock`s: a `GPT`, a `CausalLM`, or your own model.
"""

from gpt_keras.interpretation.ablation import (
    head_ablation,
    head_patching,
    layer_ablation,
    layer_patching,
)
from gpt_keras.interpretation.activations import logit_lens, record, residual_stream, run
from gpt_keras.interpretation.attention import attention_weights, induction_scores
from gpt_keras.interpretation.attribution import (
    gradient_times_input,
    integrated_gradients,
    occlusion,
)
from gpt_keras.interpretation.embeddings import (
    nearest_tokens,
    principal_components,
    token_embeddings,
)
from gpt_keras.interpretation.page import explanation_page

__all__ = [
    "attention_weights",
    "explanation_page",
    "gradient_times_input",
    "head_ablation",
    "head_patching",
    "induction_scores",
    "integrated_gradients",
    "layer_ablation",
    "layer_patching",
    "logit_lens",
    "nearest_tokens",
    "occlusion",
    "principal_components",
    "record",
    "residual_stream",
    "run",
    "token_embeddings",
]
