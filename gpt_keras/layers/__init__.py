"""Keras layers of GPT models, independent of tokenizers and of whole models."""

from gpt_keras.layers.attention import CausalMultiHeadAttention
from gpt_keras.layers.feed_forward import FeedForward
from gpt_keras.layers.gru_gate import GRUGate
from gpt_keras.layers.kv_cache import move_cache, write_cache
from gpt_keras.layers.mixture_of_experts import MixtureOfExperts
from gpt_keras.layers.positional_embedding import (
    PositionalEmbedding,
    RotaryEmbedding,
    SinusoidalPositionalEncoding,
)
from gpt_keras.layers.transformer_block import TransformerBlock

__all__ = [
    "CausalMultiHeadAttention",
    "FeedForward",
    "GRUGate",
    "MixtureOfExperts",
    "PositionalEmbedding",
    "RotaryEmbedding",
    "SinusoidalPositionalEncoding",
    "TransformerBlock",
    "move_cache",
    "write_cache",
]
