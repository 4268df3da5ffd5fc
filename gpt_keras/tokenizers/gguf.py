"""The tokenizer of a GGUF file, the format of llama.cpp."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import normalizers, pre_tokenizers

from gpt_keras.gguf_file import read_header
from gpt_keras.tokenizers.byte_level import engine_from_vocabulary
from gpt_keras.tokenizers.byte_pair import BytePairTokenizer
from gpt_keras.tokenizers.metaspace import MetaspaceTokenizer
from gpt_keras.tokenizers.splits import (
    GPT4O_SPLIT,
    case_split,
    gpt2_split,
    gpt4_split,
    single_digits_split,
)
from gpt_keras.tokenizers.tokenizer import Tokenizer
from gpt_keras.tokenizers.vocabulary_files import naming

# Values of `tokenizer.ggml.token_type`.
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4


class _Split(NamedTuple):
    """A split of text into words, with the tokenizer settings that belong to it.

    Attributes:
        pre_tokenizer: The split.
        normalizer: The normalization of text before the split, or None.
        ignore_merges: True if a word that is a token is encoded as this token, even if no merges
            lead to it.
        adds_start: True if prompts begin with the start of text by default. The file can override
            this.
    """

    pre_tokenizer: pre_tokenizers.PreTokenizer
    normalizer: normalizers.Normalizer | None = None
    ignore_merges: bool = False
    adds_start: bool = False


_GPT2 = _Split(gpt2_split())
_SINGLE_DIGITS = _Split(single_digits_split())
_THREE_DIGITS = _Split(gpt4_split(r"\p{N}{1,3}"))
_LLAMA3 = _THREE_DIGITS._replace(ignore_merges=True, adds_start=True)
_QWEN2 = _Split(gpt4_split(r"\p{N}"), normalizer=normalizers.NFC())
_TEKKEN = _Split(case_split(r"\p{N}", contractions=False), ignore_merges=True, adds_start=True)
_GPT4O = _Split(GPT4O_SPLIT)

# The values of `tokenizer.ggml.pre`: all names that llama.cpp has for each split.
_NAMES = {
    "gpt-2 default phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum "
    "modern-bert mpt olmo jais trillion granite-docling": _GPT2,
    "smollm starcoder refact command-r codeshell exaone minerva-7b": _SINGLE_DIGITS,
    "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano": _LLAMA3,
    "smaug-bpe dbrx glm4 chatglm-bpe": _THREE_DIGITS,
    "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez": _QWEN2,
    "qwen35": _Split(gpt4_split(r"\p{N}", marks=True), normalizer=normalizers.NFC()),
    "stablelm2 hunyuan solar-open grok-2": _Split(gpt4_split(r"\p{N}")),
    "tekken": _TEKKEN,
    "gpt-4o llama4": _GPT4O,
}
_SPLITS = {name: split for names, split in _NAMES.items() for name in names.split()}


def load(path: Path) -> BytePairTokenizer | MetaspaceTokenizer:
    """Load the tokenizer of a GGUF file.

    Args:
        path: The file.

    Returns:
        The tokenizer. Control tokens are special. Every text is searched for user-defined tokens.

    Raises:
        ValueError: The file is damaged, or its tokenizer is neither byte-level BPE with a supported
            split into words nor a SentencePiece model. The message names the file.
    """
    with naming(path):
        metadata = read_header(path).metadata
        kind = _text(metadata, "model")
        if kind not in _KINDS:
            raise ValueError(
                "`tokenizer.ggml.model` must be 'gpt2' (byte-level BPE) or 'llama' "
                f"(SentencePiece), got {kind!r}"
            )
        tokenizer, adds_start = _KINDS[kind](metadata)
        return _with_boundaries(tokenizer, metadata, adds_start)


def _with_boundaries(tokenizer: Tokenizer, metadata: dict[str, Any], adds_start: bool) -> Tokenizer:
    """Return the tokenizer with the file's start of text and end of text."""
    tokens = _texts(metadata, "tokens")
    names = []
    for name in ("bos", "eos"):
        token_id = metadata.get(f"tokenizer.ggml.{name}_token_id")
        if token_id is not None and not 0 <= int(token_id) < len(tokens):
            raise ValueError(
                f"`tokenizer.ggml.{name}_token_id` must be from 0 to {len(tokens) - 1}, "
                f"got {token_id}"
            )
        names.append(None if token_id is None else tokens[int(token_id)])
    start, end = names
    adds_start = bool(metadata.get("tokenizer.ggml.add_bos_token", adds_start))
    if start == end and not adds_start:
        start = None  # files of models without a start of text name the end of text twice
    has_start = start is not None or tokenizer.start_of_text_id is not None
    return tokenizer.with_boundaries(start, end, adds_start and has_start)


def _sentencepiece(metadata: dict[str, Any]) -> tuple[MetaspaceTokenizer, bool]:
    """Return a SentencePiece tokenizer, and whether it adds `<s>` by default."""
    tokens = _tokens(metadata)
    scores = metadata["tokenizer.ggml.scores"]
    if not isinstance(scores, np.ndarray) or scores.shape != (len(tokens),):
        raise ValueError(f"`tokenizer.ggml.scores` must be a list of {len(tokens)} numbers")
    types = _types(metadata, len(tokens))
    special, added = (
        {tokens[i]: i for i, type_ in enumerate(types) if type_ in wanted}
        for wanted in ((_UNKNOWN, _CONTROL), (_USER_DEFINED,))
    )
    # With "prepend", each part of a text between special tokens gets a space in front.
    prefix = "prepend" if metadata.get("tokenizer.ggml.add_space_prefix", True) else "never"
    tokenizer = MetaspaceTokenizer.from_scores(tokens, scores.tolist(), special, added, prefix)
    return tokenizer, True


def _byte_level(metadata: dict[str, Any]) -> tuple[BytePairTokenizer, bool]:
    """Return the tokenizer, and whether it adds the start of text by default."""
    # Older files lack this key. Their split is GPT-2's, or the converter did not recognize it.
    split = _text(metadata, "pre") if "tokenizer.ggml.pre" in metadata else "default"
    if split not in _SPLITS:
        raise ValueError(
            "`tokenizer.ggml.pre` (the split of text into words) must be one of "
            f"{', '.join(names.split()[0] for names in _NAMES)}, or another of llama.cpp's names "
            f"for one of these, got {split!r}"
        )
    tokens = _tokens(metadata)
    vocabulary = {token: i for i, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ")) for merge in _texts(metadata, "merges")]
    wrong = next((merge for merge in merges if len(merge) != 2), None)
    if wrong:
        raise ValueError(f"a merge must be two tokens, got {' '.join(wrong)[:60]!r}")
    special, added = None, []
    if "tokenizer.ggml.token_type" in metadata:
        types = _types(metadata, len(tokens))
        special = [token for token, type_ in zip(tokens, types, strict=True) if type_ == _CONTROL]
        added = [t for t, type_ in zip(tokens, types, strict=True) if type_ == _USER_DEFINED]
    engine = engine_from_vocabulary(vocabulary, merges, special, added)
    engine.pre_tokenizer = _SPLITS[split].pre_tokenizer
    engine.normalizer = _SPLITS[split].normalizer
    engine.model.ignore_merges = _SPLITS[split].ignore_merges
    return BytePairTokenizer(engine), _SPLITS[split].adds_start


_KINDS = {"gpt2": _byte_level, "llama": _sentencepiece}


def _tokens(metadata: dict[str, Any]) -> list[str]:
    tokens = _texts(metadata, "tokens")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        twice = next(token for i, token in enumerate(tokens) if vocabulary[token] != i)
        raise ValueError(f"`tokenizer.ggml.tokens` must be distinct, but has {twice[:60]!r} twice")
    return tokens


def _text(metadata: dict[str, Any], name: str) -> str:
    value = metadata[f"tokenizer.ggml.{name}"]
    if not isinstance(value, bytes):
        raise ValueError(f"`tokenizer.ggml.{name}` must be a text")
    return value.decode("utf-8")


def _texts(metadata: dict[str, Any], name: str) -> list[str]:
    values = metadata[f"tokenizer.ggml.{name}"]
    if not isinstance(values, list) or not all(isinstance(value, bytes) for value in values):
        raise ValueError(f"`tokenizer.ggml.{name}` must be a list of texts")
    return [value.decode("utf-8") for value in values]


def _types(metadata: dict[str, Any], num_tokens: int) -> Sequence[int]:
    types = metadata["tokenizer.ggml.token_type"]
    if not isinstance(types, np.ndarray) or types.shape != (num_tokens,):
        raise ValueError(f"`tokenizer.ggml.token_type` must be a list of {num_tokens} numbers")
    return types.tolist()
