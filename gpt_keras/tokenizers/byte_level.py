"""Parts of byte-level tokenizers: the byte table, the engine and checks."""

from collections.abc import Collection, Mapping, Sequence

import tokenizers
from tokenizers import AddedToken, decoders, models

from gpt_keras.tokenizers.splits import gpt2_split
from gpt_keras.tokenizers.vocabulary_files import check_merges, check_vocabulary


def byte_characters() -> list[str]:
    r"""Return the character that represents each byte in GPT-2's vocabulary files.

    A printable byte is represented by the character with the same code point. The other bytes
    get, in order, the characters from U+0100 on. A vocabulary file then holds neither white
    space nor control characters. The table is `bytes_to_unicode` in the `encoder.py` of GPT-2's
    published code (Radford et al. 2019).

    Returns:
        256 characters: the character at index `b` represents byte `b`.

    Example:
        >>> from gpt_keras.tokenizers.byte_level import byte_characters
        >>> table = byte_characters()
        >>> table[ord("a")], table[ord(" ")], table[ord("\n")]
        ('a', 'Ġ', 'Ċ')
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def bytes_of_tokens(
    vocabulary: Mapping[str, int], literal_tokens: Mapping[str, int]
) -> list[bytes]:
    """Return the bytes of each token.

    Args:
        vocabulary: Tokens written with `byte_characters`, and their ids.
        literal_tokens: Tokens written as plain text, such as `<|endoftext|>`, and their ids.

    Returns:
        The bytes of each token, in the order of the ids.
    """
    byte_of = {character: byte for byte, character in enumerate(byte_characters())}
    result = [b""] * (max((vocabulary | literal_tokens).values()) + 1)
    for token, i in vocabulary.items():
        if all(character in byte_of for character in token):
            result[i] = bytes([byte_of[character] for character in token])
        else:  # not written in bytes: no text encodes to it, and it decodes to this string
            result[i] = token.encode()
    for token, i in literal_tokens.items():
        result[i] = token.encode()
    return result


def new_engine(model: models.Model) -> tokenizers.Tokenizer:
    """Return a byte-level engine for this model, with GPT-2's split into words."""
    engine = tokenizers.Tokenizer(model)
    engine.pre_tokenizer = gpt2_split()
    engine.decoder = decoders.ByteLevel()
    return engine


def special_token(token: str) -> AddedToken:
    """Return a special token in the form that `add_special_tokens` accepts."""
    return AddedToken(token, special=True, normalized=False)


def engine_from_vocabulary(
    vocabulary: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    special_tokens: Collection[str] | None = None,
    added_tokens: Collection[str] = (),
) -> tokenizers.Tokenizer:
    """Return an engine with GPT-2's split, from a vocabulary and its merges.

    Args:
        vocabulary: As in `BytePairTokenizer.from_vocabulary`.
        merges: As in `BytePairTokenizer.from_vocabulary`.
        special_tokens: As in `BytePairTokenizer.from_vocabulary`.
        added_tokens: Tokens of the vocabulary that every text is searched for before the split.

    Returns:
        The engine.

    Raises:
        ValueError: The ids are not 0 to n - 1, the vocabulary lacks a token of a merge, or an
            entry of `special_tokens` is not in the vocabulary or is a token that text encodes to.
    """
    check_vocabulary(vocabulary)
    check_merges(vocabulary, merges)
    literal = literal_tokens(vocabulary, merges)
    if special_tokens is None:
        special_tokens = literal
    wrong = [token for token in special_tokens if token not in literal]
    if isinstance(special_tokens, str) or wrong:
        raise ValueError(
            "`special_tokens` must be tokens of the vocabulary that no text encodes to, but has "
            f"{(wrong or [special_tokens])[0]!r}."
        )
    # Added tokens at the end of the vocabulary stay out of the model, as in a trained tokenizer.
    # A tokenizer built from a trained tokenizer's vocabulary and merges is then equal to it.
    added = {*special_tokens, *(token for token in added_tokens if token in literal)}
    model_size = 1 + max((vocabulary[t] for t in vocabulary if t not in added), default=-1)
    model = {token: i for token, i in vocabulary.items() if i < model_size}
    engine = new_engine(models.BPE(vocab=model, merges=list(merges)))
    special = set(special_tokens)
    for token in sorted({*added, *added_tokens}, key=vocabulary.__getitem__):
        engine.add_tokens([AddedToken(token, special=token in special, normalized=False)])
    return engine


def literal_tokens(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]
) -> dict[str, int]:
    """Return the tokens that no text encodes to.

    These tokens are neither a single byte nor the result of a merge.

    Args:
        vocabulary: Tokens and their ids. The tokens that text encodes to are written with
            `byte_characters`.
        merges: The pairs of tokens that are merged.

    Returns:
        The tokens that no text encodes to, and their ids.
    """
    made = {*byte_characters(), *(first + second for first, second in merges)}
    return {token: i for token, i in vocabulary.items() if token not in made}


def check_merges_are_whole(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]
) -> None:
    """Check that no merge is missing.

    A token that no merge makes must be a special token, which is written as plain text. If it
    contains a character from U+0100 on that represents a byte, such as `Ġ` for a space, its
    merge is missing.

    Args:
        vocabulary: Tokens and their ids.
        merges: The pairs of tokens that are merged.

    Raises:
        ValueError: A merge is missing; the message names the token that it would make.
    """
    stand_ins = {character for character in byte_characters() if character > "\xff"}
    lost = [t for t in literal_tokens(vocabulary, merges) if not stand_ins.isdisjoint(t)]
    if lost:
        raise ValueError(
            f"{len(lost)} of its tokens are made by none of the {len(merges)} merges, for example "
            f"{lost[0][:60]!r}"
        )


def is_gpt2_split(pre_tokenizer: dict | None) -> bool:
    """Return whether a `pre_tokenizer` of `tokenizer.json` is GPT-2's split.

    A pre-tokenizer that cuts off single digits may come before it.
    """
    if has_single_digits(pre_tokenizer):
        pre_tokenizer = pre_tokenizer["pretokenizers"][1]
    return (
        part_type(pre_tokenizer) == "ByteLevel"
        and pre_tokenizer["use_regex"]
        and not pre_tokenizer["add_prefix_space"]
    )


def has_single_digits(pre_tokenizer: dict | None) -> bool:
    """Return whether a `pre_tokenizer` cuts off single digits before another split."""
    if part_type(pre_tokenizer) != "Sequence" or len(pre_tokenizer["pretokenizers"]) != 2:
        return False
    first = pre_tokenizer["pretokenizers"][0]
    return part_type(first) == "Digits" and first["individual_digits"]


def has_decoder(decoder: dict | None, kind: str) -> bool:
    """Return whether a `decoder` has this type, or is a sequence with one that has it."""
    if part_type(decoder) == "Sequence":
        return any(has_decoder(inner, kind) for inner in decoder["decoders"])
    return part_type(decoder) == kind


def part_type(part: dict | None) -> str | None:
    """Return the `type` of a part of `tokenizer.json`, or None without the part."""
    return part["type"] if part else None
