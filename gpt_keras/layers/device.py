"""What the machine has."""

import keras
import tensorflow as tf


def has_gpu() -> bool:
    """Whether Keras runs on TensorFlow and that sees a GPU, which then runs whatever it can."""
    if keras.backend.backend() != "tensorflow":
        return False
    return bool(tf.config.list_physical_devices("GPU"))
