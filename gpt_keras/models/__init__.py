"""Keras models of the GPT family."""

from gpt_keras.models.causal_lm import CausalLM
from gpt_keras.models.gpt import GPT
from gpt_keras.models.gpt_causal_lm import GPTCausalLM

__all__ = ["GPT", "CausalLM", "GPTCausalLM"]
