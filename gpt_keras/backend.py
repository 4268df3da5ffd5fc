"""Which parts need the TensorFlow backend, and the one line that says so."""

import keras


def require_tensorflow(feature: str) -> None:
    """Raise `ValueError` unless Keras runs on TensorFlow.

    Layers and models are `keras.ops` and run on any backend; text in the graph, the compiled
    generation loop and SavedModel are TensorFlow's own.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"{feature} needs the TensorFlow backend, but Keras runs on "
            f"{keras.backend.backend()!r}: set KERAS_BACKEND=tensorflow before importing keras."
        )
