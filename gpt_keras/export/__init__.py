"""Export of models to formats that other programs run."""

from gpt_keras.export.servable import saved_model

__all__ = ["saved_model"]
