"""Corpora, and `tf.data` pipelines that feed `model.fit`.

The functions `language_modeling` and `padded` hide the modules of the same names, on purpose:
`gpt_keras.datasets.language_modeling(...)` is the call.
"""

from gpt_keras.datasets import corpora
from gpt_keras.datasets.documents import digest
from gpt_keras.datasets.language_modeling import language_modeling
from gpt_keras.datasets.padded import padded

__all__ = ["corpora", "digest", "language_modeling", "padded"]
