"""Constrained decoding: the new text is exactly one of the given texts (a trie)."""

import tensorflow as tf

from gpt_keras.generation.context import Context, sum_by_token
from gpt_keras.generation.penalties import ends_row


def keep_choices(logits, choices, context: Context):
    """Keep the tokens that extend the new text to a prefix of a choice.

    The choices are the paths of a trie, and the new tokens are a walk from its root (De Cao et al.
    2021, section 3.2). After a complete choice the end tokens are kept too. If the logits of all
    kept tokens are minus infinity, they become 0, so that generation can continue.

    Args:
        logits: `(rows, vocabulary_size)`.
        choices: `(n, longest)` int32, token ids, padded on the right with -1; n is at least 1.
        context: The tokens so far, and the end tokens.

    Returns:
        Logits of the same shape, minus infinity for all other tokens. If the new tokens of a row
        are not a prefix of a choice, the whole row is minus infinity.

    Example:
        >>> import tensorflow as tf
        >>> from gpt_keras.generation.choices import keep_choices
        >>> from gpt_keras.generation.context import Context
        >>> context = Context.of_rows([[3, 1]], num_new=1)
        >>> choices = tf.constant([[1, 2, -1], [1, 3, 2], [3, -1, -1]])
        >>> keep_choices(tf.zeros((1, 4)), choices, context).numpy()
        array([[-inf, -inf,   0.,   0.]], dtype=float32)
    """
    is_begun, next_ids = _walk(choices, context)
    next_ids_of_rows = tf.broadcast_to(next_ids, tf.shape(is_begun))
    is_kept = sum_by_token(next_ids_of_rows, tf.cast(is_begun, tf.float32), logits) > 0
    is_whole = tf.reduce_any(is_begun & (next_ids == -1), axis=1, keepdims=True)
    is_kept |= is_whole & ends_row(logits, context)
    is_possible = tf.reduce_any(is_kept & (logits > -float("inf")), axis=1, keepdims=True)
    return tf.where(is_kept, tf.where(is_possible, logits, 0.0), -float("inf"))


def are_choices_complete(choices, context: Context):
    """Return `(rows,)` bool: the new text is a choice, and none extends it.

    Args:
        choices: `(n, longest)` int32, as in `keep_choices`.
        context: The tokens so far.

    Example:
        >>> import tensorflow as tf
        >>> from gpt_keras.generation.choices import are_choices_complete
        >>> from gpt_keras.generation.context import Context
        >>> context = Context.of_rows([[3, 1], [3, 2]], num_new=1)
        >>> are_choices_complete(tf.constant([[1, -1], [2, -1], [2, 3]]), context).numpy()
        array([ True, False])
    """
    is_begun, next_ids = _walk(choices, context)
    is_whole = tf.reduce_any(is_begun & (next_ids == -1), axis=1)
    return is_whole & ~tf.reduce_any(is_begun & (next_ids != -1), axis=1)


def _walk(choices, context):
    """Return a mask of the choices that begin with the new tokens, and their next ids.

    Returns:
        `(rows, n)` bool, and `(n,)` int32: the next token id of each choice, -1 after its end.
    """
    num_rows, longest = tf.shape(context.token_ids)[0], tf.shape(choices)[1]
    num_new = context.index - context.first

    def compare(position, is_begun):
        token = context.token_ids[:, context.first + position, None]
        return position + 1, is_begun & (token == choices[:, position])

    _, is_begun = tf.while_loop(
        lambda position, _: position < tf.minimum(num_new, longest),
        compare,
        (0, tf.fill([num_rows, tf.shape(choices)[0]], num_new <= longest)),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None])),
    )
    padded = tf.pad(choices, [[0, 0], [0, 1]], constant_values=-1)
    return is_begun, padded[:, tf.minimum(num_new, longest)]
