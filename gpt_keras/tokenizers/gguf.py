"""The tokenizer in a GGUF file, the format of llama.cpp."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from tokenizers import normalizers, pre_tokenizers

from gpt_keras.gguf_file import read_header
from gpt_keras.tokenizers.byte_level import engine_from_vocabulary
from gpt_keras.tokenizers.byte_pair import BytePairTokenizer
from gpt_keras.tokenizers.vocabulary_files import naming

# What `tokenizer.ggml.token_type` says of a token.
_CONTROL, _USER_DEFINED = 3, 4

_BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


class _Split(NamedTuple):
    pre_tokenizer: pre_tokenizers.PreTokenizer = _BYTE_LEVEL
    normalizer: normalizers.Normalizer | None = None
    ignore_merges: bool = False


def _after_gpt4(digits: str) -> pre_tokenizers.PreTokenizer:
    """The split of GPT-4's tokenizer, which others took over with other groups of digits."""
    expression = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + digits
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    split = pre_tokenizers.Split(tokenizers.Regex(expression), "isolated")
    no_split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([split, no_split])


_GPT2 = _Split()
_SINGLE_DIGITS = _Split(
    pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _BYTE_LEVEL])
)

# How text is split, by what `tokenizer.ggml.pre` says; as the tokenizer.json of these models does.
_SPLITS = {
    "default": _GPT2,
    "gpt-2": _GPT2,
    "phi-2": _GPT2,
    "smollm": _SINGLE_DIGITS,
    "starcoder": _SINGLE_DIGITS,
    # Llama 3 takes a word that is a token as it is, even where no merges lead to it.
    "llama-bpe": _Split(_after_gpt4(r"\p{N}{1,3}"), ignore_merges=True),
    "qwen2": _Split(_after_gpt4(r"\p{N}"), normalizer=normalizers.NFC()),
}


def load(path: Path) -> BytePairTokenizer:
    """Loads the tokenizer of a GGUF file.

    Args:
        path: The file.

    Returns:
        The tokenizer. Control tokens are special; user-defined ones are found in every text.

    Raises:
        ValueError: If the file is damaged, or its tokenizer is not byte-level BPE with a split
            into words that is known here; names the file.
    """
    with naming(path):
        return _tokenizer(read_header(path).metadata)


def _tokenizer(metadata: dict[str, Any]) -> BytePairTokenizer:
    kind = _text(metadata, "model")
    if kind != "gpt2":
        raise ValueError(
            f"its tokenizer is of the kind {kind!r} (`tokenizer.ggml.model`), but only byte-level "
            "BPE, 'gpt2', can be read from a GGUF file"
            + (", not SentencePiece" if kind == "llama" else "")
        )
    # Files from before there was this key are GPT-2's or had no split known to the converter.
    split = _text(metadata, "pre") if "tokenizer.ggml.pre" in metadata else "default"
    if split not in _SPLITS:
        raise ValueError(
            f"its way to split text into words (`tokenizer.ggml.pre`) is {split!r}, but must be "
            f"one of {', '.join(_SPLITS)}"
        )
    tokens = _texts(metadata, "tokens")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        twice = next(token for i, token in enumerate(tokens) if vocabulary[token] != i)
        raise ValueError(f"the token {twice[:60]!r} stands in it twice")
    merges = [tuple(merge.split(" ")) for merge in _texts(metadata, "merges")]
    wrong = next((merge for merge in merges if len(merge) != 2), None)
    if wrong:
        raise ValueError(f"a merge must be two tokens, but one is {' '.join(wrong)[:60]!r}")
    special, added = None, []
    if "tokenizer.ggml.token_type" in metadata:
        types = _types(metadata, len(tokens))
        special = [token for token, type_ in zip(tokens, types, strict=True) if type_ == _CONTROL]
        added = [t for t, type_ in zip(tokens, types, strict=True) if type_ == _USER_DEFINED]
    engine = engine_from_vocabulary(vocabulary, merges, special, added)
    engine.pre_tokenizer = _SPLITS[split].pre_tokenizer
    engine.normalizer = _SPLITS[split].normalizer
    engine.model.ignore_merges = _SPLITS[split].ignore_merges
    return BytePairTokenizer(engine)


def _text(metadata: dict[str, Any], name: str) -> str:
    value = metadata[f"tokenizer.ggml.{name}"]
    if not isinstance(value, bytes):
        raise ValueError(f"`tokenizer.ggml.{name}` is no text")
    return value.decode("utf-8")


def _texts(metadata: dict[str, Any], name: str) -> list[str]:
    values = metadata[f"tokenizer.ggml.{name}"]
    if not isinstance(values, list) or not all(isinstance(value, bytes) for value in values):
        raise ValueError(f"`tokenizer.ggml.{name}` is no list of texts")
    return [value.decode("utf-8") for value in values]


def _types(metadata: dict[str, Any], num_tokens: int) -> Sequence[int]:
    types = metadata["tokenizer.ggml.token_type"]
    if not isinstance(types, np.ndarray) or types.shape != (num_tokens,):
        raise ValueError(f"`tokenizer.ggml.token_type` is no list of {num_tokens} numbers")
    return types.tolist()
