"""Vocabulary and merges in two separate files, with checks that they are complete.

Hugging Face names these files `vocab.json` and `merges.txt`, OpenAI `encoder.json` and `vocab.bpe`.
The first is a JSON object of tokens and ids. The first line of the second holds a version; each
further line is one merge: two tokens with a space between them, the earliest learned merge first.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt_keras.atomic import atomic_file
from gpt_keras.texts import is_unicode

VOCABULARY_FILE = "vocab.json"
MERGES_FILE = "merges.txt"

# Known names of the vocabulary file and the merges file.
FILE_PAIRS = (
    (VOCABULARY_FILE, MERGES_FILE),
    ("encoder.json", "vocab.bpe"),  # GPT-2, as OpenAI published it
    ("encoder_bpe_40000.json", "vocab_40000.bpe"),  # GPT-1
)

_VERSION = "#version"

# The largest vocabularies in use (260,000 tokens in many languages) take half of this. A larger
# file is not a vocabulary, and parsing it would take many times its size in memory.
_MAX_BYTES = 1 << 26

_MAX_MESSAGE = 300


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Turn any error in reading a file into a `ValueError` that names the file."""
    try:
        yield
    except (OSError, ImportError):
        raise
    # The engine raises plain `Exception`, and json `RecursionError`. `from None` drops the cause,
    # which may show the whole file.
    except Exception as error:
        message = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        message = message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}..."
        raise ValueError(f"{str(path)!r} is not a tokenizer file: {message.rstrip('.')}.") from None


def read_text_file(path: Path) -> str:
    """Read a UTF-8 file that is small enough to be part of a tokenizer.

    Raises:
        ValueError: The file is empty, too large or not UTF-8.
    """
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise ValueError(
            f"it has {size / 1e6:.0f} MB, more than the {_MAX_BYTES / 1e6:.0f} MB of any tokenizer"
        )
    if size == 0:
        raise ValueError("it is empty")
    return path.read_bytes().decode("utf-8")


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        ValueError: The file is not JSON or not an object, or a key occurs twice in an object.
    """
    text = read_text_file(path)
    # Check the first character before parsing, which may create very many Python objects.
    first = next((character for character in text if character not in " \t\r\n"), "")
    if first != "{":
        raise ValueError(f"it holds no JSON object, but begins with {first!r}")
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {_shown(twice)} occurs twice in one JSON object")
    return result


def read_vocabulary(path: Path) -> dict[str, int]:
    """Read a JSON object of tokens and ids, and check it with `check_vocabulary`."""
    vocabulary = read_json_object(path)
    check_vocabulary(vocabulary)
    return vocabulary


def read_merges(path: Path) -> list[tuple[str, str]]:
    """Read a merges file.

    Args:
        path: The file.

    Returns:
        The pairs of tokens, the earliest learned first.

    Raises:
        ValueError: The file is empty or not UTF-8, or a line does not hold two tokens.
    """
    merges = []
    for number, line in enumerate(read_text_file(path).split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line or (number == 1 and line.startswith(_VERSION)):
            continue
        fields = line.split(" ")
        if len(fields) != 2 or not all(fields):
            raise ValueError(
                f"line {number} must be two tokens with a space between, got {_shown(line)}"
            )
        merges.append((fields[0], fields[1]))
    return merges


def check_vocabulary(vocabulary: Mapping[str, int]) -> None:
    """Check that tokens are valid Unicode and ids are 0 to n - 1, each once.

    Raises:
        ValueError: A token or an id is wrong. The message names one of them.
    """
    if not isinstance(vocabulary, Mapping) or not vocabulary:
        raise ValueError(
            f"the vocabulary must be a table of tokens and ids, got {_shown(vocabulary)}"
        )
    for token, i in vocabulary.items():
        if not isinstance(token, str) or not is_unicode(token):
            raise ValueError(f"tokens must be valid Unicode text, but {_shown(token)} is not")
        if not isinstance(i, int) or isinstance(i, bool) or i < 0:
            raise ValueError(
                f"ids must be integers from 0 on, but the id of {_shown(token)} is {_shown(i)}"
            )
    tokens: dict[int, str] = {}
    for token, i in vocabulary.items():
        if i in tokens:
            raise ValueError(f"{_shown(tokens[i])} and {_shown(token)} have the same id {i}")
        tokens[i] = token
    missing = next((i for i in range(len(tokens)) if i not in tokens), None)
    if missing is not None:
        raise ValueError(
            f"ids must be 0 to n - 1 without gaps, but they go up to {max(tokens)} and the "
            f"id {missing} is missing"
        )


def check_merges(vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> None:
    """Check that a vocabulary holds both tokens and the result of each merge.

    Raises:
        ValueError: The vocabulary lacks a token. The message names the first merge that needs it.
    """
    for rank, (first, second) in enumerate(merges):
        for token in (first, second, first + second):
            if token not in vocabulary:
                raise ValueError(
                    f"merge {rank + 1}, {_shown(first)} with {_shown(second)}, needs the token "
                    f"{_shown(token)}, which the vocabulary lacks"
                )


def write_vocabulary_files(
    folder: str | os.PathLike, vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]
) -> Path:
    """Write `vocab.json` and `merges.txt`, either both or neither.

    Args:
        folder: The folder; created if missing.
        vocabulary: All tokens, including special tokens, and their ids.
        merges: The pairs of tokens, the earliest learned first.

    Returns:
        The path of the folder.

    Raises:
        ValueError: A token of a merge holds white space, which the format cannot represent.
    """
    folder = Path(folder)
    for token in (token for merge in merges for token in merge):
        if token.split() != [token]:
            raise ValueError(
                f"{MERGES_FILE} cannot hold the token {_shown(token)}: it has white space."
            )
    by_id = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
    lines = [f"{_VERSION}: 0.2", *(f"{first} {second}" for first, second in merges), ""]
    with (
        atomic_file(folder / VOCABULARY_FILE) as vocabulary_file,
        atomic_file(folder / MERGES_FILE) as merges_file,
    ):
        text = json.dumps(by_id, ensure_ascii=False)
        vocabulary_file.write_text(text, encoding="utf-8", newline="\n")
        merges_file.write_text("\n".join(lines), encoding="utf-8", newline="\n")
    return folder


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
