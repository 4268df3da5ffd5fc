"""A byte-level tokenizer as metadata of a GGUF file, which `gk.tokenizers.load` reads back."""

import json
import pathlib
import tempfile
from typing import Any

from gpt_keras import tokenizers
from gpt_keras.convert.gguf.writer import open_writer

_PREFIX = "tokenizer.ggml."

# Ways to split text into words, as llama.cpp calls them, that are tried in this order.
_SPLITS = ("gpt-2", "smollm", "llama-bpe", "qwen2")

# What `tokenizer.ggml.token_type` says of a token.
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5


# What llama.cpp calls the tokens at which a text, or a turn of a conversation, ends.
END_TOKENS = ("eos_token", "eot_token", "eom_token")


def named_tokens(metadata: dict[str, Any]) -> dict[str, tuple[int, str]]:
    """Return id and text of the tokens that begin and end texts, by their names in templates.

    Raises:
        ValueError: an id is not that of a token.
    """
    tokens = metadata.get(f"{_PREFIX}tokens", [])
    named = {}
    for name in ("bos_token", *END_TOKENS):
        token_id = metadata.get(f"{_PREFIX}{name}_id")
        if token_id is not None:
            if tokens and not 0 <= token_id < len(tokens):
                raise ValueError(f"`{_PREFIX}{name}_id` is {token_id}, which is no token")
            text = tokens[token_id].decode("utf-8") if tokens else ""
            named[name] = int(token_id), text
    return named


def tokenizer_metadata(tokenizer, vocabulary_size: int) -> dict[str, Any]:
    """Return the metadata of a tokenizer.

    Args:
        tokenizer: a `BytePairTokenizer`.
        vocabulary_size: number of ids of the model; ids that the tokenizer lacks get tokens
            `[PAD5]`, ..., because llama.cpp wants one for each.

    Raises:
        ValueError: the tokenizer is of another kind, or splits text in a way that has no name.
    """
    if not isinstance(tokenizer, tokenizers.BytePairTokenizer):
        raise ValueError(
            "`model` must have a byte-level tokenizer, or None, to be written to a GGUF file; its "
            f"own is a {type(tokenizer).__name__}."
        )
    content = json.loads(tokenizer.to_json())
    tokens = [f"[PAD{i}]" for i in range(vocabulary_size)]
    types = [_UNUSED] * vocabulary_size
    for token, i in content["model"]["vocab"].items():
        tokens[i], types[i] = token, _NORMAL
    for token in content["added_tokens"]:
        i = token["id"]
        tokens[i], types[i] = token["content"], _CONTROL if token["special"] else _USER_DEFINED
    merges = content["model"]["merges"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    if not merges:  # the format has no empty lists
        raise ValueError("`model` must have a tokenizer with merges to be written to a GGUF file.")
    metadata = _byte_level(_split_name(content), tokens, types, merges)
    if tokenizer.end_of_text_id is not None:
        metadata[f"{_PREFIX}bos_token_id"] = tokenizer.end_of_text_id
    return metadata | {f"{_PREFIX}add_bos_token": False}


def _byte_level(split, tokens, types, merges):
    values = {"model": "gpt2", "pre": split, "tokens": tokens, "merges": merges}
    return {_PREFIX + key: value for key, value in (values | {"token_type": types}).items()}


def _split_name(content):
    """Find the name from which reading a file makes the split that a `tokenizer.json` has."""
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
        "`model` has a tokenizer that splits text into words in a way that is none of those that "
        f"have a name in GGUF files: {', '.join(_SPLITS)}."
    )


def _split(content):
    """All that decides how a `tokenizer.json` splits text, without settings that do not."""
    parts = [content["pre_tokenizer"], content["normalizer"]]
    parts.append(bool(content["model"].get("ignore_merges")))
    return json.loads(
        json.dumps(parts),
        object_hook=lambda part: {k: v for k, v in part.items() if k != "trim_offsets"},
    )
