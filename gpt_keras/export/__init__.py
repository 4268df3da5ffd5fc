"""Models in the forms that other programs run."""

from gpt_keras.export.saved_model import saved_model

__all__ = ["saved_model"]
