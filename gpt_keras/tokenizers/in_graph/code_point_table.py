"""A value for each Unicode code point in a TensorFlow graph."""

import numpy as np
import tensorflow as tf

_PAGE = 256


class CodePointTable(tf.Module):
    """Look-up table of code points; `table(code_points)` returns their values.

    Neighbours have mostly the same value, so of all pages of 256 values only the distinct ones are
    kept: a few hundred kilobytes instead of megabytes in a SavedModel.

    Args:
        values: `(0x110000,)` array, indexed by code points.
    """

    def __init__(self, values: np.ndarray):
        super().__init__()
        begins: dict[bytes, int] = {}  # of the distinct pages, which np.unique finds slowly
        begin = [
            begins.setdefault(page.tobytes(), len(begins) * _PAGE)
            for page in values.reshape(-1, _PAGE)
        ]
        with tf.init_scope():  # it outlives the function that may be being traced
            self._values = tf.constant(np.frombuffer(b"".join(begins), values.dtype))
            self._begins = tf.constant(begin, tf.int32)

    def __call__(self, code_points: tf.Tensor) -> tf.Tensor:
        """Return the values of int32 code points."""
        begins = tf.gather(self._begins, code_points // _PAGE)
        return tf.gather(self._values, begins + code_points % _PAGE)
