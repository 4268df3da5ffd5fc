"""Differences between Keras's backends, and between one device and several."""

import keras
import tensorflow as tf


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


def num_replicas() -> int:
    """Return the number of devices among which `tf.distribute` divides a batch."""
    if keras.backend.backend() != "tensorflow":
        return 1
    return tf.distribute.get_strategy().num_replicas_in_sync


class LayersFirst:
    """A functional model whose layers are attributes before `keras.Model` is initialized.

    Stands before `keras.Model` among the bases. PyTorch refuses such an attribute: its modules
    have to be initialized first, and that would forget the attribute again. The layers of a
    functional model are found through its graph, so there they are plain attributes.
    """

    def __setattr__(self, name, value):
        is_early = keras.backend.backend() == "torch" and "_modules" not in self.__dict__
        if is_early and isinstance(value, keras.layers.Layer):
            if not hasattr(self, "_tracker"):
                self._initialize_tracker()  # as Keras does; it fixes the order of the weights
            object.__setattr__(self, name, self._tracker.track(value))
        else:
            super().__setattr__(name, value)
