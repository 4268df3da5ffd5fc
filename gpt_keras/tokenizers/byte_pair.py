"""Byte-level byte-pair encoding, as in GPT-2."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import keras
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from gpt_keras.backend import require_tensorflow
from gpt_keras.config import check_positive_int
from gpt_keras.tokenizers.in_graph_byte_pair import InGraphBytePairTokenizer
from gpt_keras.tokenizers.text_files import cut_into_pieces, iterate_documents
from gpt_keras.tokenizers.tokenizer import END_OF_TEXT, AllowedSpecial, Tokenizer
from gpt_keras.tokenizers.utf8 import incomplete_length

GPT2_MERGES = Path(__file__).parent / "data" / "gpt2_merges.txt"

# How long the pieces are that the engine gets: it encodes the pieces of a batch in parallel, and
# each one faster than one long string.
_PIECE_CHARACTERS = 1 << 14

# GPT-2's split always has a border between a character that is not white space and one that is.
# Greedy, so the end of the match is the last such place.
_LAST_BORDER = re.compile(r".*\S(?=[ \n])", re.DOTALL)

_OPTIONS_NOT_IN_GRAPH = (
    "dropout",
    "ignore_merges",
    "continuing_subword_prefix",
    "end_of_word_suffix",
)


def byte_characters() -> list[str]:
    r"""Returns the character that stands for each byte in vocabularies, GPT-2's table.

    Bytes that print well stand for themselves; the others, in order, get the characters from
    U+0100 on, so that a vocabulary file holds neither white space nor control characters.

    Returns:
        256 characters; the one at index `b` stands for byte `b`.

    Example:
        >>> from gpt_keras.tokenizers.byte_pair import byte_characters
        >>> table = byte_characters()
        >>> table[ord("a")], table[ord(" ")], table[ord("\n")]
        ('a', 'Ġ', 'Ċ')
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


class BytePairTokenizer(Tokenizer):
    """Byte-level byte-pair encoding: GPT-2's tokenizer, or one trained on your own text.

    Text is split into words (a space belongs to the word after it), each word is taken as UTF-8
    bytes, and inside a word the pair of tokens that was learned earliest is merged, again and
    again. Every string can be encoded and comes back exactly.

    Byte-pair encoding for text is from Sennrich et al. 2016, "Neural Machine Translation of Rare
    Words with Subword Units", section 3.2; bytes instead of characters from Radford et al. 2019
    (GPT-2), section 2.2. The engine is Hugging Face `tokenizers`.

    Use `train`, `gpt2` or `gpt_keras.tokenizers.load` to make one.

    Args:
        engine: A byte-level BPE `tokenizers.Tokenizer`.

    Raises:
        ValueError: If `engine` is not byte-level BPE.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.BytePairTokenizer.gpt2()
        >>> tokenizer.encode("Hello world")
        [15496, 995]
        >>> tokenizer.decode([15496, 995, 50256])
        'Hello world<|endoftext|>'
    """

    def __init__(self, engine: tokenizers.Tokenizer):
        content = json.loads(engine.to_str())
        # Bytes are looked up in the table; a vocabulary without it is of another kind.
        self._vocabulary = engine.get_vocab(with_added_tokens=False)
        missing = [c for c in byte_characters() if c not in self._vocabulary]
        if (
            content["model"]["type"] != "BPE"
            or missing
            or not _has(content["decoder"], "ByteLevel")
        ):
            raise ValueError(
                "`engine` must be byte-level BPE (a BPE model whose vocabulary holds all 256 "
                f"bytes, and a ByteLevel decoder), but is {content['model']['type']} with "
                f"{256 - len(missing)} of the bytes and decoder {_type(content['decoder'])}."
            )
        self._engine = engine
        # The literal text of a special token is ordinary text. A property that is not saved.
        engine.encode_special_tokens = True
        # Others' files may ask for these, with their training length.
        engine.no_truncation()
        engine.no_padding()
        self._merges = [
            tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge)
            for merge in content["model"]["merges"]
        ]
        self._added_tokens = {token["content"]: token["id"] for token in content["added_tokens"]}
        self._special_tokens = {
            token["content"]: token["id"] for token in content["added_tokens"] if token["special"]
        }
        self._single_digits = _has_single_digits(content["pre_tokenizer"])
        self._has_gpt2_split = (
            content["normalizer"] is None
            and _is_gpt2_split(content["pre_tokenizer"])
            and not any(content["model"].get(option) for option in _OPTIONS_NOT_IN_GRAPH)
            and self._added_tokens == self._special_tokens
        )
        self._token_bytes = self._make_token_bytes()

    def _make_token_bytes(self) -> list[bytes]:
        byte_of = {character: byte for byte, character in enumerate(byte_characters())}
        ids = self._vocabulary | self._added_tokens
        token_bytes = [b""] * (max(ids.values()) + 1)
        for token, i in self._vocabulary.items():
            if all(character in byte_of for character in token):
                token_bytes[i] = bytes([byte_of[character] for character in token])
            else:  # not made of bytes, so nothing encodes to it; shown as it is written
                token_bytes[i] = token.encode()
        for token, i in self._added_tokens.items():
            token_bytes[i] = token.encode()
        return token_bytes

    @classmethod
    def train(
        cls,
        texts_or_paths: str | Path | Iterable[str | Path],
        vocabulary_size: int,
        min_frequency: int = 2,
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        verbose: int = 0,
    ) -> "BytePairTokenizer":
        """Learns the merges from a corpus. The same corpus gives the same tokenizer.

        Ids are laid out as in GPT-2: the 256 bytes, the merges in the order they were learned,
        the special tokens.

        Args:
            texts_or_paths: A `str` is text, a `pathlib.Path` is a file or a directory of `.txt`
                files; or an iterable (a list, a generator) of these.
            vocabulary_size: Number of ids wanted, bytes and special tokens included. A small
                corpus may not have that many pairs worth merging; then the result has fewer, see
                its `vocabulary_size`.
            min_frequency: A pair that occurs less often is not merged.
            special_tokens: Tokens that no text encodes to. `<|endoftext|>` among them is the one
                that `end_of_text_id` tells.
            verbose: 1 shows a progress bar.

        Returns:
            The tokenizer.

        Raises:
            ValueError: If there is no text, a path does not exist, a file is not UTF-8, or
                `vocabulary_size`, `min_frequency` or `special_tokens` is not possible.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.BytePairTokenizer.train(
            ...     "low low low lower lower newest newest", vocabulary_size=262
            ... )
            >>> [tokenizer.decode([i]) for i in tokenizer.encode("lower")]
            ['low', 'er']
        """
        if isinstance(special_tokens, str):
            raise ValueError(
                f"`special_tokens` must be a list of strings, got the string {special_tokens!r}."
            )
        special_tokens = list(special_tokens)
        if len(set(special_tokens)) != len(special_tokens) or not all(
            isinstance(token, str) and token for token in special_tokens
        ):
            raise ValueError(
                f"`special_tokens` must be distinct non-empty strings, but is {special_tokens!r}."
            )
        check_positive_int("vocabulary_size", vocabulary_size)
        check_positive_int("min_frequency", min_frequency)
        if vocabulary_size >= 2**31:
            raise ValueError(f"`vocabulary_size` must be below 2**31, got {vocabulary_size}.")
        smallest = 256 + len(special_tokens)
        if vocabulary_size < smallest:
            raise ValueError(
                f"`vocabulary_size` must be at least {smallest} (256 bytes and "
                f"{len(special_tokens)} special tokens), but is {vocabulary_size}."
            )

        engine = _new_engine(models.BPE())
        seen_text = False

        def pieces() -> Iterator[str]:
            nonlocal seen_text
            for document in iterate_documents(texts_or_paths):
                for piece in cut_into_pieces(document, _gpt2_safe_cut, _PIECE_CHARACTERS):
                    seen_text = True
                    yield piece

        engine.train_from_iterator(
            pieces(),
            trainers.BpeTrainer(
                vocab_size=vocabulary_size - len(special_tokens),
                min_frequency=min_frequency,
                show_progress=verbose > 0,
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            ),
        )
        if not seen_text:
            raise ValueError("`texts_or_paths` holds no text.")
        taken = [token for token in special_tokens if engine.token_to_id(token) is not None]
        if taken:
            raise ValueError(
                f"`special_tokens` must be texts that are no token already, got {taken}."
            )
        engine.add_special_tokens([_special(token) for token in special_tokens])
        return cls(engine)

    @classmethod
    def gpt2(cls) -> "BytePairTokenizer":
        """Returns GPT-2's tokenizer: 50,257 ids, from the merges shipped with this package.

        Example:
            >>> import gpt_keras as gk
            >>> gk.tokenizers.BytePairTokenizer.gpt2().vocabulary_size
            50257
        """
        lines = GPT2_MERGES.read_text(encoding="utf-8").split("\n")
        merges = [tuple(line.split(" ")) for line in lines[1:] if line]  # line 0 is the version
        # Sorting the characters puts the bytes that stand for themselves first.
        tokens = [*sorted(byte_characters()), *(first + second for first, second in merges)]
        vocabulary = {token: i for i, token in enumerate(tokens)}
        engine = _new_engine(models.BPE(vocab=vocabulary, merges=merges))
        engine.add_special_tokens([_special(END_OF_TEXT)])
        return cls(engine)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self._token_bytes)

    @property
    def end_of_text_id(self) -> int | None:
        """Id of `<|endoftext|>`; None if there is no such special token."""
        return self._special_tokens.get(END_OF_TEXT)

    @property
    def special_tokens(self) -> dict[str, int]:
        """The special tokens and their ids."""
        return dict(self._special_tokens)

    def _encode_batch(self, texts: list[str]) -> list[list[int]]:
        pieces, counts = [], []
        for text in texts:
            before = len(pieces)
            pieces.extend(cut_into_pieces(iter([text]), self.safe_cut, _PIECE_CHARACTERS))
            counts.append(len(pieces) - before)
        try:
            encodings = iter(self._engine.encode_batch_fast(pieces, add_special_tokens=False))
        except TypeError as error:  # how the engine takes text that has no UTF-8 form
            bad = next((text for text in texts if not _is_unicode(text)), None)
            if bad is None:
                raise
            raise ValueError(
                f"`text` must be valid Unicode, but {bad[:60]!r} has a lone surrogate."
            ) from error
        return [[i for _ in range(count) for i in next(encodings).ids] for count in counts]

    def _decode_one(self, ids: list[int]) -> str:
        token_bytes = self._token_bytes
        return b"".join([token_bytes[i] for i in ids]).decode("utf-8", errors="replace")

    def safe_cut(self, text: str) -> int:
        """Returns the last place in `text` before a space or line end that follows a word."""
        return _gpt2_safe_cut(text) if self._has_gpt2_split else 0

    def ends_inside_character(self, ids: Sequence[int]) -> bool:
        """Whether a further id may complete a character that `ids` end in the middle of."""
        return incomplete_length(b"".join([self._token_bytes[i] for i in ids[-3:]])) > 0

    def in_graph(self, allowed_special: AllowedSpecial = ()) -> keras.layers.Layer:
        """Returns a Keras layer that does the same with TensorFlow ops.

        As `Tokenizer.in_graph` describes; the ids are those of `encode`. Bytes that are not valid
        UTF-8 are read as U+FFFD.

        Args:
            allowed_special: As in `encode`.

        Returns:
            An `InGraphBytePairTokenizer`.

        Raises:
            ValueError: If the tokenizer was loaded from a file and splits words in another way
                than GPT-2.
        """
        require_tensorflow("A tokenizer inside the graph")
        if not self._has_gpt2_split:
            raise ValueError(
                "`in_graph` needs a tokenizer with GPT-2's split into words (a ByteLevel "
                "pre-tokenizer with its regular expression, alone or after one for single digits; "
                "no normalizer, no added tokens that are not special); this one, loaded from a "
                "file, has another."
            )
        return InGraphBytePairTokenizer(
            self,
            self._allowed(allowed_special),
            byte_ids=[self._vocabulary[character] for character in byte_characters()],
            merges=[
                (
                    self._vocabulary[first],
                    self._vocabulary[second],
                    self._vocabulary[first + second],
                )
                for first, second in self._merges
            ],
            token_bytes=self._token_bytes,
            single_digits=self._single_digits,
        )

    def to_json(self) -> str:
        """Returns the content as JSON text, in the format of Hugging Face's `tokenizer.json`."""
        return self._engine.to_str(pretty=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "BytePairTokenizer":
        """Makes a tokenizer from what `to_json` returned, or any byte-level `tokenizer.json`."""
        return cls(tokenizers.Tokenizer.from_str(text))

    def __reduce__(self):
        return type(self).from_json, (self.to_json(),)


def _new_engine(model: models.Model) -> tokenizers.Tokenizer:
    engine = tokenizers.Tokenizer(model)
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    engine.decoder = decoders.ByteLevel()
    return engine


def _special(token: str) -> AddedToken:
    return AddedToken(token, special=True, normalized=False)


def _gpt2_safe_cut(text: str) -> int:
    border = _LAST_BORDER.match(text)
    return border.end() if border else 0


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _type(part: dict | None) -> str | None:
    return part["type"] if part else None


def _is_gpt2_split(part: dict | None) -> bool:
    if _has_single_digits(part):
        part = part["pretokenizers"][1]
    return _type(part) == "ByteLevel" and part["use_regex"] and not part["add_prefix_space"]


def _has_single_digits(part: dict | None) -> bool:
    """Whether the pre-tokenizer is one that cuts off single digits, followed by another one."""
    if _type(part) != "Sequence" or len(part["pretokenizers"]) != 2:
        return False
    first = part["pretokenizers"][0]
    return _type(first) == "Digits" and first["individual_digits"]


def _has(part: dict | None, kind: str) -> bool:
    if _type(part) == "Sequence":
        return any(_has(inner, kind) for inner in part["decoders"])
    return _type(part) == kind
