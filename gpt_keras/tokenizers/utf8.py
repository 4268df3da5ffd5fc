"""UTF-8 text that ends inside a character, whose last bytes are still to come."""

import re

import tensorflow as tf

# The token of one byte, as SentencePiece writes it: <0x0A> is a newline.
BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


def incomplete_length(data: bytes) -> int:
    """Return how many bytes at the end of `data` begin an incomplete character.

    Bytes that cannot become a character, whatever follows, do not count.

    Example:
        >>> from gpt_keras.tokenizers.utf8 import incomplete_length
        >>> [incomplete_length("詩".encode()[:n]) for n in range(4)]
        [0, 1, 2, 0]
    """
    for length in (3, 2, 1):  # a whole character has at most 4 bytes
        try:
            data[-length:].decode()
        except UnicodeDecodeError as error:
            # Python's incremental decoder would also wait after the beginning of a surrogate, which
            # no further byte can turn into a character.
            if error.reason == "unexpected end of data":
                return len(data[-length:]) - error.start
    return 0


def split_incomplete(strings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Split off the bytes that `incomplete_length` counts, with TensorFlow ops.

    Args:
        strings: `(batch,)` strings.

    Returns:
        `(complete, rest)`: `(batch,)` strings; joined, they equal `strings`.
    """
    filled = tf.strings.join(["   ", strings])  # at least three bytes
    last_three = tf.io.decode_raw(tf.strings.substr(filled, -3, 3), tf.uint8)
    third, second, first = tf.unstack(tf.cast(last_three, tf.int32), 3, axis=-1)  # from the end
    begins = (first >= 0xC2) & (first <= 0xF4)
    one_in = (second >= 0xE0) & (second <= 0xF4) & _may_follow(second, first)
    two_in = (third >= 0xF0) & (third <= 0xF4) & _may_follow(third, second)
    two_in &= (first >= 0x80) & (first <= 0xBF)
    num_bytes = tf.where(begins, 1, tf.where(one_in, 2, tf.where(two_in, 3, 0)))
    cut = tf.strings.length(strings) - num_bytes
    return tf.strings.substr(strings, tf.zeros_like(cut), cut), tf.strings.substr(
        strings, cut, num_bytes
    )


def _may_follow(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Return whether a second byte may follow a first byte.

    The ranges are from table 3-7 of the Unicode Standard.
    """
    lowest = tf.where(first == 0xE0, 0xA0, tf.where(first == 0xF0, 0x90, 0x80))
    highest = tf.where(first == 0xED, 0x9F, tf.where(first == 0xF4, 0x8F, 0xBF))
    return (second >= lowest) & (second <= highest)
