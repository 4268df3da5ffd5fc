"""Pure functions from logits to logits that say which tokens may be drawn; they compose.

Their settings are scalar tensors, so that one compiled graph serves every request, the one in a
SavedModel included.
"""

import tensorflow as tf


def process(logits, temperature, top_k, top_p):
    """Apply temperature, then top-k, then top-p: the order of Hugging Face's `generate`.

    Args:
        logits: `(batch, vocabulary_size)`.
        temperature: scalar float tensor, at least 0.
        top_k: scalar integer tensor; 0 is off.
        top_p: scalar float tensor in (0, 1]; 1 is off.

    Returns:
        Logits of the same shape.
    """
    logits = apply_temperature(logits, temperature)
    logits = apply_top_k(logits, top_k)
    return apply_top_p(logits, top_p)


def apply_temperature(logits, temperature):
    """Divide logits by `temperature`; 0 is left to the caller, who takes the arg max.

    Below 1e-5 it counts as 1e-5, which is as good as greedy and does not overflow.
    """
    return logits / tf.maximum(tf.cast(temperature, logits.dtype), 1e-5)


def apply_top_k(logits, k):
    """Keep the `k` largest logits of each row and set the others to minus infinity.

    Ties with the k-th are kept (Fan et al. 2018, section 5.2).

    Args:
        logits: `(batch, vocabulary_size)`.
        k: scalar integer tensor; 0 keeps all.

    Returns:
        Logits of the same shape.
    """

    def keep():
        smallest = tf.math.top_k(logits, tf.minimum(k, tf.shape(logits)[-1])).values[:, -1:]
        return tf.where(logits >= smallest, logits, -float("inf"))

    return tf.cond(k > 0, keep, lambda: logits)


def apply_top_p(logits, p):
    """Keep the smallest set of tokens whose probabilities sum to at least `p`.

    The most likely token is always kept (Holtzman et al. 2020, section 3.1).

    Args:
        logits: `(batch, vocabulary_size)`.
        p: scalar float tensor in (0, 1]; 1 keeps all.

    Returns:
        Logits of the same shape, minus infinity outside the set.
    """

    def keep():
        ordered = tf.sort(logits, direction="DESCENDING")
        probabilities = tf.nn.softmax(ordered)
        before = tf.cumsum(probabilities, axis=-1, exclusive=True)
        reached = (before >= p) & (before > 0)  # the first is kept, however small p
        smallest = tf.reduce_min(tf.where(reached, float("inf"), ordered), axis=-1, keepdims=True)
        return tf.where(logits >= smallest, logits, -float("inf"))

    return tf.cond(p < 1, keep, lambda: logits)
