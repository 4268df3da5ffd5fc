"""Metrics of language models."""

import keras
from keras import ops

from gpt_keras.training.losses import cross_entropy, precise_dtype, token_weights


@keras.saving.register_keras_serializable("gpt_keras")
class Perplexity(keras.metrics.Metric):
    """Perplexity: the exponential of the mean cross-entropy per token, from logits.

    Pass it to `compile` as a weighted metric: padding then has the sample weight 0 and does not
    count. Every token has the same weight, even if batches differ in length. Keras's mean metrics
    would give every row the same weight.

    Attributes:
        count: Variable, the sum of the weights. Without sample weights this is the number of
            tokens.

    Args:
        name: Name of the metric.
        dtype: Dtype of the sums. Default: float32, or float64 if Keras's `floatx` is float64.

    Example:
        >>> import gpt_keras as gk
        >>> import numpy as np
        >>> metric = gk.training.Perplexity()
        >>> metric.update_state(np.array([[3, 1]]), np.zeros((1, 2, 10)))    # ten equal chances
        >>> round(float(metric.result()), 4)
        10.0
    """

    def __init__(self, name: str = "perplexity", dtype=None):
        super().__init__(name=name, dtype=dtype or precise_dtype())
        self.total = self.add_weight(name="total", initializer="zeros", dtype=self.dtype)
        self.count = self.add_weight(name="count", initializer="zeros", dtype=self.dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.convert_to_tensor(y_true)
        losses = cross_entropy(y_true, ops.cast(y_pred, self.dtype))  # (batch, length)
        weights = token_weights(y_true, y_pred, sample_weight, dtype=self.dtype)
        if weights is None:
            weights = ops.ones_like(losses)
        # A token of weight 0 may have an invalid target, whose loss is infinite.
        losses = ops.where(ops.equal(weights, 0), ops.zeros_like(losses), losses * weights)
        self.total.assign_add(ops.sum(losses))
        self.count.assign_add(ops.sum(weights))

    def result(self):
        return ops.exp(ops.divide_no_nan(self.total, self.count))

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype}


class MeanLoss(keras.metrics.Mean):
    """Mean of the losses of batches, weighted by `divisor_of_mean` of each batch.

    The mean equals the loss of all tokens together, even if batches differ in their number of
    tokens. It is not saved with a model.

    Args:
        name: Name of the metric.
        dtype: Dtype of the sums. Default: float32, or float64 if Keras's `floatx` is float64.
    """

    def __init__(self, name: str = "loss", dtype=None):
        super().__init__(name=name, dtype=dtype or precise_dtype())

    def save_own_variables(self, store):
        """Save nothing; Keras calls this while saving a model."""

    def load_own_variables(self, store):
        """Load nothing; Keras calls this while loading a model."""
