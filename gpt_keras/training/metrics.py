"""Metrics of language models."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("gpt_keras")
class Perplexity(keras.metrics.MeanMetricWrapper):
    """Exponential of the mean cross-entropy per token, from logits, in nats.

    As a weighted metric it leaves out padding, whose sample weight is 0.

    Args:
        name: name of the metric.
        dtype: dtype of the sums.

    Example:

    >>> import numpy as np
    >>> metric = gk.training.Perplexity()
    >>> metric.update_state(np.array([[3, 1]]), np.zeros((1, 2, 10)))    # ten equal chances
    >>> round(float(metric.result()), 4)
    10.0
    """

    def __init__(self, name: str = "perplexity", dtype=None):
        super().__init__(_cross_entropy, name=name, dtype=dtype)

    def result(self):
        return ops.exp(super().result())

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype}


def _cross_entropy(targets, logits):
    return keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)
