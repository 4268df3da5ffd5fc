"""Tokenizer settings in the other files of a Hugging Face folder.

These files name the tokens that begin and end a text, and the added tokens. The vocabulary is in a
file of its own, such as `tokenizer.json`.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from gpt_keras.tokenizers.added_tokens import AddedToken
from gpt_keras.tokenizers.tokenizer import Tokenizer
from gpt_keras.tokenizers.vocabulary_files import naming

# In the order of precedence: the first file with a setting decides.
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
GENERATION_CONFIG = "generation_config.json"
CONFIG = "config.json"
_TOKENIZER_FILES = (TOKENIZER_CONFIG, SPECIAL_TOKENS)
_MODEL_FILES = (GENERATION_CONFIG, CONFIG)


class FolderSettings(NamedTuple):
    """The tokenizer settings of a folder.

    A setting is None or empty if no file of the folder has it.

    Attributes:
        start_of_text: The text of the token that begins a text.
        end_of_text: The text of the token that ends a text.
        adds_start_of_text: True if prompts begin with the start of text.
        start_ids: The ids of the token that begins a text, from the model's settings.
        end_ids: The ids of the tokens that end a text, from the model's settings.
        added_tokens: Tokens that the vocabulary file may lack.
    """

    start_of_text: str | None = None
    end_of_text: str | None = None
    adds_start_of_text: bool | None = None
    start_ids: tuple[int, ...] = ()
    end_ids: tuple[int, ...] = ()
    added_tokens: tuple[AddedToken, ...] = ()

    def apply(self, tokenizer: Tokenizer) -> Tokenizer:
        """Return a copy of a tokenizer with these settings.

        Args:
            tokenizer: The tokenizer from the vocabulary file of the folder.

        Returns:
            The tokenizer with the added tokens, the start of text and the end of text.

        Raises:
            ValueError: An added token has an id of the vocabulary, or a tokenizer of this kind
                cannot have added tokens or other tokens at the start and end of text.
        """
        tokenizer = tokenizer.with_added_tokens(self.added_tokens)
        start = self._known(tokenizer, self.start_of_text, self.start_ids)
        adds = self.adds_start_of_text
        if adds is None and tokenizer.adds_start_of_text:
            start = None  # the start of text that the tokenizer's own file adds takes precedence
        adds = adds if start or tokenizer.start_of_text_id is not None else None
        return tokenizer.with_boundaries(
            start, self._known(tokenizer, self.end_of_text, self.end_ids), adds
        )

    def _known(self, tokenizer: Tokenizer, text: str | None, ids: tuple[int, ...]) -> str | None:
        """Return the token with this text, or the first special token of these ids."""
        if text is not None and tokenizer.token_id(text) is not None:
            return text
        # Only special tokens are accepted, because the defaults of transformers name ids that have
        # another meaning in many vocabularies.
        special = {i: token for token, i in tokenizer.special_tokens.items()}
        return next((special[i] for i in ids if i in special), None)


def read_folder_settings(folder: Path) -> FolderSettings:
    """Read the tokenizer settings of a folder.

    Args:
        folder: The folder. Files that it lacks are skipped.

    Returns:
        The settings.

    Raises:
        ValueError: A file is damaged; the message names it.
    """
    files = {name: _read(folder / name) for name in (*_TOKENIZER_FILES, *_MODEL_FILES)}
    config = files[TOKENIZER_CONFIG]
    tokens = [files[name] for name in _TOKENIZER_FILES]
    models = [files[name] for name in _MODEL_FILES]
    adds = config.get("add_bos_token")
    added = _read(folder / "added_tokens.json")
    with naming(folder / TOKENIZER_CONFIG):
        added_tokens = _added_tokens(config, added)
    return FolderSettings(
        start_of_text=_first_text(tokens, "bos_token"),
        end_of_text=_first_text(tokens, "eos_token"),
        adds_start_of_text=adds if isinstance(adds, bool) else None,
        start_ids=_first_ids(models, "bos_token_id"),
        end_ids=_first_ids(models, "eos_token_id"),
        added_tokens=added_tokens,
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON or not UTF-8
        raise ValueError(f"{str(path)!r} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} must hold an object, not a {type(content).__name__}.")
    return content


def _first_text(files: list[dict[str, Any]], name: str) -> str | None:
    for content in files:
        token = content.get(name)
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str) and text:
            return text
    return None


def _first_ids(files: list[dict[str, Any]], name: str) -> tuple[int, ...]:
    for content in files:
        ids = content.get(name)
        ids = ids if isinstance(ids, list) else [ids]
        ids = tuple(i for i in ids if isinstance(i, int) and not isinstance(i, bool))
        if ids:
            return ids
    return ()


def _added_tokens(config: dict[str, Any], added: dict[str, Any]) -> tuple[AddedToken, ...]:
    found = {
        token_id: AddedToken(token_id, text)
        for text, token_id in added.items()
        if isinstance(token_id, int)
    }
    for token_id, token in (config.get("added_tokens_decoder") or {}).items():
        found[int(token_id)] = AddedToken(
            int(token_id),
            token["content"],
            bool(token.get("special", True)),
            bool(token.get("lstrip")),
            bool(token.get("rstrip")),
        )
    return tuple(found[token_id] for token_id in sorted(found))
