"""A vocabulary and its merges in files of their own, and checks that they are whole.

Hugging Face names these files `vocab.json` and `merges.txt`, OpenAI `encoder.json` and `vocab.bpe`.
The first is a JSON object of tokens and ids; the second has a line for each merge, the two tokens
between a space, the earliest learned first, after a first line that tells the version.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt_keras.atomic import atomic_file
from gpt_keras.tokenizers.texts import is_unicode

VOCABULARY_FILE = "vocab.json"
MERGES_FILE = "merges.txt"

# The names that a vocabulary and its merges have in the folders of others.
FILE_PAIRS = (
    (VOCABULARY_FILE, MERGES_FILE),
    ("encoder.json", "vocab.bpe"),  # GPT-2, as OpenAI published it
    ("encoder_bpe_40000.json", "vocab_40000.bpe"),  # GPT-1
)

_VERSION = "#version"

# The largest vocabularies in use (260,000 tokens in many languages) take half of that. Beyond, a
# file is of another kind, and reading it would take many times its size in memory.
_MAX_BYTES = 1 << 26

_MAX_MESSAGE = 300


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Turn any error in reading a file into a `ValueError` that names the file."""
    try:
        yield
    except (OSError, ImportError):
        raise
    # The engine raises bare Exception, json RecursionError. Without the cause, which may show the
    # whole file.
    except Exception as error:
        message = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        message = message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}..."
        raise ValueError(f"{str(path)!r} is not a tokenizer file: {message.rstrip('.')}.") from None


def read_text_file(path: Path) -> str:
    """Read a UTF-8 file that is small enough to be part of a tokenizer.

    Raises:
        ValueError: It is empty, too large or not UTF-8.
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
        ValueError: It is no JSON, not an object, or a key stands twice in an object.
    """
    text = read_text_file(path)
    # Looked at before the rest is made into Python objects, which may be many.
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
        raise ValueError(f"the key {_shown(twice)} stands twice in one JSON object")
    return result


def read_vocabulary(path: Path) -> dict[str, int]:
    """Read a JSON object of tokens and ids, and check it as `check_vocabulary` does."""
    vocabulary = read_json_object(path)
    check_vocabulary(vocabulary)
    return vocabulary


def read_merges(path: Path) -> list[tuple[str, str]]:
    """Read a file of merges.

    Args:
        path: The file.

    Returns:
        The pairs of tokens, the earliest learned first.

    Raises:
        ValueError: It is empty or not UTF-8, or a line has not two tokens.
    """
    merges = []
    for number, line in enumerate(read_text_file(path).split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line or (number == 1 and line.startswith(_VERSION)):
            continue
        fields = line.split(" ")
        if len(fields) != 2 or not all(fields):
            raise ValueError(
                f"line {number} must be two tokens with a space between, but is {_shown(line)}"
            )
        merges.append((fields[0], fields[1]))
    return merges


def check_vocabulary(vocabulary: Mapping[str, int]) -> None:
    """Check that tokens are Unicode and the ids 0 to n - 1, each once.

    Raises:
        ValueError: Otherwise; tells one token or id that is wrong.
    """
    if not isinstance(vocabulary, Mapping) or not vocabulary:
        raise ValueError(
            f"the vocabulary must be a table of tokens and ids, but is {_shown(vocabulary)}"
        )
    for token, i in vocabulary.items():
        if not isinstance(token, str) or not is_unicode(token):
            raise ValueError(f"tokens must be valid Unicode text, but {_shown(token)} is not")
        if not isinstance(i, int) or isinstance(i, bool) or i < 0:
            raise ValueError(
                f"ids must be integers from 0 on, but that of {_shown(token)} is {_shown(i)}"
            )
    tokens: dict[int, str] = {}
    for token, i in vocabulary.items():
        if i in tokens:
            raise ValueError(f"{_shown(tokens[i])} and {_shown(token)} have the same id {i}")
        tokens[i] = token
    missing = next((i for i in range(len(tokens)) if i not in tokens), None)
    if missing is not None:
        raise ValueError(
            f"ids must be 0 to n - 1 without gaps, but of the ids up to {max(tokens)} the id "
            f"{missing} is missing"
        )


def check_merges(vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> None:
    """Check that the vocabulary holds both tokens of each merge and what they are merged to.

    Raises:
        ValueError: Otherwise; tells the first merge that is wrong.
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
    """Write `vocab.json` and `merges.txt`, both or none.

    Args:
        folder: The folder, made if missing.
        vocabulary: All tokens, special ones too, and their ids.
        merges: The pairs of tokens, the earliest learned first.

    Returns:
        The path of the folder.

    Raises:
        ValueError: A token of a merge holds white space, which the format has no way to write.
    """
    folder = Path(folder)
    for token in (token for merge in merges for token in merge):
        if token.split() != [token]:
            raise ValueError(f"{MERGES_FILE} cannot hold the token {_shown(token)} with its space.")
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
