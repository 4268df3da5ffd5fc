"""Keras models of the GPT family, and its predecessors: LSTM and n-gram models."""

from gpt_keras.models import task_inputs
from gpt_keras.models.causal_lm import CausalLM
from gpt_keras.models.classifier import GPTClassifier, GPTMultipleChoice
from gpt_keras.models.gpt import GPT
from gpt_keras.models.gpt_causal_lm import GPTCausalLM
from gpt_keras.models.lstm import LSTMBackbone
from gpt_keras.models.ngram import NGramLM
from gpt_keras.models.task_model import Classification

__all__ = [
    "GPT",
    "CausalLM",
    "Classification",
    "GPTCausalLM",
    "GPTClassifier",
    "GPTMultipleChoice",
    "LSTMBackbone",
    "NGramLM",
    "task_inputs",
]
