"""The loss of language models, and what a loss on logits may be."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("gpt_keras")
class CrossEntropy(keras.losses.Loss):
    """Cross-entropy in nats of integer targets from logits, whose gradient stores nothing.

    As `keras.losses.SparseCategoricalCrossentropy(from_logits=True)`, in less memory: of the
    forward pass only the logits and a number for each token are kept, and the gradient makes the
    softmax anew from them. With a vocabulary of 50,257 a softmax is the largest tensor of a
    training step.

    Args:
        reduction: as in Keras. Default: the mean over tokens, weighted by their sample weights.
        name: name of the loss.
        **kwargs: further arguments of `keras.losses.Loss`.

    Call arguments:
        y_true: target ids, `(batch, length)`.
        y_pred: logits, `(batch, length, vocabulary_size)`.
        sample_weight: `(batch, length)` or `(batch,)`, or None.

    Returns:
        The reduced loss, in nats per token.

    Example:
        >>> import gpt_keras as gk
        >>> import numpy as np
        >>> loss = gk.training.CrossEntropy()
        >>> round(float(loss(np.array([[3, 1]]), np.zeros((1, 2, 10)))), 4)    # log 10
        2.3026
    """

    def __init__(
        self, reduction: str = "mean_with_sample_weight", name: str = "cross_entropy", **kwargs
    ):
        super().__init__(name=name, reduction=reduction, **kwargs)

    def call(self, y_true, y_pred):
        return cross_entropy(y_true, y_pred)


def cross_entropy(targets, logits):
    """Return the cross-entropy of each target, in nats.

    Args:
        targets: ids, `(...)`.
        logits: `(..., vocabulary_size)`.

    Returns:
        `(...)`, in the dtype of the logits.

    Raises:
        ValueError: `targets` has not one dimension less than `logits`.

    Example:
        >>> import numpy as np
        >>> cross_entropy(np.array([0]), np.array([[0.0, 0.0]])).numpy().round(4).tolist()  # log 2
        [0.6931]
    """
    if len(targets.shape) != len(logits.shape) - 1:
        raise ValueError(
            f"`targets` must be of one dimension less than `logits`, got shapes "
            f"{tuple(targets.shape)} and {tuple(logits.shape)}."
        )
    # A target is compared with every id, which XLA does while it reads the logits, in the gradient
    # too; the gradient of a look-up would be a scatter, for which the CPU has no parallel loop.
    is_target = ops.expand_dims(ops.cast(targets, "int32"), -1) == ops.arange(
        logits.shape[-1], dtype="int32"
    )

    @ops.custom_gradient
    def from_logits(logits):
        highest = ops.max(logits, axis=-1, keepdims=True)
        total = highest + ops.log(ops.sum(ops.exp(logits - highest), axis=-1, keepdims=True))
        # Of a target that is no id: infinite, as nothing is likely to be it.
        of_target = ops.max(ops.where(is_target, logits, float("-inf")), axis=-1)
        losses = ops.squeeze(total, -1) - of_target

        def gradient(*args, upstream=None):  # backends differ in how they call it
            (upstream,) = args or (upstream,)
            softmax = ops.exp(logits - total)
            return ops.expand_dims(upstream, -1) * (softmax - ops.cast(is_target, logits.dtype))

        return losses, gradient

    return from_logits(ops.convert_to_tensor(logits))


def check_loss(loss) -> None:
    """Raise `ValueError` if `loss` is a cross-entropy of Keras that takes probabilities."""
    if isinstance(loss, dict | list | tuple):
        for part in keras.tree.flatten(loss):
            check_loss(part)
        return
    # A user's own loss may have any name; Keras's are known by theirs.
    kind = loss if isinstance(loss, str) or hasattr(loss, "__name__") else type(loss)
    name = kind if isinstance(kind, str) else kind.__name__
    is_keras = isinstance(kind, str) or kind.__module__.startswith("keras.")
    is_cross_entropy = is_keras and "crossentropy" in name.lower().replace("_", "")
    if is_cross_entropy and not getattr(loss, "from_logits", False):
        raise ValueError(
            f"`loss`={loss!r} expects probabilities, but the model gives logits: pass "
            f"keras.losses.SparseCategoricalCrossentropy(from_logits=True), or leave `loss` out."
        )
