"""What a loss on logits may be."""

import keras


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
