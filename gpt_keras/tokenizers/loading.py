"""Reading back what `Tokenizer.save` wrote."""

import json
import os
from pathlib import Path

from gpt_keras.tokenizers.byte_pair import BytePairTokenizer
from gpt_keras.tokenizers.character import CharacterTokenizer
from gpt_keras.tokenizers.tokenizer import FILE_NAME, Tokenizer


def load(path: str | os.PathLike) -> Tokenizer:
    """Loads a tokenizer.

    Args:
        path: A file written by `Tokenizer.save` or Hugging Face's `tokenizer.json` of a
            byte-level BPE tokenizer; or the folder that holds a `tokenizer.json`.

    Returns:
        A `BytePairTokenizer` or a `CharacterTokenizer`, whichever the content is.

    Raises:
        ValueError: If there is no such file, or its content is not a tokenizer.

    Example:
        >>> import tempfile
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = tokenizer.save(folder)
        ...     gk.tokenizers.load(folder) == tokenizer
        True
    """
    path = Path(path)
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"`path`: there is no tokenizer file {str(file)!r}.")
    try:
        text = file.read_bytes().decode("utf-8")
        content = json.loads(text)
    except ValueError as error:  # not UTF-8 or not JSON; both are subclasses
        raise ValueError(f"{str(file)!r} is not a tokenizer file: {error}.") from error
    try:
        return _tokenizer_class(content).from_json(text)
    # The engine raises bare Exception where a part is missing or of the wrong type.
    except Exception as error:
        raise ValueError(f"{str(file)!r} is not a tokenizer file: {error}") from error


def _tokenizer_class(content: object) -> type[BytePairTokenizer] | type[CharacterTokenizer]:
    if isinstance(content, dict):
        if content.get("type") == "CharacterTokenizer":
            return CharacterTokenizer
        if isinstance(content.get("model"), dict):
            return BytePairTokenizer
    raise ValueError("it holds neither a CharacterTokenizer nor a byte-level BPE `model`.")
