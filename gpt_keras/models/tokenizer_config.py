"""The tokenizer in the config of a model, or in a separate file."""

import contextlib
import contextvars
import pathlib
import tempfile
from collections.abc import Iterator

from gpt_keras import tokenizers
from gpt_keras.tokenizers.tokenizer import FILE_NAME

_BESIDE_CONFIG = contextvars.ContextVar("tokenizer_beside_config", default=False)


@contextlib.contextmanager
def tokenizer_beside_config() -> Iterator[None]:
    """Leave the tokenizer out of each config that is made inside the block.

    Formats that save the tokenizer in a separate file use this. `keras.models.clone_model` and
    `to_json` have only the config, so there the config includes the tokenizer.
    """
    token = _BESIDE_CONFIG.set(True)
    try:
        yield
    finally:
        _BESIDE_CONFIG.reset(token)


def serialized_tokenizer(tokenizer: tokenizers.Tokenizer | None) -> dict[str, str]:
    """Return the tokenizer's entry of a model's config.

    Returns:
        `{"tokenizer": JSON}`; empty without a tokenizer and inside `tokenizer_beside_config`.
    """
    if tokenizer is None or _BESIDE_CONFIG.get():
        return {}
    return {"tokenizer": tokenizer.to_json()}


def tokenizer_from_json(text: str) -> tokenizers.Tokenizer:
    """Return the tokenizer of a JSON text, the result of its `to_json`."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / FILE_NAME
        path.write_text(text, encoding="utf-8")
        return tokenizers.load(path)
