"""The tokenizer in a GGUF file, the format of llama.cpp.

Only the metadata at the beginning of the file is read, by the few lines below rather than by the
`gguf` package: that one makes arrays of each number, and with one damaged length it goes on to do
so for every byte of the tensors.
"""

import json
import mmap
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpt_keras.tokenizers.byte_level import engine_from_vocabulary
from gpt_keras.tokenizers.byte_pair import BytePairTokenizer
from gpt_keras.tokenizers.vocabulary_files import naming

MAGIC = b"GGUF"
_VERSIONS = (2, 3)

_STRING, _ARRAY = 8, 9
_NUMBERS = {
    **{0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4"},
    **{7: "?", 10: "<u8", 11: "<i8", 12: "<f8"},
}

# What `tokenizer.ggml.token_type` says of a token.
_CONTROL, _USER_DEFINED = 3, 4

_BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}


def _split_by(expression: str) -> dict[str, Any]:
    split = {
        "type": "Split",
        "pattern": {"Regex": expression},
        "behavior": "Isolated",
        "invert": False,
    }
    return {"type": "Sequence", "pretokenizers": [split, _BYTE_LEVEL | {"use_regex": False}]}


def _after_gpt4(digits: str) -> str:
    """The expression of GPT-4's tokenizer, which others took over with other groups of digits."""
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + digits
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


_GPT2 = {"pre_tokenizer": _BYTE_LEVEL}
_SINGLE_DIGITS = {
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL],
    }
}

# How text is split, by what `tokenizer.ggml.pre` says; as the tokenizer.json of these models does.
_SPLITS = {
    "default": _GPT2,
    "gpt-2": _GPT2,
    "phi-2": _GPT2,
    "smollm": _SINGLE_DIGITS,
    "starcoder": _SINGLE_DIGITS,
    # Llama 3 takes a word that is a token as it is, even where no merges lead to it.
    "llama-bpe": {"pre_tokenizer": _split_by(_after_gpt4(r"\p{N}{1,3}")), "ignore_merges": True},
    "qwen2": {"pre_tokenizer": _split_by(_after_gpt4(r"\p{N}")), "normalizer": {"type": "NFC"}},
}


def is_gguf(path: Path) -> bool:
    """Whether a file is a GGUF file, by its name or its first bytes."""
    if path.suffix == ".gguf":
        return True
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


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
        return _tokenizer(read_metadata(path))


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
    content = json.loads(engine_from_vocabulary(vocabulary, merges, special, added).to_str())
    parts = _SPLITS[split]
    content["pre_tokenizer"] = parts["pre_tokenizer"]
    content["normalizer"] = parts.get("normalizer")
    content["model"]["ignore_merges"] = parts.get("ignore_merges", False)
    return BytePairTokenizer.from_json(json.dumps(content))


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


def read_metadata(path: Path) -> dict[str, Any]:
    """Reads the metadata of a GGUF file, versions 2 and 3, little-endian.

    Args:
        path: The file.

    Returns:
        The values by their names: bytes for a text, a number, a numpy array for a list of numbers,
        a list for any other list.

    Raises:
        ValueError: If it is no GGUF file of these versions, or ends too early.
    """
    if path.stat().st_size < len(MAGIC):
        raise ValueError("it is too short for a GGUF file")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = _Reader(data)
        magic = reader.take(len(MAGIC))
        if magic != MAGIC:
            raise ValueError(f"a GGUF file begins with {MAGIC!r}, but this one with {magic!r}")
        version = reader.number(4)
        if version not in _VERSIONS:
            raise ValueError(f"its GGUF version must be 2 or 3, little-endian, but is {version}")
        reader.number(10)  # how many tensors there are
        metadata = {}
        for _ in range(reader.number(10)):
            key = reader.value(_STRING).decode("utf-8")
            if key in metadata:
                raise ValueError(f"the key {key[:60]!r} stands in it twice")
            metadata[key] = reader.value(reader.number(4))
        return metadata


class _Reader:
    """Takes one value after another from the bytes of a GGUF file, and none from beyond its end."""

    def __init__(self, data: mmap.mmap):
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise ValueError("it ends in the middle of its metadata")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, kind: int) -> int | float:
        return self._numbers(kind, 1)[0].item()

    def value(self, kind: int) -> Any:
        if kind in _NUMBERS:
            return self.number(kind)
        if kind == _STRING:
            (size,) = struct.unpack("<Q", self.take(8))  # much faster than `number`
            return self.take(size)
        if kind == _ARRAY:
            kind, length = self.number(4), self.number(10)
            if kind in _NUMBERS:
                return self._numbers(kind, length)
            return [self.value(kind) for _ in range(length)]
        raise ValueError(f"its metadata has a value of the unknown type {kind}")

    def _numbers(self, kind: int, length: int) -> np.ndarray:
        dtype = np.dtype(_NUMBERS[kind])
        return np.frombuffer(self.take(length * dtype.itemsize), dtype)
