"""The devices of the machine."""

import keras
import tensorflow as tf


def has_gpu() -> bool:
    """Return whether Keras runs on TensorFlow and TensorFlow sees a GPU."""
    if keras.backend.backend() != "tensorflow":
        return False
    return bool(tf.config.list_physical_devices("GPU"))
