"""The tokenizer of a model in the model's config, or beside it in a file of its own."""

import contextlib
import contextvars
import pathlib
import tempfile
from collections.abc import Iterator

from gpt_keras import tokenizers

_BESIDE_CONFIG = contextvars.ContextVar("tokenizer_beside_config", default=False)


@contextlib.contextmanager
def tokenizer_beside_config() -> Iterator[None]:
    """Leave the tokenizer out of configs made inside: it is written to a file of its own.

    Elsewhere, in `keras.models.clone_model` and `to_json`, the config is all that there is.
    """
    token = _BESIDE_CONFIG.set(True)
    try:
        yield
    finally:
        _BESIDE_CONFIG.reset(token)


def serialized_tokenizer(tokenizer: tokenizers.Tokenizer | None) -> dict[str, str]:
    """Return the part of a model's config that holds its tokenizer, which may be empty."""
    if tokenizer is None or _BESIDE_CONFIG.get():
        return {}
    return {"tokenizer": tokenizer.to_json()}


def tokenizer_from_json(text: str) -> tokenizers.Tokenizer:
    """Return the tokenizer whose `to_json` gave a text."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "tokenizer.json"
        path.write_text(text, encoding="utf-8")
        return tokenizers.load(path)
