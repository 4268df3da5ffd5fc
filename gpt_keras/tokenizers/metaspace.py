"""SentencePiece's byte-pair encoding, as a `tokenizer.json` of Llama 2 holds it."""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from gpt_keras.tokenizers.byte_level import part_type
from gpt_keras.tokenizers.engine import OPTIONS_NOT_IN_GRAPH, EngineTokenizer, encode_in_pieces
from gpt_keras.tokenizers.in_graph.metaspace import InGraphMetaspaceTokenizer
from gpt_keras.tokenizers.tokenizer import META_SPACE, AllowedSpecial
from gpt_keras.tokenizers.utf8 import BYTE_TOKEN, incomplete_length

# When a text gets a prefix space: never; at the beginning of the whole text; in each part between
# special tokens, too; or even if the text begins with a space.
Prefix = Literal["never", "first", "always", "prepend"]


class MetaspaceTokenizer(EngineTokenizer):
    """Byte-pair encoding with spaces written as `▁`: Llama 2, Mistral, Gemma.

    Spaces become `▁`, and usually one more is put in front (the prefix space). Then pairs of tokens
    are merged, the earliest learned pair first; most models do not split text into words before. A
    character outside the vocabulary becomes the tokens of its UTF-8 bytes (byte fallback).

    This is SentencePiece's byte-pair encoding (Kudo and Richardson 2018) in the format of a
    `tokenizer.json`. It does not need tensorflow-text, neither in Python nor in a graph.

    The engine is Hugging Face `tokenizers`. One result differs: an incomplete character decodes to
    one U+FFFD, as in every tokenizer of this package, while the engine writes one for each byte.

    `gpt_keras.tokenizers.load` makes one from a file.

    Args:
        engine: A `tokenizers.Tokenizer` with a BPE model and a decoder for `▁`.

    Raises:
        ValueError: `engine` has another model or decoder.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.load("TinyLlama")  # doctest: +SKIP
        >>> tokenizer.encode("Hello world")  # doctest: +SKIP
        [15043, 3186]
    """

    def __init__(self, engine: tokenizers.Tokenizer):
        content = json.loads(engine.to_str())
        model = content["model"]
        decoder = _decoder_parts(content["decoder"])
        if model["type"] != "BPE" or decoder is None:
            raise ValueError(
                "`engine` must be BPE with spaces written as '▁' (a BPE model, and a decoder that "
                "replaces '▁', joins bytes and strips at most one space), got "
                f"{model['type']} with decoder {part_type(content['decoder'])}."
            )
        self._vocabulary = engine.get_vocab(with_added_tokens=False)
        self._strips_space = "Strip" in decoder
        self._prefix, self._splits = _spaces(content["normalizer"], content["pre_tokenizer"])
        byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
        has_bytes = model["byte_fallback"] and self._vocabulary.keys() >= set(byte_tokens)
        super().__init__(
            engine,
            content,
            has_usual_split=self._prefix is not None
            and has_bytes
            and not any(model.get(option) for option in OPTIONS_NOT_IN_GRAPH),
        )
        self._byte_ids = [self._vocabulary[token] for token in byte_tokens] if has_bytes else []
        # True if no token continues past a space after another character. Then every word can be
        # merged by itself.
        self._has_words = not any(
            re.search(f"[^{META_SPACE}]{META_SPACE}", t) for t in self._vocabulary
        )
        self._token_bytes = [b""] * (1 + max((self._vocabulary | self._added_tokens).values()))
        joins_bytes = "ByteFallback" in decoder
        # The decoder replaces '▁' in added tokens, too: Gemma's runs of spaces are added tokens.
        for token, i in (self._vocabulary | self._added_tokens).items():
            byte = BYTE_TOKEN.fullmatch(token) if joins_bytes else None
            text = token.replace(META_SPACE, " ")
            self._token_bytes[i] = bytes([int(byte[1], 16)]) if byte else text.encode()

    @classmethod
    def from_scores(
        cls,
        tokens: Sequence[str],
        scores: Sequence[float],
        special_tokens: Mapping[str, int],
        added_tokens: Mapping[str, int],
        prefix: Prefix = "first",
    ) -> "MetaspaceTokenizer":
        """Build a tokenizer from the pieces of a SentencePiece byte-pair model.

        Args:
            tokens: The pieces, in the order of their ids.
            scores: The score of each piece; pieces with higher scores are merged earlier.
            special_tokens: Control symbols and their ids.
            added_tokens: User-defined symbols, which are found in every text, and their ids.
            prefix: When a text gets a prefix space: `"never"`; `"first"` for the beginning of the
                whole text; `"always"` for each part between special tokens, too; `"prepend"` even
                if the text begins with a space.

        Returns:
            The tokenizer.

        Example:
            >>> import gpt_keras as gk
            >>> tokens = ["<unk>", "▁", "a", "b", "ab", "▁ab"]
            >>> tokenizer = gk.tokenizers.MetaspaceTokenizer.from_scores(
            ...     tokens, [0, -3, -4, -5, -1, -2], {"<unk>": 0}, {}
            ... )
            >>> tokenizer.pieces(tokenizer.encode("ab ba"))
            [b' ab', b' ', b'b', b'a']
        """
        vocabulary = {token: i for i, token in enumerate(tokens)}
        others = special_tokens.keys() | added_tokens.keys()
        rank = {token: -scores[i] for token, i in vocabulary.items()}
        merges = [
            (rank[token], vocabulary[token[:k]], vocabulary[token[k:]], token[:k], token[k:])
            for token in vocabulary
            if token not in others and not BYTE_TOKEN.fullmatch(token)
            for k in range(1, len(token))
            if token[:k] in vocabulary and token[k:] in vocabulary
        ]
        engine = tokenizers.Tokenizer(
            models.BPE(
                vocabulary,
                [(first, second) for *_, first, second in sorted(merges)],
                unk_token="<unk>" if "<unk>" in vocabulary else None,
                fuse_unk=True,
                byte_fallback=True,
            )
        )
        if prefix == "prepend":
            engine.normalizer = normalizers.Sequence(
                [normalizers.Prepend(META_SPACE), normalizers.Replace(" ", META_SPACE)]
            )
        else:
            engine.pre_tokenizer = pre_tokenizers.Metaspace(META_SPACE, prefix, split=False)
        steps = [decoders.Replace(META_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
        if prefix != "never":
            steps.append(decoders.Strip(" ", 1, 0))
        engine.decoder = decoders.Sequence(steps)
        for token in sorted(others, key=vocabulary.__getitem__):
            special = token in special_tokens
            engine.add_tokens([AddedToken(token, special=special, normalized=False)])
        return cls(engine)

    @property
    def prefix(self) -> Prefix | None:
        """Rule for the prefix space of a text; see `from_scores`.

        None if the tokenizer changes text in another way.
        """
        return self._prefix

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self._token_bytes)

    def _encode_later(self, texts: list[str]) -> list[list[int]]:
        if self._prefix != "first":
            return self._encode_batch(texts)
        return encode_in_pieces(self._engine_without_prefix, texts, self.safe_cut)

    @functools.cached_property
    def _engine_without_prefix(self) -> tokenizers.Tokenizer:
        engine = tokenizers.Tokenizer.from_str(self._engine.to_str())
        engine.encode_special_tokens = True
        engine.pre_tokenizer = pre_tokenizers.Metaspace(META_SPACE, "never", split=self._splits)
        return engine

    def _decode_one(self, ids: list[int]) -> str:
        data = b"".join([self._token_bytes[i] for i in ids])
        if self._strips_space:
            data = data.removeprefix(b" ")
        return data.decode("utf-8", errors="replace")

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        """Return the bytes of each token, as `Tokenizer.pieces` describes."""
        return [self._token_bytes[i] for i in self._checked(ids)]

    def safe_cut(self, text: str) -> int:
        """Return the last position in `text` before a space that follows a word.

        It returns 0 if every text gets a prefix space, because a second half would get one, too. It
        also returns 0 if a token can reach across words.
        """
        is_safe = self._has_words and self._prefix not in (None, "prepend")
        # Added tokens that are not special are found before the merging, and may hold a space.
        if not is_safe or self._added_tokens != self._special_tokens:
            return 0
        return 1 + max((m.start() for m in re.finditer(f"[^ {META_SPACE}](?= )", text)), default=-1)

    def ends_inside_character(self, ids: Sequence[int]) -> bool:
        """Return whether `ids` end inside a character that a next id may complete."""
        return incomplete_length(b"".join([self._token_bytes[i] for i in ids[-3:]])) > 0

    def in_graph(self, allowed_special: AllowedSpecial = ()) -> keras.layers.Layer:
        """Return this tokenizer as a Keras layer made of TensorFlow ops.

        `Tokenizer.in_graph` describes the layer. Its ids equal the ids of `encode`. Bytes that are
        not valid UTF-8 are read as U+FFFD.

        Args:
            allowed_special: As in `encode`.

        Returns:
            An `InGraphMetaspaceTokenizer`.

        Raises:
            ValueError: The tokenizer was loaded from a file and changes text in another way, or
                lacks the token of a byte.
        """
        self._require_usual_split(
            "a token for each byte and no normalization except writing spaces as '▁'"
        )
        ids = self._vocabulary
        return InGraphMetaspaceTokenizer(
            self,
            self._found(allowed_special),
            character_ids={token: i for token, i in ids.items() if len(token) == 1},
            byte_ids=self._byte_ids,
            merges=self._merges_of_ids(ids),
            token_bytes=self._token_bytes,
            prefix=self._prefix,
            words="each space" if self._splits else "runs" if self._has_words else "none",
            strips_space=self._strips_space,
        )


def _decoder_parts(decoder: dict[str, Any] | None) -> list[str] | None:
    """Return the kinds of steps of a decoder, or None if it is not supported."""
    if part_type(decoder) != "Sequence":
        return None
    parts = decoder["decoders"]
    kinds = [part_type(part) for part in parts]
    usual = ("Replace", "ByteFallback", "Fuse", "Strip")
    if kinds != [kind for kind in usual if kind in kinds] or kinds[:1] != ["Replace"]:
        return None
    replace = parts[0]["pattern"] == {"String": META_SPACE} and parts[0]["content"] == " "
    strip = "Strip" not in kinds or (parts[-1]["content"], parts[-1]["start"]) == (" ", 1)
    # Strip works on the whole text only after Fuse has joined the tokens.
    strip &= "Strip" not in kinds or ("Fuse" in kinds and parts[-1]["stop"] == 0)
    return kinds if replace and strip else None


def _spaces(
    normalizer: dict[str, Any] | None, pre_tokenizer: dict[str, Any] | None
) -> tuple[Prefix | None, bool]:
    """Return when a text gets a prefix space, and whether it is split at each space.

    The first is None if the text is changed in another way.
    """
    prepend = {"type": "Prepend", "prepend": META_SPACE}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": META_SPACE}
    is_metaspace = (
        part_type(pre_tokenizer) == "Metaspace" and pre_tokenizer["replacement"] == META_SPACE
    )
    if normalizer is None and is_metaspace:
        return pre_tokenizer["prepend_scheme"], pre_tokenizer["split"]
    # Gemma's pre-tokenizer splits at spaces, but its normalizer has already replaced them all.
    is_cut = pre_tokenizer is not None and (
        part_type(pre_tokenizer) != "Split" or pre_tokenizer["pattern"] != {"String": " "}
    )
    if is_cut:
        return None, False
    steps = normalizer["normalizers"] if part_type(normalizer) == "Sequence" else [normalizer]
    if steps == [replace]:
        return "never", False
    return ("prepend" if steps == [prepend, replace] else None), False
