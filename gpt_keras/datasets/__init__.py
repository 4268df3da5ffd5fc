"""Corpora, and `tf.data` pipelines for `model.fit`."""

from gpt_keras.datasets import corpora
from gpt_keras.datasets.documents import digest
from gpt_keras.datasets.rows import padded
from gpt_keras.datasets.windows import language_modeling

__all__ = ["corpora", "digest", "language_modeling", "padded"]
