"""Lookup table for Unicode code points in a TensorFlow graph."""

import numpy as np
import tensorflow as tf

PAGE = 256


class CodePointTable(tf.Module):
    """Lookup table: `table(code_points)` returns a value for each code point.

    Neighbouring code points mostly have the same value. So the table is divided into pages of 256
    values, and only distinct pages are stored. This takes a few hundred kilobytes in a SavedModel
    instead of megabytes.

    Args:
        values: `(0x110000,)` array, indexed by code point.
    """

    def __init__(self, values: np.ndarray):
        super().__init__()
        begins: dict[bytes, int] = {}  # of distinct pages; np.unique is slow
        begin = [
            begins.setdefault(page.tobytes(), len(begins) * PAGE)
            for page in values.reshape(-1, PAGE)
        ]
        with tf.init_scope():  # must outlive a function that is being traced
            self._values = tf.constant(np.frombuffer(b"".join(begins), values.dtype))
            self._begins = tf.constant(begin, tf.int32)

    def __call__(self, code_points: tf.Tensor) -> tf.Tensor:
        """Return the values of int32 code points."""
        begins = tf.gather(self._begins, code_points // PAGE)
        return tf.gather(self._values, begins + code_points % PAGE)
