"""What goes on inside a model: arrays out, Keras models in."""

from gpt_keras.interpretation.attention import attention_weights

__all__ = ["attention_weights"]
