"""Keras models of the GPT family."""

from gpt_keras.models.causal_lm import CausalLM, GPTCausalLM
from gpt_keras.models.gpt import GPT

__all__ = ["GPT", "CausalLM", "GPTCausalLM"]
