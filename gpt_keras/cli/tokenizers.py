"""The commands for tokenizers: `gpt-keras tokenizer train | encode | decode | compare`."""

import pathlib
import re
import shutil
import sys
from collections.abc import Sequence
from typing import Literal

from .files import beginning, check_writable, print_written, read_corpus, read_input
from .package import gk

_END_OF_TEXT = "<|endoftext|>"  # `gpt_keras.tokenizers` has it too, and takes seconds to import

# How much text `train` measures, and how many lines and characters `compare` shows in pieces.
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
) -> None:
    """Train a tokenizer on text and save it.

    For example: gpt-keras tokenizer train shakespeare my_tokenizer.json --vocabulary-size 2000

    Args:
        corpus: Text to learn from: shakespeare or tang_poems, which come with the package, or the
            path of a text file, or of a directory, which stands for all .txt and .md files in it.
        output: New file for the tokenizer, whose name ends in .json, or a directory, which gets a
            tokenizer.json.
        kind: What a token is: byte_pair learns frequent pieces of words, made of bytes, as in
            GPT-2, character takes single characters, gpt1 learns pieces of words in lower case,
            made of characters, as in GPT-1.
        vocabulary_size: Number of tokens to learn, special ones included; character takes as many
            as there are characters.
        min_frequency: Pieces that occur less often are not made; of no use to character.
        special_tokens: Tokens that no text becomes unless asked for; none if nothing follows.
            character knows <|endoftext|> alone.
        keep_line_ends: Whether the line ends of Windows stay as they are in files, instead of
            becoming those of Unix.
    """
    file = pathlib.Path(output)
    file = file if file.suffix == ".json" else file / "tokenizer.json"
    if file.exists():
        raise ValueError(f"`output` must be new, but {str(file)!r} exists already.")
    check_writable(str(file))
    documents = read_corpus(corpus)
    if kind == "character":
        if not set(special_tokens) <= {_END_OF_TEXT}:
            raise ValueError(
                f"`special_tokens` must be {_END_OF_TEXT} or none for character, got "
                f"{special_tokens!r}."
            )
        tokenizer = gk.tokenizers.CharacterTokenizer.train(
            documents, bool(special_tokens), keep_line_ends=keep_line_ends
        )
    else:
        tokenizers = gk.tokenizers
        trained = tokenizers.GPT1Tokenizer if kind == "gpt1" else tokenizers.BytePairTokenizer
        tokenizer = trained.train(
            documents,
            vocabulary_size,
            min_frequency=min_frequency,
            special_tokens=special_tokens,
            verbose=int(sys.stdout.isatty()),
            keep_line_ends=keep_line_ends,
        )
    written = tokenizer.save(output)
    text = beginning(documents)[:_MEASURED_CHARACTERS]
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
    """Turn text into ids.

    For example: gpt-keras tokenizer encode gpt2 "Hello world" --pieces true

    Args:
        tokenizer: Gpt2, or the path of a tokenizer's file or folder, or of a model's folder.
        texts: Texts to encode; a line of ids for each. Standard input is one text if none is given.
        pieces: Whether to print a line for each id, with the piece of text that it stands for;
            ␣ is a space, ⏎ a line end, and ‹E8› the byte of a part of a character.
        allowed_special: Special tokens to look for in the text, or all; they come after the texts.
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
    """Turn ids into text.

    For example: gpt-keras tokenizer decode gpt2 15496 995

    Args:
        tokenizer: Gpt2, or the path of a tokenizer's file or folder, or of a model's folder.
        ids: Ids of one text. Each line of standard input is one if none are given.
    """
    loaded = _load(tokenizer)
    for line in [" ".join(ids)] if ids else read_input().splitlines():
        words = re.sub(r"[\[\],]", " ", line).split()  # a list of Python's is welcome, too
        wrong = [word for word in words if not re.fullmatch(r"-?\d+", word, re.ASCII)]
        if wrong:
            raise ValueError(f"`ids` must be integers, but {wrong[0]!r} is among them.")
        text = loaded.decode([int(word) for word in words])
        print(text, end="" if text.endswith("\n") else "\n")


def compare(text: str, *tokenizers: str) -> None:
    """Show how tokenizers cut the same text.

    For example: gpt-keras tokenizer compare "To be, or not to be" gpt2 my_tokenizer.json

    Args:
        text: A text, or the path of a text file.
        tokenizers: Each gpt2, or the path of a tokenizer's file or folder, or of a model's folder.
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
        except ValueError as error:  # such as a character that it does not know
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
            f"`tokenizer` must be gpt2, or the path of a tokenizer's file or folder, or of a "
            f"model's folder, got {name!r}, which does not exist."
        )
    return gk.tokenizers.load(name)


def _read_text(text_or_file: str) -> str:
    from gpt_keras.tokenizers.text_files import read_text

    try:
        is_file = pathlib.Path(text_or_file).is_file()
    except (OSError, ValueError):  # a text that no path can be
        is_file = False
    return "".join(read_text(pathlib.Path(text_or_file))) if is_file else text_or_file


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows with their columns in line: the first to the left, numbers to the right."""
    from gpt_keras.tokenizers.visible import display_width

    widths = [max(map(display_width, column)) for column in zip(*rows)]
    for row in rows:
        gaps = [" " * (width - display_width(cell)) for cell, width in zip(row, widths)]
        cells = [row[0] + gaps[0], *(gap + cell for gap, cell in zip(gaps[1:], row[1:]))]
        print("  ".join(cells).rstrip())


def _bordered(pieces: Sequence[bytes]) -> list[str]:
    """Return lines of pieces with borders between them, no wider than the terminal."""
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
