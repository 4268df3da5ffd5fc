"""What the machine has."""

import tensorflow as tf


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU, which then runs whatever it can."""
    return bool(tf.config.list_physical_devices("GPU"))
