"""Corpora, and `tf.data` pipelines for `model.fit`."""

from gpt_keras.corpus import digest
from gpt_keras.datasets import corpora
from gpt_keras.datasets.classification_data import (
    ClassificationData,
    Conflict,
    DataReport,
    classification,
)
from gpt_keras.datasets.conversation_data import (
    ConversationData,
    ConversationReport,
    conversations,
)
from gpt_keras.datasets.labeled_texts import LabeledTexts
from gpt_keras.datasets.masked_sequences import MaskedSequences
from gpt_keras.datasets.preference_data import PreferenceData, PreferenceReport, preferences
from gpt_keras.datasets.preference_pairs import PreferencePairs
from gpt_keras.datasets.prompt_data import prompted
from gpt_keras.datasets.prompt_task import PromptExample, PromptTask
from gpt_keras.datasets.rows import padded
from gpt_keras.datasets.table_text import TableRows, table_rows
from gpt_keras.datasets.windows import language_modeling

__all__ = [
    "ClassificationData",
    "Conflict",
    "ConversationData",
    "ConversationReport",
    "DataReport",
    "LabeledTexts",
    "MaskedSequences",
    "PreferenceData",
    "PreferencePairs",
    "PreferenceReport",
    "PromptExample",
    "PromptTask",
    "TableRows",
    "classification",
    "conversations",
    "corpora",
    "digest",
    "language_modeling",
    "padded",
    "preferences",
    "prompted",
    "table_rows",
]
