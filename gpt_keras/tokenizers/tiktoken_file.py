"""Vocabulary files in tiktoken's format, as of OpenAI's models, Llama 3 and Qwen.

Each line holds the bytes of a token in base64, a space, and the token's rank, which is its id. The
format holds neither the split into words nor the special tokens. This module derives both from the
number of tokens.
"""

import base64
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import tokenizers
from tokenizers import models, pre_tokenizers

from gpt_keras.tokenizers.added_tokens import AddedToken
from gpt_keras.tokenizers.byte_level import byte_characters, new_engine
from gpt_keras.tokenizers.byte_pair import BytePairTokenizer
from gpt_keras.tokenizers.splits import GPT4O_SPLIT, gpt2_split, gpt4_split
from gpt_keras.tokenizers.tokenizer import END_OF_TEXT
from gpt_keras.tokenizers.vocabulary_files import naming, read_text_file

_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n")


class _Kind(NamedTuple):
    pre_tokenizer: pre_tokenizers.PreTokenizer
    special_tokens: Sequence[str] = ()
    start_of_text: str | None = None
    end_of_text: str | None = None


def _llama3_special_tokens() -> list[str]:
    """Return the 256 tokens after Llama 3's vocabulary, named as in its first release."""
    named = {
        0: "<|begin_of_text|>",
        1: "<|end_of_text|>",
        6: "<|start_header_id|>",
        7: "<|end_header_id|>",
        9: "<|eot_id|>",
    }
    others = iter(range(256))
    return [named.get(i) or f"<|reserved_special_token_{next(others)}|>" for i in range(256)]


# Known vocabularies by their number of tokens. Other vocabularies get GPT-4's split, with groups of
# up to three digits.
_KINDS = {
    50256: _Kind(gpt2_split(), [END_OF_TEXT]),  # GPT-2 and GPT-3
    128000: _Kind(
        gpt4_split(r"\p{N}{1,3}"),
        _llama3_special_tokens(),
        "<|begin_of_text|>",
        "<|end_of_text|>",
    ),
    151643: _Kind(gpt4_split(r"\p{N}"), [END_OF_TEXT, "<|im_start|>", "<|im_end|>"]),  # Qwen
    199998: _Kind(GPT4O_SPLIT, [END_OF_TEXT]),  # GPT-4o
}
_OTHER = _Kind(gpt4_split(r"\p{N}{1,3}"))


def is_tiktoken(path: Path) -> bool:
    """Return whether the first line of a file is in tiktoken's format."""
    with path.open("rb") as file:
        return _LINE.fullmatch(file.readline(1 << 12)) is not None


def load(path: Path, added_tokens: Sequence[AddedToken] = ()) -> BytePairTokenizer:
    """Load a vocabulary in tiktoken's format.

    Args:
        path: The file.
        added_tokens: Tokens whose ids follow the vocabulary's ids. Without any, a vocabulary of a
            known size gets its usual special tokens.

    Returns:
        The tokenizer.

    Raises:
        ValueError: A line is damaged, a rank is missing, a token occurs twice, or bytes lack a
            token. The message names the file.
    """
    with naming(path):
        ranks = _read(read_text_file(path))
        kind = _KINDS.get(len(ranks), _OTHER)
        engine = _engine(ranks, kind.pre_tokenizer)
        usual = [AddedToken(len(ranks) + i, token) for i, token in enumerate(kind.special_tokens)]
        tokenizer = BytePairTokenizer(engine).with_added_tokens(added_tokens or usual)
    start, end = (
        token if token in tokenizer.special_tokens else None
        for token in (kind.start_of_text, kind.end_of_text)
    )
    return tokenizer.with_boundaries(start, end, adds_start_of_text=start is not None)


def _read(text: str) -> list[bytes]:
    """Return the tokens in the order of their ranks."""
    ranks = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line:
            continue
        try:
            token, rank = line.split(" ")
            ranks[int(rank)] = base64.b64decode(token, validate=True)
        except ValueError:
            raise ValueError(
                f"line {number} must be base64, a space and a rank, got {line[:60]!r}"
            ) from None
    missing = next((rank for rank in range(len(ranks)) if rank not in ranks), None)
    if missing is not None or len(set(ranks.values())) != len(ranks):
        raise ValueError(
            f"its ranks must be 0 to n - 1, each with a token of its own, but {missing} is missing"
            if missing is not None
            else "a token occurs in it twice"
        )
    return [ranks[rank] for rank in range(len(ranks))]


def _engine(
    tokens: list[bytes], pre_tokenizer: pre_tokenizers.PreTokenizer
) -> tokenizers.Tokenizer:
    characters = byte_characters()
    written = ["".join(characters[byte] for byte in token) for token in tokens]
    rank = {token: i for i, token in enumerate(tokens)}
    merges, is_complete = [], True
    for i, token in enumerate(tokens):
        parts = _parts(token, rank, i)
        if len(parts) == 2:
            merges.append(tuple("".join(characters[b] for b in part) for part in parts))
        is_complete &= len(parts) <= 2
    engine = new_engine(models.BPE({token: i for i, token in enumerate(written)}, merges))
    # tiktoken encodes a word that is a token as that token, even if no merges lead to it.
    engine.model.ignore_merges = not is_complete
    engine.pre_tokenizer = pre_tokenizer
    return engine


def _parts(token: bytes, rank: dict[bytes, int], limit: int) -> list[bytes]:
    """Return the parts of a token before its own merge.

    Only merges of lower ranks are applied.
    """
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 1:
        pairs = [rank.get(a + b, limit) for a, b in itertools.pairwise(parts)]
        best = min(range(len(pairs)), key=pairs.__getitem__)
        if pairs[best] >= limit:
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts
