"""Loading of tokenizers: files of `Tokenizer.save` and other formats."""

import os
from pathlib import Path
from typing import Any

from gpt_keras.gguf_file import is_gguf
from gpt_keras.tokenizers import gguf, tiktoken_file
from gpt_keras.tokenizers.byte_level import check_merges_are_whole, has_decoder, part_type
from gpt_keras.tokenizers.byte_pair import BytePairTokenizer
from gpt_keras.tokenizers.character import CharacterTokenizer
from gpt_keras.tokenizers.folder_settings import FolderSettings, read_folder_settings
from gpt_keras.tokenizers.gpt1 import END_OF_WORD, GPT1Tokenizer
from gpt_keras.tokenizers.metaspace import MetaspaceTokenizer
from gpt_keras.tokenizers.sentencepiece import SentencePieceTokenizer
from gpt_keras.tokenizers.tokenizer import FILE_NAME, Tokenizer
from gpt_keras.tokenizers.vocabulary_files import (
    FILE_PAIRS,
    check_merges,
    check_vocabulary,
    naming,
    read_json_object,
    read_merges,
    read_text_file,
    read_vocabulary,
)

# Usual names of the file of a SentencePiece model.
_SENTENCEPIECE_NAMES = ("tokenizer.model", "spiece.model")


def load(path: str | os.PathLike) -> Tokenizer:
    """Load a tokenizer from a file or a folder.

    Args:
        path: One of these:

            - a file written by `Tokenizer.save`, or the `tokenizer.json` of a Hugging Face
              tokenizer;
            - a folder that holds a `tokenizer.json`;
            - a folder that holds a vocabulary and its merges: `vocab.json` and `merges.txt`
              (Hugging Face), `encoder.json` and `vocab.bpe` (OpenAI's GPT-2), or
              `encoder_bpe_40000.json` and `vocab_40000.bpe` (OpenAI's GPT-1); or the vocabulary
              file itself;
            - a SentencePiece `.model` file, or a folder that holds a `tokenizer.model` or
              `spiece.model`;
            - a `.tiktoken` file, or a `tokenizer.model` in that format (Llama 3);
            - a `.gguf` file with a byte-level BPE or SentencePiece tokenizer; its tensors are not
              read.

            Other files of a folder name the boundary tokens and the added tokens:
            `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json`,
            `generation_config.json` and `config.json`. If a `tokenizer.json` is not supported,
            a SentencePiece model in the same folder is loaded instead.

            In a vocabulary with merges, tokens that no text encodes to are the special tokens.

    Returns:
        A tokenizer of the class that fits the content.

    Raises:
        ValueError: There is no such file, or its content is not a tokenizer. The message names
            the file.
        ImportError: The file is a SentencePiece model and tensorflow-text is not installed.

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
    if path.is_dir():
        settings = read_folder_settings(path)
        return settings.apply(_load_folder(path, settings))
    return _load_file(path)


def _load_folder(folder: Path, settings: FolderSettings) -> Tokenizer:
    file = _file_in(folder)
    if _is_tiktoken(file):
        return tiktoken_file.load(file, settings.added_tokens)
    others = [folder / name for name in _SENTENCEPIECE_NAMES if (folder / name).is_file()]
    try:
        return _load_file(file)
    except ValueError:
        # This kind of tokenizer.json is not supported: try the SentencePiece model beside it.
        if file.name != FILE_NAME or not others:
            raise
        try:
            return _load_file(others[0])
        except (ValueError, ImportError):
            pass
        raise


def _load_file(path: Path) -> Tokenizer:
    if not path.is_file():
        raise ValueError(f"`path`: there is no tokenizer file {str(path)!r}.")
    if is_gguf(path):
        return gguf.load(path)
    if _is_tiktoken(path):
        return tiktoken_file.load(path)
    if path.suffix == ".model":
        return SentencePieceTokenizer.from_file(path)
    merges_file = dict(FILE_PAIRS).get(path.name)
    if merges_file:
        return _load_vocabulary(path, path.with_name(merges_file))
    return _load_json(path)


def _is_tiktoken(path: Path) -> bool:
    return path.suffix in (".model", ".tiktoken") and tiktoken_file.is_tiktoken(path)


def _file_in(folder: Path) -> Path:
    """Return the file of a folder that determines the kind of tokenizer."""
    if (folder / FILE_NAME).is_file():
        return folder / FILE_NAME
    for pair in FILE_PAIRS:
        if all((folder / name).is_file() for name in pair):
            return folder / pair[0]
    for name in _SENTENCEPIECE_NAMES:
        if (folder / name).is_file():
            return folder / name
    for file in sorted(folder.glob("*.tiktoken")):
        return file
    for pair in FILE_PAIRS:
        for there, other in (pair, pair[::-1]):
            if (folder / there).is_file():
                raise ValueError(f"{str(folder)!r} holds {there}, but not {other}, which it needs.")
    known = [FILE_NAME, *map(" with ".join, FILE_PAIRS), *_SENTENCEPIECE_NAMES, "*.tiktoken"]
    raise ValueError(
        f"`path`: there is no tokenizer file in {str(folder)!r}. It would be one of "
        f"{', '.join(known)}."
    )


def _load_json(path: Path) -> Tokenizer:
    with naming(path):
        content = read_json_object(path)
        tokenizer_class = _tokenizer_class(content)
        if isinstance(content.get("model"), dict):
            _check_model(content)
        return tokenizer_class.from_json(read_text_file(path))


def _tokenizer_class(content: object) -> type[Tokenizer]:
    if isinstance(content, dict):
        if content.get("type") == "CharacterTokenizer":
            return CharacterTokenizer
        if content.get("type") == "SentencePieceTokenizer":
            return SentencePieceTokenizer
        model = content.get("model")
        if isinstance(model, dict):
            # CLIP's vocabulary also has </w>, but it is byte-level.
            is_gpt1 = model.get("end_of_word_suffix") == END_OF_WORD
            is_gpt1 &= part_type(content.get("decoder")) == "BPEDecoder"
            if is_gpt1:
                return GPT1Tokenizer
            decoder = content.get("decoder")
            writes_spaces = has_decoder(decoder, "Replace") or has_decoder(decoder, "Metaspace")
            return MetaspaceTokenizer if writes_spaces else BytePairTokenizer
    raise ValueError("it holds neither a CharacterTokenizer nor a BPE `model`.")


def _check_model(content: dict[str, Any]) -> None:
    """Check the vocabulary, merges and added tokens of a `tokenizer.json`.

    The engine itself accepts gaps between ids. It also gives an added token the next free id, even
    if the file gives it another one.
    """
    model = content["model"]
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict):
        return  # the model is not BPE
    check_vocabulary(vocabulary)
    added = content.get("added_tokens") or []
    check_vocabulary(vocabulary | {token["content"]: token["id"] for token in added})
    next_id = len(vocabulary)
    for token in added:
        text, i = token["content"], token["id"]
        if text not in vocabulary:
            expected, next_id = next_id, next_id + 1
        else:
            expected = vocabulary[text]
        if i != expected:
            raise ValueError(
                f"the added token {text[:60]!r} must have the id {expected} (its id in the "
                f"vocabulary, or the next free id), but has {i}"
            )
    if not model.get("continuing_subword_prefix"):
        merges = [m.split(" ") if isinstance(m, str) else m for m in model.get("merges") or []]
        if not all(isinstance(m, list) and len(m) == 2 for m in merges):
            raise ValueError("its merges are not all pairs of tokens")
        check_merges(vocabulary, merges)


def _load_vocabulary(vocabulary_file: Path, merges_file: Path) -> Tokenizer:
    if not merges_file.is_file():
        raise ValueError(f"{str(vocabulary_file)!r} needs the file {str(merges_file)!r} beside it.")
    with naming(vocabulary_file):
        vocabulary = read_vocabulary(vocabulary_file)
    with naming(merges_file):
        merges = read_merges(merges_file)
        check_merges(vocabulary, merges)
    with naming(vocabulary_file):
        if _ends_words(vocabulary, merges):
            return GPT1Tokenizer.from_vocabulary(vocabulary, merges)
        check_merges_are_whole(vocabulary, merges)
        return BytePairTokenizer.from_vocabulary(vocabulary, merges)


def _ends_words(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> bool:
    """Return whether the last character of a word has its own token, as in GPT-1.

    There, the token of a last character (`a</w>`) differs from the token of the same character
    inside a word (`a`). A byte-level vocabulary trained on XML may also hold `</w>`, but merges
    make it.
    """
    made = {first + second for first, second in merges}
    return any(token.endswith(END_OF_WORD) and token not in made for token in vocabulary)
