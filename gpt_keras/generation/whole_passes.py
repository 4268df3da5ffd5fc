"""Generation without a KV cache: each new token runs the whole sequence again."""

import keras
import tensorflow as tf
from keras import ops

from gpt_keras.generation.backbone import fixed_length, max_sequence_length
from gpt_keras.generation.state import to_the_left
from gpt_keras.layers import write_cache


class WholePasses:
    """Adapter that gives the cache protocol to any Keras model from ids to logits.

    Its cache holds the token ids themselves, with the shape `(batch, 1, length, 1)` that
    `write_cache` requires. The model must be causal: the logits of a token must not depend on later
    tokens.

    Args:
        model: A Keras model from ids `(batch, length)` to logits `(batch, length,
            vocabulary_size)`.
    """

    def __init__(self, model: keras.Model):
        self.name = model.name
        self._model = model
        self._limit = max_sequence_length(model)
        self._fixed_length = fixed_length(model)

    def initial_cache(self, batch_size, length):
        """Return an empty cache for `length` token ids of each row."""
        return tf.zeros([batch_size, 1, length, 1], tf.int32)

    def extend(self, token_ids, cache, index, starts):
        """Run all tokens so far; see `Backbone.extend`."""
        token_ids = tf.cast(token_ids, tf.int32)
        update = token_ids[:, None, :, None]
        rows = ops.slice_update(cache[:, 0, :, 0], (0, index), token_ids)  # (batch, length)
        # Each row must begin at column 0, which is the model's first position. The columns after
        # the newest token have no effect, because the model is causal.
        rows = to_the_left(rows, starts)[:, : self._limit]
        if self._fixed_length is not None:
            missing = tf.maximum(self._fixed_length - tf.shape(rows)[1], 0)
            rows = tf.ensure_shape(tf.pad(rows, [[0, 0], [0, missing]]), [None, self._fixed_length])
        logits = self._model(rows, training=False)
        columns = index - starts[:, None] + tf.range(tf.shape(token_ids)[1])[None, :]
        columns = tf.clip_by_value(columns, 0, tf.shape(rows)[1] - 1)
        return tf.gather(logits, columns, batch_dims=1), update

    def write(self, cache, update, index):
        """Return the cache with the new token ids; see `Backbone.write`."""
        return write_cache(cache, update, index)
