"""Logits processors that depend on the tokens so far: penalties, biases and bans.

A logit of minus infinity stays minus infinity. Padding has no effect on the result.
"""

import tensorflow as tf

from gpt_keras.generation.context import Context, sum_by_token


def penalize_repetition(logits, penalty, context: Context):
    """Penalize the tokens that occur in the prompt or the new text.

    A positive logit becomes `logit / penalty`, a negative one `logit * penalty`, as with
    transformers' `repetition_penalty`. Keskar et al. 2019, section 4.1, divide negative logits too.

    Args:
        logits: `(rows, vocabulary_size)`.
        penalty: Scalar float tensor above 0. Above 1 these tokens become less likely, below 1
            likelier.
        context: The tokens so far.

    Returns:
        Logits of the same shape.

    Example:
        >>> import tensorflow as tf
        >>> from gpt_keras.generation.context import Context
        >>> from gpt_keras.generation.penalties import penalize_repetition
        >>> context = Context.of_rows([[0, 2]])
        >>> penalize_repetition(tf.constant([[1.0, 1.0, -1.0]]), 2.0, context).numpy()
        array([[ 0.5,  1. , -2. ]], dtype=float32)
    """
    penalized = tf.where(logits < 0, logits * penalty, logits / penalty)
    return tf.where(_counts(logits, context) > 0, penalized, logits)


def penalize_presence(logits, penalty, context: Context):
    """Subtract `penalty` from the logits of the tokens in the new text.

    The new logit is `logit - penalty * (count > 0)`, where `count` is how often the new text
    contains the token (OpenAI's API reference, `presence_penalty`). The prompt does not count.

    Args:
        logits: `(rows, vocabulary_size)`.
        penalty: Scalar float tensor; below 0 it makes these tokens likelier.
        context: The tokens so far.

    Returns:
        Logits of the same shape.

    Example:
        >>> import tensorflow as tf
        >>> from gpt_keras.generation.context import Context
        >>> from gpt_keras.generation.penalties import penalize_presence
        >>> context = Context.of_rows([[0, 2, 2]], num_new=2)
        >>> penalize_presence(tf.zeros((1, 3)), 0.5, context).numpy()
        array([[ 0. ,  0. , -0.5]], dtype=float32)
    """
    counts = _counts(logits, context, context.first)
    return logits - penalty * tf.cast(counts > 0, logits.dtype)


def penalize_frequency(logits, penalty, context: Context):
    """Subtract `penalty` times a token's count in the new text from its logit.

    The new logit is `logit - penalty * count` (OpenAI's API reference, `frequency_penalty`). The
    prompt does not count.

    Args:
        logits: `(rows, vocabulary_size)`.
        penalty: Scalar float tensor; below 0 it makes these tokens likelier.
        context: The tokens so far.

    Returns:
        Logits of the same shape.

    Example:
        >>> import tensorflow as tf
        >>> from gpt_keras.generation.context import Context
        >>> from gpt_keras.generation.penalties import penalize_frequency
        >>> context = Context.of_rows([[0, 2, 2]], num_new=2)
        >>> penalize_frequency(tf.zeros((1, 3)), 0.5, context).numpy()
        array([[ 0.,  0., -1.]], dtype=float32)
    """
    return logits - penalty * _counts(logits, context, context.first)


def ban_repeated_ngrams(logits, size, context: Context):
    """Ban every token that would repeat an n-gram of the row.

    The n-grams of prompt and new text count (Paulus et al. 2018, section 2.5).

    Args:
        logits: `(rows, vocabulary_size)`.
        size: Scalar integer tensor, the n of the n-grams. With 1 no token occurs twice.
        context: The tokens so far.

    Returns:
        Logits of the same shape, minus infinity for the banned tokens.

    Example:
        >>> import tensorflow as tf
        >>> from gpt_keras.generation.context import Context
        >>> from gpt_keras.generation.penalties import ban_repeated_ngrams
        >>> context = Context.of_rows([[0, 1, 2, 0, 1]])
        >>> ban_repeated_ngrams(tf.zeros((1, 3)), 3, context).numpy()
        array([[  0.,   0., -inf]], dtype=float32)
    """
    token_ids = context.token_ids
    columns = tf.range(tf.shape(token_ids)[1])
    # For each column, consider the n-gram that ends there. `inside` is True if the n-gram lies in
    # the row; the loop then compares its first n - 1 tokens with the last n - 1 of the row.
    inside = context.holds_token() & (columns - (size - 1) >= context.starts[:, None])

    def compare(distance, is_repeated):
        earlier = tf.roll(token_ids, distance, axis=1)
        return distance + 1, is_repeated & (earlier == context.token_before(distance)[:, None])

    # A huge `size` must not make a huge loop: `inside` is False for n-grams longer than the row.
    stop = tf.minimum(size, tf.shape(token_ids)[1])
    _, is_repeated = tf.while_loop(lambda distance, _: distance < stop, compare, (1, inside))
    repeats = sum_by_token(token_ids, tf.cast(is_repeated, logits.dtype), logits)
    return tf.where(repeats > 0, -float("inf"), logits)


def bias_sequences(logits, sequences, biases, context: Context):
    """Add the bias of each sequence to the logit of its last token, where it fits.

    A sequence fits a row that ends with all tokens of the sequence but the last. A sequence of one
    token fits every row, as in OpenAI's `logit_bias`. Longer sequences are transformers'
    `sequence_bias`. The biases of sequences with the same last token are added.

    Args:
        logits: `(rows, vocabulary_size)`.
        sequences: `(n, longest)` int32, token ids, padded on the left with -1; n is at least 1.
        biases: `(n,)` float32; minus infinity is a ban.
        context: The tokens so far; prompt and new tokens both count.

    Returns:
        Logits of the same shape.

    Example:
        >>> import tensorflow as tf
        >>> from gpt_keras.generation.context import Context
        >>> from gpt_keras.generation.penalties import bias_sequences
        >>> context = Context.of_rows([[1, 0]])
        >>> sequences = tf.constant([[-1, 1], [0, 2], [2, 2]])
        >>> bias_sequences(tf.zeros((1, 3)), sequences, [3.0, 4.0, 5.0], context).numpy()
        array([[0., 3., 4.]], dtype=float32)
    """
    num_rows, longest = tf.shape(logits)[0], tf.shape(sequences)[1]

    def compare(distance, is_near):
        expected = sequences[:, longest - 1 - distance]
        same = context.token_before(distance)[:, None] == expected
        return distance + 1, is_near & (same | (expected == -1))

    _, is_near = tf.while_loop(
        lambda distance, _: distance < longest,
        compare,
        (1, tf.fill([num_rows, tf.shape(sequences)[0]], True)),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None])),
    )  # (rows, n)
    last_ids = tf.broadcast_to(sequences[:, -1], tf.shape(is_near))
    return logits + sum_by_token(last_ids, tf.where(is_near, biases, 0.0), logits)


def ban_sequences(logits, sequences, context: Context):
    """Ban the last token of each sequence if the row ends with its other tokens.

    This is `bias_sequences` with a bias of minus infinity.

    Args:
        logits: `(rows, vocabulary_size)`.
        sequences: `(n, longest)` int32, token ids, as in `bias_sequences`.
        context: The tokens so far; prompt and new tokens both count.

    Returns:
        Logits of the same shape, minus infinity for the banned tokens.

    Example:
        >>> import tensorflow as tf
        >>> from gpt_keras.generation.context import Context
        >>> from gpt_keras.generation.penalties import ban_sequences
        >>> context = Context.of_rows([[1, 0]])
        >>> ban_sequences(tf.zeros((1, 3)), tf.constant([[0, 2], [2, 1]]), context).numpy()
        array([[  0.,   0., -inf]], dtype=float32)
    """
    bans = tf.fill(tf.shape(sequences)[:1], -float("inf"))
    return bias_sequences(logits, sequences, bans, context)


def ban_early_end(logits, min_new_tokens, context: Context):
    """Ban the end tokens of a row until it has `min_new_tokens` new tokens.

    Args:
        logits: `(rows, vocabulary_size)`.
        min_new_tokens: Scalar integer tensor, at least 0.
        context: The tokens so far, and the end tokens.

    Returns:
        Logits of the same shape.

    Example:
        >>> import tensorflow as tf
        >>> from gpt_keras.generation.context import Context
        >>> from gpt_keras.generation.penalties import ban_early_end
        >>> context = Context.of_rows([[1, 0]], num_new=1, end_token_ids=[2])
        >>> ban_early_end(tf.zeros((1, 3)), 2, context).numpy()
        array([[  0.,   0., -inf]], dtype=float32)
    """
    is_early = context.index - context.first < min_new_tokens
    return tf.where(is_early & ends_row(logits, context), -float("inf"), logits)


def ends_row(logits, context: Context):
    """Return `(1, vocabulary_size)` bool: the token is an end token."""
    end_token_ids = context.end_token_ids[None]
    return sum_by_token(end_token_ids, tf.ones_like(end_token_ids, tf.float32), logits[:1]) > 0


def _counts(logits, context, begin=0):
    """Return `(rows, vocabulary_size)`: each token's count from column `begin` on."""
    holds_token = tf.cast(context.holds_token(begin), logits.dtype)
    return sum_by_token(context.token_ids, holds_token, logits)
