"""Tokenizers: text to integer ids and back, in Python and in a TensorFlow graph."""

from gpt_keras.tokenizers.byte_pair import BytePairTokenizer
from gpt_keras.tokenizers.character import CharacterTokenizer
from gpt_keras.tokenizers.gpt1 import GPT1Tokenizer
from gpt_keras.tokenizers.loading import load
from gpt_keras.tokenizers.metaspace import MetaspaceTokenizer
from gpt_keras.tokenizers.sentencepiece import SentencePieceTokenizer
from gpt_keras.tokenizers.tokenizer import Tokenizer

__all__ = [
    "BytePairTokenizer",
    "CharacterTokenizer",
    "GPT1Tokenizer",
    "MetaspaceTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "load",
]
