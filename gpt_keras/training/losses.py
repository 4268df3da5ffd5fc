"""The cross-entropy loss, and the weights of targets in a loss on logits."""

import math

import keras
from keras import ops

from gpt_keras.backend import num_replicas


@keras.saving.register_keras_serializable("gpt_keras")
class CrossEntropy(keras.losses.Loss):
    """Cross-entropy of integer targets and logits, in nats, with low memory use.

    The loss equals `keras.losses.SparseCategoricalCrossentropy(from_logits=True)`. But the forward
    pass stores only the logits and two numbers per token, and the backward pass computes the
    softmax again. With a vocabulary of 50,257 tokens, the softmax is the largest tensor of a
    training step.

    Each token's loss is multiplied by its sample weight. Tokens with sample weight 0, masked tokens
    and targets equal to `ignore_class` are skipped, so their targets may be any numbers.

    Args:
        reduction: Reduction, as in Keras. Default: the mean over tokens, weighted by their sample
            weights.
        ignore_class: Target id that is skipped, such as -100; None skips no target.
        name: Name of the loss.
        dtype: Dtype in which the loss is computed. Default: float32, or float64 if Keras's `floatx`
            is float64; a sum over a vocabulary needs this precision.

    Call arguments:
        y_true: Target ids, `(batch, length)`.
        y_pred: Logits, `(batch, length, vocabulary_size)`.
        sample_weight: Weights of tokens, `(batch, length)`, or of rows, `(batch,)`, or None. The
            weight of a row holds for each of its tokens.

    Returns:
        The reduced loss, in nats per token.

    Raises:
        ValueError: `y_true` does not have one dimension less than `y_pred`.

    Example:
        >>> import gpt_keras as gk
        >>> import numpy as np
        >>> loss = gk.training.CrossEntropy()
        >>> round(float(loss(np.array([[3, 1]]), np.zeros((1, 2, 10)))), 4)    # log 10
        2.3026
    """

    def __init__(
        self,
        reduction: str = "mean_with_sample_weight",
        ignore_class: int | None = None,
        name: str = "cross_entropy",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype or precise_dtype())
        self.ignore_class = ignore_class

    def __call__(self, y_true, y_pred, sample_weight=None):
        # Keras would cast the ids to the dtype of the loss, which cannot hold every large integer.
        y_true = ops.convert_to_tensor(y_true)
        losses = self.call(y_true, ops.cast(y_pred, self.dtype))
        weights = token_weights(y_true, y_pred, sample_weight, self.ignore_class, self.dtype)
        if weights is not None:
            # A token of weight 0 may have an invalid target, whose loss is infinite.
            losses = ops.where(ops.equal(weights, 0), ops.zeros_like(losses), losses * weights)
        if self.reduction in (None, "none"):
            return losses
        total = ops.sum(losses)
        if self.reduction == "sum":
            return total
        divisor = ops.cast(divisor_of_mean(self, y_true, y_pred, sample_weight), total.dtype)
        # tf.distribute sums the losses of its replicas.
        return ops.divide_no_nan(total, divisor) / num_replicas()

    def call(self, y_true, y_pred):
        return cross_entropy(y_true, y_pred)

    def get_config(self):
        config = super().get_config() | {"ignore_class": self.ignore_class}
        return config if self.dtype == precise_dtype() else config | {"dtype": self.dtype}


def precise_dtype() -> str:
    """Return `"float64"` if Keras's `floatx` is float64, and otherwise `"float32"`.

    Sums over a vocabulary need at least float32, also in a bfloat16 model.
    """
    return "float64" if keras.config.floatx() == "float64" else "float32"


def token_weights(targets, outputs, sample_weight=None, ignore_class=None, dtype=None):
    """Return the weight of each target, or None if every target has the weight 1.

    Args:
        targets: Ids or labels, `(...)`; used only with `ignore_class`.
        outputs: Logits, `(..., classes)`. Targets are skipped where the implicit mask of the logits
            is False, as `keras.layers.Embedding(mask_zero=True)` makes it.
        sample_weight: Weights in the shape of the targets, or one for each row, or None.
        ignore_class: Target that is skipped, or None.
        dtype: Dtype of the weights. Default: Keras's `floatx`.

    Returns:
        A tensor in the shape of the targets, or None.

    Example:
        >>> import numpy as np
        >>> token_weights(np.array([[1, 2], [3, -1]]), np.zeros((2, 2, 9)), [1.0, 0.5], -1).numpy()
        array([[1. , 1. ],
               [0.5, 0. ]], dtype=float32)
    """
    dtype = dtype or keras.config.floatx()
    factors = []
    if sample_weight is not None:
        weights = ops.convert_to_tensor(sample_weight, dtype=dtype)
        missing = len(outputs.shape) - 1 - len(weights.shape)
        if missing < 0:  # a column of weights for a vector of labels
            weights = ops.squeeze(weights, -1)
        elif missing > 0:
            weights = ops.reshape(weights, (*ops.shape(weights), *[1] * missing))
        factors.append(ops.broadcast_to(weights, ops.shape(outputs)[:-1]))
    mask = getattr(outputs, "_keras_mask", None)
    if mask is not None:
        factors.append(ops.cast(mask, dtype))
    if ignore_class is not None:
        factors.append(ops.cast(ops.not_equal(ops.cast(targets, "int64"), ignore_class), dtype))
    return math.prod(factors) if factors else None


def divisor_of_mean(loss, targets, outputs, sample_weight=None):
    """Return the number by which a loss divides the summed losses of a batch.

    If these divisors are the weights of several batches, their weighted mean loss is the loss of
    all their tokens together. The divisor of a sum is 1.

    Args:
        loss: A loss, as in `keras.Model.compile`.
        targets: Ids or labels, `(...)`.
        outputs: Logits, `(..., classes)`.
        sample_weight: As in `token_weights`.
    """
    reduction = getattr(loss, "reduction", "mean")  # the default for functions and names
    if reduction in ("sum", "none", None):
        return 1.0
    if reduction != "mean_with_sample_weight":
        sample_weight = None  # other means divide by the number of targets, whatever their weights
    weights = token_weights(targets, outputs, sample_weight, ignored_class(loss), "float32")
    return ops.prod(ops.shape(outputs)[:-1]) if weights is None else ops.sum(weights)


def ignored_class(loss) -> int | None:
    """Return the `ignore_class` of a loss, or None if nothing is ignored.

    Args:
        loss: A loss of a model with one output, as in `keras.Model.compile`.
    """
    for part in keras.tree.flatten(loss):
        if getattr(part, "ignore_class", None) is not None:
            return part.ignore_class
    return None


def cross_entropy(targets, logits):
    """Return the cross-entropy of each target, in nats.

    Args:
        targets: Ids, `(...)`.
        logits: `(..., vocabulary_size)`.

    Returns:
        `(...)`, in the dtype of the logits.

    Raises:
        ValueError: `targets` does not have one dimension less than `logits`.

    Example:
        >>> import numpy as np
        >>> cross_entropy(np.array([0]), np.array([[0.0, 0.0]])).numpy().round(4).tolist()  # log 2
        [0.6931]
    """
    if len(targets.shape) != len(logits.shape) - 1:
        raise ValueError(
            f"`targets` must have one dimension less than `logits`, got shapes "
            f"{tuple(targets.shape)} and {tuple(logits.shape)}."
        )
    # Compare each target with every id: XLA does this while it reads the logits, also in the
    # gradient. The gradient of a look-up would be a scatter, which CPUs do not run in parallel.
    is_target = ops.expand_dims(ops.cast(targets, "int32"), -1) == ops.arange(
        logits.shape[-1], dtype="int32"
    )

    @ops.custom_gradient
    def from_logits(logits):
        highest = ops.max(logits, axis=-1, keepdims=True)
        # Do not add `highest` to it: if `highest` is large, the sum loses digits of the logarithm.
        log_sum = ops.log(ops.sum(ops.exp(logits - highest), axis=-1, keepdims=True))
        # An id outside the vocabulary has probability 0, so its loss is infinite.
        of_target = ops.max(ops.where(is_target, logits - highest, float("-inf")), axis=-1)
        losses = ops.squeeze(log_sum, -1) - of_target

        def gradient(*args, upstream=None):  # PyTorch passes `upstream` by name
            upstream = args[0] if upstream is None else upstream
            softmax = ops.exp(logits - highest - log_sum)
            return ops.expand_dims(upstream, -1) * (softmax - ops.cast(is_target, logits.dtype))

        return losses, gradient

    return from_logits(ops.convert_to_tensor(logits))


def check_loss(loss) -> None:
    """Raise `ValueError` for a Keras cross-entropy that expects probabilities.

    Args:
        loss: A loss, as in `keras.Model.compile`.

    Raises:
        ValueError: A loss is a Keras cross-entropy without `from_logits=True`.
    """
    if isinstance(loss, dict | list | tuple):
        for part in keras.tree.flatten(loss):
            check_loss(part)
        return
    # Check only Keras's losses, by name: a custom loss may have any name.
    kind = loss if isinstance(loss, str) or hasattr(loss, "__name__") else type(loss)
    name = kind if isinstance(kind, str) else kind.__name__
    is_keras = isinstance(kind, str) or kind.__module__.startswith("keras.")
    is_cross_entropy = is_keras and "crossentropy" in name.lower().replace("_", "")
    if is_cross_entropy and not getattr(loss, "from_logits", False):
        raise ValueError(
            f"`loss`={loss!r} expects probabilities, but the model gives logits: pass "
            f"keras.losses.SparseCategoricalCrossentropy(from_logits=True), or leave `loss` out."
        )
