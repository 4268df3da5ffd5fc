"""Differences between Keras backends, and the number of devices."""

import keras
import tensorflow as tf


def require_tensorflow(feature: str) -> None:
    """Raise `ValueError` unless Keras runs on TensorFlow.

    Layers and models use `keras.ops` and run on every backend. Text in the graph, the compiled
    generation loop and SavedModel exist only in TensorFlow.

    Args:
        feature: Name of the feature, for the message.

    Raises:
        ValueError: Keras runs on another backend.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"{feature} needs the TensorFlow backend, but Keras runs on "
            f"{keras.backend.backend()!r}: set KERAS_BACKEND=tensorflow before importing keras."
        )


def num_replicas() -> int:
    """Return the number of devices over which `tf.distribute` splits a batch."""
    if keras.backend.backend() != "tensorflow":
        return 1
    return tf.distribute.get_strategy().num_replicas_in_sync


class LayersFirst:
    """Mixin for functional models that set layers before `super().__init__`.

    List it before `keras.Model` among the base classes. On the PyTorch backend, a module accepts
    a layer as an attribute only after its initialization. That initialization would delete
    earlier attributes. Keras finds the layers of a functional model through its graph, so this
    mixin sets them as plain attributes.
    """

    def __setattr__(self, name, value):
        is_early = keras.backend.backend() == "torch" and "_modules" not in self.__dict__
        if is_early and isinstance(value, keras.layers.Layer):
            if not hasattr(self, "_tracker"):
                self._initialize_tracker()  # as Keras does; it fixes the weights' order
            object.__setattr__(self, name, self._tracker.track(value))
        else:
            super().__setattr__(name, value)
