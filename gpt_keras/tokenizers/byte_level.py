"""The parts of byte-level tokenizers: characters that stand for bytes, the engine, the split."""

from collections.abc import Collection, Mapping, Sequence

import tokenizers
from tokenizers import AddedToken, decoders, models

from gpt_keras.tokenizers.splits import gpt2_split
from gpt_keras.tokenizers.vocabulary_files import check_merges, check_vocabulary


def byte_characters() -> list[str]:
    r"""Return the character that stands for each byte in vocabularies, GPT-2's table.

    Bytes that print well stand for themselves; the others, in order, get the characters from
    U+0100 on, so that a vocabulary file holds neither white space nor control characters.

    Returns:
        256 characters; the one at index `b` stands for byte `b`.

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
    """Return the bytes that each id stands for.

    Args:
        vocabulary: Tokens written with `byte_characters`, and their ids.
        literal_tokens: Tokens written as they are, such as `<|endoftext|>`, and their ids.

    Returns:
        The bytes of each token, in the order of the ids.
    """
    byte_of = {character: byte for byte, character in enumerate(byte_characters())}
    result = [b""] * (max((vocabulary | literal_tokens).values()) + 1)
    for token, i in vocabulary.items():
        if all(character in byte_of for character in token):
            result[i] = bytes([byte_of[character] for character in token])
        else:  # not made of bytes, so nothing encodes to it; shown as it is written
            result[i] = token.encode()
    for token, i in literal_tokens.items():
        result[i] = token.encode()
    return result


def new_engine(model: models.Model) -> tokenizers.Tokenizer:
    """Return an engine with GPT-2's split into words."""
    engine = tokenizers.Tokenizer(model)
    engine.pre_tokenizer = gpt2_split()
    engine.decoder = decoders.ByteLevel()
    return engine


def special_token(token: str) -> AddedToken:
    """Return a special token as the engine's `add_special_tokens` takes it."""
    return AddedToken(token, special=True, normalized=False)


def engine_from_vocabulary(
    vocabulary: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    special_tokens: Collection[str] | None = None,
    added_tokens: Collection[str] = (),
) -> tokenizers.Tokenizer:
    """Return an engine with GPT-2's split into words.

    Args:
        vocabulary: As in `BytePairTokenizer.from_vocabulary`.
        merges: As there.
        special_tokens: As there.
        added_tokens: Tokens of the vocabulary that are found in every text, before it is split.

    Raises:
        ValueError: As there.
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
    # The last tokens are added to the model's, as in a trained tokenizer: so both are equal.
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
    """Return the tokens that no text encodes to: those that are no byte and made by no merge.

    Args:
        vocabulary: Tokens, all but these written with `byte_characters`, and their ids.
        merges: The pairs of tokens that are merged.

    Returns:
        These tokens and their ids.
    """
    made = {*byte_characters(), *(first + second for first, second in merges)}
    return {token: i for token, i in vocabulary.items() if token not in made}


def check_merges_are_whole(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]
) -> None:
    """Check that the merges make every token that looks as if merges made it.

    A token that no merge makes is a special one and written as it is. If it has a character that
    stands for a byte and for nothing else, such as the one for a blank, then its merge was lost.

    Raises:
        ValueError: Otherwise; tells one such token.
    """
    stand_ins = {character for character in byte_characters() if character > "\xff"}
    lost = [t for t in literal_tokens(vocabulary, merges) if not stand_ins.isdisjoint(t)]
    if lost:
        raise ValueError(
            f"of its tokens {len(lost)} are made by none of the {len(merges)} merges, "
            f"{lost[0][:60]!r} among them"
        )


def is_gpt2_split(pre_tokenizer: dict | None) -> bool:
    """Whether a `pre_tokenizer` of `tokenizer.json` is GPT-2's, after single digits or not."""
    if has_single_digits(pre_tokenizer):
        pre_tokenizer = pre_tokenizer["pretokenizers"][1]
    return (
        part_type(pre_tokenizer) == "ByteLevel"
        and pre_tokenizer["use_regex"]
        and not pre_tokenizer["add_prefix_space"]
    )


def has_single_digits(pre_tokenizer: dict | None) -> bool:
    """Whether a `pre_tokenizer` is one that cuts off single digits, followed by another one."""
    if part_type(pre_tokenizer) != "Sequence" or len(pre_tokenizer["pretokenizers"]) != 2:
        return False
    first = pre_tokenizer["pretokenizers"][0]
    return part_type(first) == "Digits" and first["individual_digits"]


def has_decoder(decoder: dict | None, kind: str) -> bool:
    """Whether a `decoder` of `tokenizer.json` is of a kind, or is a sequence with one that is."""
    if part_type(decoder) == "Sequence":
        return any(has_decoder(inner, kind) for inner in decoder["decoders"])
    return part_type(decoder) == kind


def part_type(part: dict | None) -> str | None:
    """Return the `type` of a part of `tokenizer.json`; None for a part that is not there."""
    return part["type"] if part else None
