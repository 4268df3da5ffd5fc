"""A tokenizer as metadata of a GGUF file; `gk.tokenizers.load` reads it back."""

import json
import pathlib
import tempfile
from typing import Any

from gpt_keras import tokenizers
from gpt_keras.convert.gguf.writer import open_writer
from gpt_keras.tokenizers.utf8 import BYTE_TOKEN

_PREFIX = "tokenizer.ggml."

# Names of pre-tokenizers in llama.cpp, which are tried in this order.
_SPLITS = (
    "gpt-2",
    "smollm",
    "llama-bpe",
    "qwen2",
    "tekken",
    "gpt-4o",
    "qwen35",
    "smaug-bpe",
    "hunyuan",
)

# Values of `tokenizer.ggml.token_type`.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE_TYPE = 1, 2, 3, 4, 5, 6

# Names in llama.cpp of the tokens that end a text, a turn or a message.
END_TOKENS = ("eos_token", "eot_token", "eom_token")

# The metadata's name of each special token, by its variable in chat templates.
_NAMES = {
    "bos_token": "bos_token",
    **{name: name for name in END_TOKENS},
    "pad_token": "padding_token",
    "unk_token": "unknown_token",
}


def named_tokens(metadata: dict[str, Any]) -> dict[str, tuple[int, str]]:
    """Return id and text of the special tokens, by their variable in chat templates.

    Args:
        metadata: The metadata of a GGUF file.

    Raises:
        ValueError: An id is outside the vocabulary.
    """
    tokens = metadata.get(f"{_PREFIX}tokens", [])
    named = {}
    for name, key in _NAMES.items():
        token_id = metadata.get(f"{_PREFIX}{key}_id")
        if token_id is not None:
            if tokens and not 0 <= token_id < len(tokens):
                raise ValueError(f"`{_PREFIX}{key}_id` is {token_id}, which is no token")
            text = tokens[token_id].decode("utf-8") if tokens else ""
            named[name] = int(token_id), text
    return named


def tokenizer_metadata(tokenizer, vocabulary_size: int) -> dict[str, Any]:
    """Return the GGUF metadata of a tokenizer.

    Args:
        tokenizer: A `BytePairTokenizer` or a `MetaspaceTokenizer`.
        vocabulary_size: Number of token ids of the model. Ids that the tokenizer lacks get tokens
            such as `[PAD5]`, because llama.cpp needs a token for every id.

    Raises:
        ValueError: The tokenizer is of another class, or GGUF cannot represent its pre-tokenizer
            or its merges.
    """
    kinds = (tokenizers.BytePairTokenizer, tokenizers.MetaspaceTokenizer)
    if not isinstance(tokenizer, kinds):
        raise ValueError(
            "`model` must have a BytePairTokenizer, a MetaspaceTokenizer or None to be written to "
            f"a GGUF file, got a {type(tokenizer).__name__}."
        )
    content = json.loads(tokenizer.to_json())
    tokens = [f"[PAD{i}]" for i in range(vocabulary_size)]
    types = [_UNUSED] * vocabulary_size
    for token, i in content["model"]["vocab"].items():
        tokens[i], types[i] = token, _NORMAL
    for token in content["added_tokens"]:
        i = token["id"]
        tokens[i], types[i] = token["content"], _CONTROL if token["special"] else _USER_DEFINED
    if isinstance(tokenizer, tokenizers.BytePairTokenizer):
        metadata = _byte_level_metadata(content, tokens, types)
    else:
        metadata = _sentencepiece_metadata(tokenizer, content, tokens, types)
    # Without this key, llama.cpp would use a default id, which can be any token here.
    start = tokenizer.start_of_text_id
    start = tokenizer.end_of_text_id if start is None else start
    if start is not None:
        metadata[f"{_PREFIX}bos_token_id"] = start
    return metadata | {f"{_PREFIX}add_bos_token": tokenizer.adds_start_of_text}


def _byte_level_metadata(content, tokens, types):
    merges = content["model"]["merges"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    if not merges:  # GGUF has no empty lists
        raise ValueError("`model` must have a tokenizer with merges to be written to a GGUF file.")
    return _byte_level(_split_name(content), tokens, types, merges)


def _byte_level(split, tokens, types, merges):
    values = {"model": "gpt2", "pre": split, "tokens": tokens, "merges": merges}
    return {_PREFIX + key: value for key, value in (values | {"token_type": types}).items()}


def _sentencepiece_metadata(tokenizer, content, tokens, types):
    """Return the metadata of pieces and scores; earlier merges have higher scores."""
    vocabulary = content["model"]["vocab"]
    scores = [0.0] * len(tokens)
    for rank, merge in reversed([*enumerate(content["model"]["merges"])]):
        merged = merge.replace(" ", "") if isinstance(merge, str) else "".join(merge)
        scores[vocabulary[merged]] = -float(rank + 1)
    unknown = content["model"].get("unk_token")
    for token, i in vocabulary.items():
        if BYTE_TOKEN.fullmatch(token):
            types[i] = _BYTE_TYPE
        elif token == unknown:
            types[i] = _UNKNOWN
    special, added = (
        {token: i for i, (token, type_) in enumerate(zip(tokens, types)) if type_ in wanted}
        for wanted in ((_UNKNOWN, _CONTROL), (_USER_DEFINED,))
    )
    written = type(tokenizer).from_scores(tokens, scores, special, added).merges
    if {*written} != {*tokenizer.merges}:
        raise ValueError(
            "`model` must have a tokenizer whose merges follow from its tokens to be written to a "
            "GGUF file, as in a SentencePiece model."
        )
    return {
        f"{_PREFIX}model": "llama",
        f"{_PREFIX}tokens": tokens,
        f"{_PREFIX}scores": scores,
        f"{_PREFIX}token_type": types,
        f"{_PREFIX}add_space_prefix": tokenizer.prefix != "never",
    }


def _split_name(content):
    """Return the GGUF name of the pre-tokenizer in a `tokenizer.json`.

    Each known name is written to a small file and read back, to compare the results.
    """
    tokens = [token for token in content["model"]["vocab"] if len(token) == 1] + ["Ġt"]
    with tempfile.TemporaryDirectory() as folder:
        for name in _SPLITS:
            file = pathlib.Path(folder) / f"{name}.gguf"
            metadata = _byte_level(name, tokens, [_NORMAL] * len(tokens), ["Ġ t"])
            with open_writer(file, "gpt2", metadata, {}):
                pass
            if _split(json.loads(tokenizers.load(file).to_json())) == _split(content):
                return name
    raise ValueError(
        "`model` must have a pre-tokenizer with a name in GGUF files to be written to one. "
        f"Supported are those of {', '.join(_SPLITS)}."
    )


def _split(content):
    """Return the parts of a `tokenizer.json` that affect how it splits a text."""
    parts = [content["pre_tokenizer"], content["normalizer"]]
    parts.append(bool(content["model"].get("ignore_merges")))
    return json.loads(
        json.dumps(parts),
        object_hook=lambda part: {k: v for k, v in part.items() if k != "trim_offsets"},
    )
