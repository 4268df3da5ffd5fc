"""Export of models for serving without gpt_keras."""

from gpt_keras.export.servable import saved_model

__all__ = ["saved_model"]
