"""Warpers: logits processors for sampling, such as temperature, top-k and top-p.

Each keeps at least one token of a row; all but `apply_typical_p` keep the most likely one. A logit
of minus infinity stays minus infinity. Tokens that tie with the last kept token are kept too.
"""

import tensorflow as tf


def apply_temperature(logits, temperature):
    """Divide the logits by `temperature` (Ackley et al. 1985, section 2).

    Below 1 likely tokens become likelier, above 1 less likely. For greedy decoding, at 0, the
    caller takes the arg max instead.

    Args:
        logits: `(rows, vocabulary_size)`.
        temperature: Scalar float tensor, at least 0. Below 1e-5 it counts as 1e-5, which is nearly
            greedy and does not overflow.

    Returns:
        Logits of the same shape.

    Example:
        >>> import tensorflow as tf
        >>> from gpt_keras.generation.warpers import apply_temperature
        >>> apply_temperature(tf.constant([[1.0, 2.0]]), 0.5).numpy()
        array([[2., 4.]], dtype=float32)
    """
    return logits / tf.maximum(tf.cast(temperature, logits.dtype), 1e-5)


def apply_top_k(logits, k):
    """Keep the `k` largest logits of each row (Fan et al. 2018, section 5.2).

    Tokens that tie with the k-th are kept too.

    Args:
        logits: `(rows, vocabulary_size)`.
        k: Scalar integer tensor, at least 1.

    Returns:
        Logits of the same shape, minus infinity for the other tokens.

    Example:
        >>> import tensorflow as tf
        >>> from gpt_keras.generation.warpers import apply_top_k
        >>> apply_top_k(tf.constant([[1.0, 3.0, 2.0, 2.0]]), 2).numpy()
        array([[-inf,   3.,   2.,   2.]], dtype=float32)
    """
    kth = tf.math.top_k(logits, tf.minimum(k, tf.shape(logits)[-1])).values[:, -1:]
    return _keep(logits, logits >= kth)


def apply_top_p(logits, p):
    """Keep the smallest set of likely tokens with a total probability of at least `p`.

    This is nucleus sampling (Holtzman et al. 2020, section 3.1). Tokens are added in descending
    order of probability, and the most likely one is always kept. Tokens that tie with the last one
    are kept too; transformers drops some of them.

    Args:
        logits: `(rows, vocabulary_size)`.
        p: Scalar float tensor in (0, 1].

    Returns:
        Logits of the same shape, minus infinity outside the set.

    Example:
        >>> import tensorflow as tf
        >>> from gpt_keras.generation.warpers import apply_top_p
        >>> logits = tf.math.log([[0.125, 0.5, 0.375]])
        >>> tf.exp(apply_top_p(logits, 0.75)).numpy()
        array([[0.   , 0.5  , 0.375]], dtype=float32)
    """
    ordered = tf.sort(logits, direction="DESCENDING")
    before = tf.cumsum(tf.nn.softmax(ordered), axis=-1, exclusive=True)
    reached = (before >= p) & (before > 0)  # the first is kept, however small p
    smallest = tf.reduce_min(tf.where(reached, float("inf"), ordered), axis=-1, keepdims=True)
    return _keep(logits, logits >= smallest)


def apply_min_p(logits, p):
    """Keep the tokens that are at least `p` times as likely as the most likely one.

    `P(token) >= p * max P` (Nguyen et al. 2024, "Min-p Sampling", section 3).

    Args:
        logits: `(rows, vocabulary_size)`.
        p: Scalar float tensor in [0, 1].

    Returns:
        Logits of the same shape, minus infinity for the other tokens.

    Example:
        >>> import tensorflow as tf
        >>> from gpt_keras.generation.warpers import apply_min_p
        >>> logits = tf.math.log([[0.125, 0.625, 0.25]])
        >>> tf.exp(apply_min_p(logits, 0.3)).numpy()
        array([[0.   , 0.625, 0.25 ]], dtype=float32)
    """
    largest = tf.reduce_max(logits, axis=-1, keepdims=True)
    return _keep(logits, logits >= largest + tf.math.log(p))


def apply_typical_p(logits, p):
    """Keep the tokens whose surprise is nearest to the entropy (typical sampling).

    The surprise of a token is `-log P`, and the entropy is `H = -sum P log P`. The result is the
    smallest set with a total probability of at least `p`, in ascending order of `|-log P - H|`
    (Meister et al. 2023, "Locally Typical Sampling", section 4). The most likely token may be
    missing.

    Args:
        logits: `(rows, vocabulary_size)`.
        p: Scalar float tensor in (0, 1].

    Returns:
        Logits of the same shape, minus infinity outside the set.

    Example:
        >>> import tensorflow as tf
        >>> from gpt_keras.generation.warpers import apply_typical_p
        >>> logits = tf.math.log([[0.5, 0.25, 0.125, 0.125]])  # an entropy of 1.75 bits
        >>> tf.exp(apply_typical_p(logits, 0.2)).numpy()
        array([[0.  , 0.25, 0.  , 0.  ]], dtype=float32)
    """
    log_probabilities = tf.nn.log_softmax(logits)
    probabilities = tf.exp(log_probabilities)
    terms = tf.where(probabilities > 0, probabilities * log_probabilities, 0.0)
    entropy = -tf.reduce_sum(terms, axis=-1, keepdims=True)
    distances = tf.abs(log_probabilities + entropy)  # infinite where P is 0
    order = tf.argsort(distances, stable=True)
    summed = tf.cumsum(tf.gather(probabilities, order, batch_dims=1), axis=-1)
    last = tf.reduce_sum(tf.cast(summed < p, tf.int32), axis=-1, keepdims=True)
    last = tf.minimum(last, tf.shape(logits)[-1] - 1)  # rounding may leave the sum short of p
    farthest = tf.gather(distances, tf.gather(order, last, batch_dims=1), batch_dims=1)
    return _keep(logits, distances <= farthest)


def _keep(logits, is_kept):
    return tf.where(is_kept, logits, -float("inf"))
