"""Commands for tokenizers: train, encode, decode, compare."""

import pathlib
import re
import shutil
import sys
from collections.abc import Sequence
from typing import Literal

from .files import beginning, check_writable, print_written, read_corpus, read_input
from .package import gk

# A copy of the constant in `gpt_keras.tokenizers`, whose import takes seconds.
_END_OF_TEXT = "<|endoftext|>"

# `train` measures bytes per token on this much text; `compare` shows the tokens of this much text.
_MEASURED_CHARACTERS = 100_000
_SHOWN_LINES = 2
_SHOWN_CHARACTERS = 160


def train(
    corpus: str,
    output: str,
    *,
    kind: Literal["byte_pair", "character", "gpt1"] = "byte_pair",
    vocabulary_size: int = 4096,
    min_frequency: int = 2,
    special_tokens: list[str] = [_END_OF_TEXT],  # noqa: B006 - read, never changed
    keep_line_ends: bool = False,
    field: str = "text",
) -> None:
    """Train a tokenizer on text and save it.

    For example: gpt-keras tokenizer train shakespeare my_tokenizer.json --vocabulary-size 2000

    Args:
        corpus: Training text: a bundled corpus (shakespeare or tang_poems), a text file, a table
            (.jsonl, .json, .csv, .tsv or .parquet) with a text in each row, or a directory of
            these. Files may be compressed by gzip (.txt.gz, .jsonl.gz).
        output: New .json file, or a directory for a new tokenizer.json.
        kind: Kind of tokenizer. byte_pair is byte-level BPE, as in GPT-2; character has one token
            per character; gpt1 is BPE on lower-case characters, as in GPT-1.
        vocabulary_size: Vocabulary size, special tokens included. character ignores it and takes
            every character of the corpus.
        min_frequency: Minimum frequency of a pair of tokens to be merged. character ignores it.
        special_tokens: Special tokens. Without a value after the flag, there are none. character
            supports only <|endoftext|>.
        keep_line_ends: Whether to keep CRLF and CR line ends in files instead of converting them
            to LF.
        field: Column of the text, if corpus is a table.
    """
    file = pathlib.Path(output)
    file = file if file.suffix == ".json" else file / "tokenizer.json"
    if file.exists():
        raise ValueError(f"`output` must be new, but {str(file)!r} exists already.")
    check_writable(str(file))
    texts = read_corpus(corpus, field)
    options = {"keep_line_ends": keep_line_ends, "field": field}
    if kind == "character":
        if not set(special_tokens) <= {_END_OF_TEXT}:
            raise ValueError(
                f"`special_tokens` must be {_END_OF_TEXT} or none for character, got "
                f"{special_tokens!r}."
            )
        tokenizer = gk.tokenizers.CharacterTokenizer.train(texts, bool(special_tokens), **options)
    else:
        tokenizers = gk.tokenizers
        trained = tokenizers.GPT1Tokenizer if kind == "gpt1" else tokenizers.BytePairTokenizer
        tokenizer = trained.train(
            texts,
            vocabulary_size,
            min_frequency=min_frequency,
            special_tokens=special_tokens,
            verbose=int(sys.stdout.isatty()),
            **options,
        )
    written = tokenizer.save(output)
    text = beginning(texts, field)[:_MEASURED_CHARACTERS]
    num_tokens = len(tokenizer.encode(text))
    print(f"{tokenizer.vocabulary_size:,} tokens")
    print(
        f"{len(text.encode()) / max(num_tokens, 1):.2f} bytes per token in the first "
        f"{len(text):,} characters"
    )
    print_written(written)


def encode(
    tokenizer: str,
    *texts: str,
    pieces: bool = False,
    allowed_special: list[str] = [],  # noqa: B006 - read, never changed
) -> None:
    """Encode text to token ids.

    For example: gpt-keras tokenizer encode gpt2 "Hello world" --pieces true

    Args:
        tokenizer: The name gpt2, or the path of a tokenizer file, tokenizer folder or model folder.
        texts: Texts to encode, one line of ids each. Without texts, standard input is encoded as
            one text.
        pieces: Whether to print one line per id, with the text of the token. ␣ is a space, ⏎ a
            line end, and ‹E8› a byte of an incomplete character.
        allowed_special: Special tokens to recognize in the texts, or the word all. By default,
            they are encoded as plain text. This flag must come after the texts.
    """
    from gpt_keras.tokenizers.visible import visible

    loaded = _load(tokenizer)
    allowed = "all" if allowed_special == ["all"] else allowed_special
    for text in texts or [read_input()]:
        ids = loaded.encode(text, allowed_special=allowed)
        if not pieces:
            print(*ids)
            continue
        width = len(str(loaded.vocabulary_size - 1))
        for i, piece in zip(ids, loaded.pieces(ids)):
            print(f"{i:>{width}}  {visible(piece)}")


def decode(tokenizer: str, *ids: str) -> None:
    """Decode token ids to text.

    For example: gpt-keras tokenizer decode gpt2 15496 995

    Args:
        tokenizer: The name gpt2, or the path of a tokenizer file, tokenizer folder or model folder.
        ids: Token ids of one text. Without ids, each line of standard input is decoded as one text.
    """
    loaded = _load(tokenizer)
    for line in [" ".join(ids)] if ids else read_input().splitlines():
        words = re.sub(r"[\[\],]", " ", line).split()  # also accepts a Python list
        wrong = [word for word in words if not re.fullmatch(r"-?\d+", word, re.ASCII)]
        if wrong:
            raise ValueError(f"`ids` must be integers, but {wrong[0]!r} is among them.")
        text = loaded.decode([int(word) for word in words])
        print(text, end="" if text.endswith("\n") else "\n")


def compare(text: str, *tokenizers: str) -> None:
    """Compare the tokens that several tokenizers make of the same text.

    For example: gpt-keras tokenizer compare "To be, or not to be" gpt2 my_tokenizer.json

    Args:
        text: Text, or the path of a text file.
        tokenizers: Each is the name gpt2, or the path of a tokenizer file, tokenizer folder or
            model folder.
    """
    loaded = {name: _load(name) for name in tokenizers}
    text = _read_text(text)
    if not text:
        raise ValueError("`text` must not be empty.")
    rows = [("", "vocabulary", "tokens", "characters/token", "bytes/token")]
    problems = {}
    for name, tokenizer in loaded.items():
        row = (name, f"{tokenizer.vocabulary_size:,}")
        try:
            count = len(tokenizer.encode(text))
        except ValueError as error:  # for example, a character outside the vocabulary
            problems[name] = str(error)
            rows.append((*row, "-", "-", "-"))
            continue
        sizes = [size / max(count, 1) for size in (len(text), len(text.encode()))]
        rows.append((*row, f"{count:,}", *(f"{size:.2f}" for size in sizes)))
    _print_table(rows)

    sample = "".join(text.splitlines(keepends=True)[:_SHOWN_LINES])[:_SHOWN_CHARACTERS]
    for name, tokenizer in loaded.items():
        print(f"\n{name}")
        if name in problems:
            print(f"  {problems[name]}")
            continue
        for line in _bordered(tokenizer.pieces(tokenizer.encode(sample))):
            print(f"  {line}")


def _load(name: str) -> "gk.tokenizers.Tokenizer":
    if name == "gpt2":
        return gk.tokenizers.BytePairTokenizer.gpt2()
    if not pathlib.Path(name).exists():
        raise ValueError(
            f"`tokenizer` must be gpt2, or the path of a tokenizer file, tokenizer folder or "
            f"model folder, got {name!r}, which does not exist."
        )
    return gk.tokenizers.load(name)


def _read_text(text_or_file: str) -> str:
    from gpt_keras.corpus import read_text

    try:
        is_file = pathlib.Path(text_or_file).is_file()
    except (OSError, ValueError):  # the text is not a valid path
        is_file = False
    return "".join(read_text(pathlib.Path(text_or_file))) if is_file else text_or_file


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows as a table: the first column left-aligned, the others right-aligned."""
    from gpt_keras.tokenizers.visible import display_width

    widths = [max(map(display_width, column)) for column in zip(*rows)]
    for row in rows:
        gaps = [" " * (width - display_width(cell)) for cell, width in zip(row, widths)]
        cells = [row[0] + gaps[0], *(gap + cell for gap, cell in zip(gaps[1:], row[1:]))]
        print("  ".join(cells).rstrip())


def _bordered(pieces: Sequence[bytes]) -> list[str]:
    """Return lines of tokens with borders between them, no wider than the terminal."""
    from gpt_keras.tokenizers.visible import display_width, visible

    room = shutil.get_terminal_size((100, 24)).columns - 2
    lines = ["│"]
    for piece in pieces:
        cell = f"{visible(piece)}│"
        if len(lines[-1]) > 1 and display_width(lines[-1] + cell) > room:
            lines.append("│")
        lines[-1] += cell
        if piece.endswith(b"\n"):
            lines.append("│")
    return [line for line in lines if line != "│"]
