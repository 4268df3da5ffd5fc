"""Base class of the tokenizers: text to ids, ids to text, saving, comparison."""

import abc
import functools
import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from gpt_keras.atomic import atomic_file
from gpt_keras.checks import check_choice, check_positive_int
from gpt_keras.texts import as_list_of_texts, as_texts, describe
from gpt_keras.tokenizers.added_tokens import AddedToken, without_gaps
from gpt_keras.tokenizers.boundaries import Boundaries
from gpt_keras.tokenizers.stream_decoder import StreamDecoder

END_OF_TEXT = "<|endoftext|>"
FILE_NAME = "tokenizer.json"

META_SPACE = "\u2581"  # "▁": SentencePiece writes a space as this character

SIDES = ("left", "right")

# White space as the engine defines it. Python's `\s` matches four more control characters.
WHITE_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_LEADING_SPACE = re.compile(rf"\A[{WHITE_SPACE}]+")
_TRAILING_SPACE = re.compile(rf"[{WHITE_SPACE}]+\Z")

# Special tokens whose text becomes their id: all of the tokenizer's, or these.
AllowedSpecial = Literal["all"] | Collection[str]


class PaddedIds(NamedTuple):
    """Token ids of several texts, cut and padded to one length.

    Attributes:
        token_ids: `(batch, sequence_length)` int32.
        mask: `(batch, sequence_length)` bool; False at padding.
    """

    token_ids: Any
    mask: Any


class Tokenizer(abc.ABC):
    """A fixed mapping between text and integer ids: base class of all tokenizers.

    A tokenizer is immutable. To change one, train or load another, or call a method such as
    `with_boundaries`, which returns a copy. Two tokenizers with equal content are equal (`==`);
    `digest` returns a hash of the content.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc")
        >>> isinstance(tokenizer, gk.tokenizers.Tokenizer)
        True
        >>> tokenizer.encode("cab"), tokenizer.decode([2, 0, 1])
        ([2, 0, 1], 'cab')
    """

    @property
    @abc.abstractmethod
    def vocabulary_size(self) -> int:
        """Number of ids; they run from 0 to `vocabulary_size - 1`."""

    @property
    @abc.abstractmethod
    def end_of_text_id(self) -> int | None:
        """Id of the end-of-text token (EOS), which separates documents, or None."""

    @property
    def strips_before(self) -> Collection[int]:
        """Ids of special tokens that remove the white space before them."""
        return ()

    @property
    def strips_after(self) -> Collection[int]:
        """Ids of special tokens that remove the white space after them."""
        return ()

    @property
    def start_of_text_id(self) -> int | None:
        """Id of the start-of-text token (BOS: `<s>`, `<|begin_of_text|>`), or None."""
        return None

    @property
    def start_of_text(self) -> str | None:
        """The start-of-text token as the vocabulary writes it, or None."""
        return self._written(self.start_of_text_id)

    @property
    def end_of_text(self) -> str | None:
        """The end-of-text token as the vocabulary writes it, or None."""
        return self._written(self.end_of_text_id)

    def _written(self, token_id: int | None) -> str | None:
        """Return a special token as the vocabulary writes it, or None."""
        special = self.special_tokens.items()
        return next((token for token, i in special if i == token_id), None)

    @property
    def adds_start_of_text(self) -> bool:
        """True if prompts and training documents begin with `start_of_text_id`."""
        return False

    @property
    def prompt_start(self) -> tuple[int, ...]:
        """Ids that every prompt begins with.

        They are `(start_of_text_id,)` if `adds_start_of_text`, else `()`.
        """
        return (self.start_of_text_id,) if self.adds_start_of_text else ()

    @property
    def id_before_text(self) -> int | None:
        """Id that precedes a text in training, as the context of its first token, or None.

        It is `start_of_text_id` if `adds_start_of_text`, else the `end_of_text_id` of the preceding
        document.
        """
        return next(iter(self.prompt_start), self.end_of_text_id)

    @property
    @abc.abstractmethod
    def special_tokens(self) -> dict[str, int]:
        """Special tokens and their ids.

        Text is encoded as a special token only where `allowed_special` names it.
        """

    def with_boundaries(
        self,
        start_of_text: str | None = None,
        end_of_text: str | None = None,
        adds_start_of_text: bool | None = None,
    ) -> "Tokenizer":
        """Return a copy with other start-of-text and end-of-text tokens.

        Args:
            start_of_text: Token whose id becomes `start_of_text_id`; None keeps the present id.
            end_of_text: Token whose id becomes `end_of_text_id`; None keeps the present id.
            adds_start_of_text: Whether prompts and training documents begin with `start_of_text`;
                None keeps the present setting.

        Returns:
            The copy, or the tokenizer itself if nothing changes.

        Raises:
            ValueError: The vocabulary lacks a token, `adds_start_of_text` is True without a
                start-of-text token, or the class does not support other tokens here.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.BytePairTokenizer.train(
            ...     "low lower", 262, special_tokens=["<s>", "</s>"]
            ... )
            >>> tokenizer = tokenizer.with_boundaries("<s>", "</s>", adds_start_of_text=True)
            >>> tokenizer.pieces(tokenizer.encode("low", add_start_of_text=True))
            [b'<s>', b'low']
        """
        ids = []
        for name, token in (("start_of_text", start_of_text), ("end_of_text", end_of_text)):
            token_id = getattr(self, f"{name}_id") if token is None else self.token_id(token)
            if token is not None and token_id is None:
                raise ValueError(f"`{name}` must be a token of the vocabulary, got {token!r}.")
            ids.append(token_id)
        adds = self.adds_start_of_text if adds_start_of_text is None else bool(adds_start_of_text)
        if adds and ids[0] is None:
            raise ValueError("`adds_start_of_text` must be False without a start of text.")
        boundaries = Boundaries(*ids, adds)
        return self if boundaries == self._boundaries else self._with_boundaries(boundaries)

    def with_added_tokens(self, tokens: Sequence[AddedToken]) -> "Tokenizer":
        """Return a copy with further tokens in its vocabulary.

        Args:
            tokens: Tokens with ids from `vocabulary_size` on. If they leave gaps between ids, each
                gap gets a placeholder such as `[PAD270]`. Tokens that the tokenizer already has are
                skipped.

        Returns:
            The copy, or the tokenizer itself if there is nothing to add.

        Raises:
            ValueError: The vocabulary has another token with one of these ids, or one of these
                tokens with another id; or the class does not support further tokens.

        Example:
            >>> import gpt_keras as gk
            >>> from gpt_keras.tokenizers.added_tokens import AddedToken
            >>> tokenizer = gk.tokenizers.BytePairTokenizer.train("low lower", 260)
            >>> tokenizer.vocabulary_size, tokenizer.special_tokens
            (259, {'<|endoftext|>': 258})
            >>> tokenizer = tokenizer.with_added_tokens([AddedToken(259, "<|im_end|>")])
            >>> tokenizer.special_tokens
            {'<|endoftext|>': 258, '<|im_end|>': 259}
        """
        new = [token for token in tokens if self.token_id(token.text) is None]
        known = [
            token for token in tokens if self.token_id(token.text) not in (None, token.token_id)
        ]
        known += [token for token in new if token.token_id < self.vocabulary_size]
        if known:
            raise ValueError(
                f"`tokens` must have ids from {self.vocabulary_size} on, or be in the vocabulary "
                f"with the same ids, got {known[0].token_id} for {known[0].text!r}."
            )
        return self._with_added_tokens(without_gaps(new, self.vocabulary_size)) if new else self

    def with_first_ids(self, count: int) -> "Tokenizer":
        """Return a copy with only the first `count` ids, for a model with fewer ids.

        Only added tokens can be removed, even if they begin or end a text.

        Args:
            count: Number of ids to keep.

        Returns:
            The copy, or the tokenizer itself if it has no more than `count` ids.

        Raises:
            ValueError: This would remove tokens that text is encoded with.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.BytePairTokenizer.train("low lower", 260)
            >>> tokenizer.with_first_ids(258).special_tokens
            {}
        """
        if count >= self.vocabulary_size:
            return self
        start, end, adds = self._boundaries
        start = None if start is None or start >= count else start
        end = None if end is None or end >= count else end
        kept = Boundaries(start, end, adds and start is not None)
        tokenizer = self if kept == self._boundaries else self._with_boundaries(kept)
        return tokenizer._with_first_ids(count)

    def _with_first_ids(self, count: int) -> "Tokenizer":
        raise ValueError(
            f"`count` must be at least {self.vocabulary_size}, got {count}: text is encoded with "
            "these tokens."
        )

    def _with_added_tokens(self, tokens: list[AddedToken]) -> "Tokenizer":
        raise ValueError(f"A {type(self).__name__} cannot have further tokens.")

    @property
    def _boundaries(self) -> Boundaries:
        return Boundaries(self.start_of_text_id, self.end_of_text_id, self.adds_start_of_text)

    def _with_boundaries(self, boundaries: Boundaries) -> "Tokenizer":
        raise ValueError(f"A {type(self).__name__} cannot have other boundary tokens.")

    def token_id(self, token: str) -> int | None:
        """Return the id of a token, or None if the vocabulary lacks the token.

        Args:
            token: The token as the vocabulary writes it.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.BytePairTokenizer.gpt2()
            >>> tokenizer.token_id("<|endoftext|>"), tokenizer.token_id("<s>")
            (50256, None)
        """
        return self.special_tokens.get(token)

    @abc.abstractmethod
    def to_json(self) -> str:
        """Return the content as JSON text, exactly as `save` writes it."""

    @abc.abstractmethod
    def in_graph(self, allowed_special: AllowedSpecial = ()) -> Any:
        """Return this tokenizer as a Keras layer made of TensorFlow ops.

        The ids equal the ids of `encode`. The layer has four methods. All of them can be traced
        into a SavedModel, which then needs neither Keras nor this package.

        - `layer(strings)` takes a `(batch,)` string tensor and returns int32 ids as a
          `tf.RaggedTensor` `(batch, None)`. With `add_start_of_text=True`, each row begins with
          `prompt_start`.
        - `layer.encode_padded(strings, sequence_length)` returns dense ids and their mask.
        - `layer.detokenize(ids)` takes an integer tensor, ragged or dense, and returns `(batch,)`
          strings: the bytes of the tokens, joined. Invalid UTF-8 is not replaced by U+FFFD.
        - `layer.detokenize_stream(ids, rest)` decodes ids that arrive a few at a time; its text
          never ends inside a character.

        Args:
            allowed_special: As in `encode`.

        Returns:
            A `keras.layers.Layer`.

        Raises:
            ValueError: The tokenizer was loaded from a file and splits or normalizes text in a way
                that the layer does not implement.

        Example:
            >>> import gpt_keras as gk
            >>> layer = gk.tokenizers.CharacterTokenizer("abc").in_graph()
            >>> layer(["cab", "b"]).to_list()
            [[2, 0, 1], [1]]
            >>> layer.detokenize([[2, 0, 1]]).numpy().tolist()
            [b'cab']
        """

    @abc.abstractmethod
    def _encode_batch(self, texts: list[str]) -> list[list[int]]: ...

    @abc.abstractmethod
    def _decode_one(self, ids: list[int]) -> str: ...

    def encode(
        self,
        text: str | Iterable[str],
        allowed_special: AllowedSpecial = (),
        add_start_of_text: bool = False,
    ) -> list[int] | list[list[int]]:
        """Encode text as ids.

        By default, text that looks like a special token is encoded like any other text. So the
        string `"<|endoftext|>"` in a user's text cannot end a document or begin the assistant's
        turn in a chat.

        Args:
            text: One string, or several in any container: a list, tuple, NumPy array, pandas
                Series, string tensor, generator or `tf.data.Dataset`.
            allowed_special: Special tokens whose text becomes their id: a collection of them, or
                `"all"` for every token in `special_tokens`.
            add_start_of_text: Whether the ids begin like the model's prompts, with `prompt_start`:
                `start_of_text_id` if the tokenizer `adds_start_of_text`, else nothing. In
                transformers this is `add_special_tokens`, which is True by default.

        Returns:
            A list of ids for one string, a list of lists for several.

        Raises:
            ValueError: `text` holds an object that is not a string, or `allowed_special` names a
                token that is not special.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc", end_of_text=True)
            >>> tokenizer.encode(["cab", "b"])
            [[2, 0, 1], [1]]
            >>> tokenizer.encode("a<|endoftext|>b", allowed_special="all")
            [0, 3, 1]
        """
        allowed = self._allowed(allowed_special)
        given = as_texts("text", text)
        texts = [given] if isinstance(given, str) else given
        rows = self._encode_with(allowed, texts) if allowed else self._encode_batch(texts)
        if add_start_of_text:
            rows = [[*self.prompt_start, *row] for row in rows]
        return rows[0] if isinstance(given, str) else rows

    def encode_padded(
        self,
        texts: Iterable[str],
        sequence_length: int,
        *,
        append_end_of_text: bool = False,
        padding_side: Literal["left", "right"] = "right",
        truncation_side: Literal["left", "right"] = "right",
        pad_id: int | None = None,
        allowed_special: AllowedSpecial = (),
        add_start_of_text: bool = False,
    ) -> PaddedIds:
        """Encode texts as rows of one length: cut longer rows, pad shorter rows.

        Args:
            texts: Several strings, in any container that `encode` accepts.
            sequence_length: Number of ids in a row.
            append_end_of_text: Whether to append `end_of_text_id` to each text. This happens before
                truncation, so a text that is cut on the right does not have it.
            padding_side: Side of a row that is padded.
            truncation_side: Side of a row that ids are cut from.
            pad_id: Id of padding; None for `end_of_text_id`, or 0 if there is none.
            allowed_special: As in `encode`.
            add_start_of_text: As in `encode`; this, too, happens before truncation.

        Returns:
            `(token_ids, mask)`: NumPy arrays `(len(texts), sequence_length)`, int32 and bool. The
            mask is False at padding.

        Raises:
            ValueError: As in `encode`; or an argument is out of its range; or `append_end_of_text`
                is True and the tokenizer has no end-of-text token.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc")
            >>> token_ids, mask = tokenizer.encode_padded(["abc", "b"], 2, padding_side="left")
            >>> token_ids.tolist(), mask.tolist()
            ([[0, 1], [0, 1]], [[True, True], [False, True]])
        """
        pad_id = self.check_padding(sequence_length, padding_side, truncation_side, pad_id)
        rows = self.encode(as_list_of_texts("texts", texts), allowed_special, add_start_of_text)
        end = [self.require_end_of_text_id()] if append_end_of_text else []
        token_ids = np.full((len(rows), sequence_length), pad_id, np.int32)
        mask = np.zeros(token_ids.shape, bool)
        for i, row in enumerate(rows):
            row = row + end
            row = row[:sequence_length] if truncation_side == "right" else row[-sequence_length:]
            start = 0 if padding_side == "right" else sequence_length - len(row)
            token_ids[i, start : start + len(row)] = row
            mask[i, start : start + len(row)] = True
        return PaddedIds(token_ids, mask)

    def check_padding(
        self, sequence_length: int, padding_side: str, truncation_side: str, pad_id: int | None
    ) -> int:
        """Check the arguments of `encode_padded` and return the id of padding.

        Raises:
            ValueError: An argument is out of its range.
        """
        check_positive_int("sequence_length", sequence_length)
        check_choice("padding_side", padding_side, SIDES)
        check_choice("truncation_side", truncation_side, SIDES)
        if pad_id is None:
            return self.end_of_text_id or 0
        return self._checked([pad_id], "pad_id")[0]

    def require_end_of_text_id(self) -> int:
        """Return `end_of_text_id`, or raise `ValueError` if there is none."""
        if self.end_of_text_id is None:
            raise ValueError("`append_end_of_text` needs a tokenizer with an end-of-text token.")
        return self.end_of_text_id

    def corpus_encoder(self) -> Callable[[list[str]], list[np.ndarray]]:
        """Return the fastest available function from a list of texts to their ids.

        The function returns the ids of `encode`, one integer array for each text. Several threads
        may call it. Making it takes up to a second.
        """
        return lambda texts: [np.array(ids, np.int32) for ids in self.encode(texts)]

    def decode(self, ids: Any) -> str | list[str]:
        """Decode ids to text.

        A byte-level token may hold a part of a character. Bytes that are not valid UTF-8 decode to
        U+FFFD, for example where a sequence was cut inside a character.

        Args:
            ids: One sequence of ids, or a batch of sequences: lists, NumPy arrays or tensors.

        Returns:
            A string for one sequence, a list of strings for a batch.

        Raises:
            ValueError: An id is not an integer or is outside the vocabulary.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc")
            >>> tokenizer.decode([2, 0, 1]), tokenizer.decode([[2], [0, 1]])
            ('cab', ['c', 'ab'])
        """
        if hasattr(ids, "to_list"):  # tf.RaggedTensor
            ids = ids.to_list()
        elif hasattr(ids, "numpy"):  # tf.Tensor
            ids = ids.numpy()
        if isinstance(ids, (str, bytes)) or not isinstance(ids, (Iterable, np.ndarray)):
            raise ValueError(f"`ids` must be a sequence of integers, got {describe(ids)}.")
        if isinstance(ids, np.ndarray):
            if ids.ndim not in (1, 2):
                raise ValueError(f"`ids` must have 1 or 2 dimensions, got shape {ids.shape}.")
            is_batch = ids.ndim == 2
        else:
            ids = list(ids)
            is_batch = bool(ids) and np.ndim(ids[0]) > 0
        if is_batch:
            return [self._decode_one(self._checked(row)) for row in ids]
        return self._decode_one(self._checked(ids))

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        r"""Return the bytes of each token.

        Joined, they are the text of `decode`, except for a possible space at the beginning. They
        are bytes because a token may hold a part of a character.

        Args:
            ids: One sequence of ids.

        Returns:
            One `bytes` object for each id.

        Raises:
            ValueError: As in `decode`.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.BytePairTokenizer.gpt2()
            >>> tokenizer.pieces(tokenizer.encode("it's 詩"))
            [b'it', b"'s", b' \xe8', b'\xa9', b'\xa9']
        """
        return [self._decode_one([i]).encode() for i in self._checked(ids)]

    def stream_decoder(self) -> StreamDecoder:
        """Return a decoder for ids that arrive one by one.

        Its text never ends inside a character.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.BytePairTokenizer.gpt2()
            >>> decoder = tokenizer.stream_decoder()
            >>> [decoder.decode([i]) for i in tokenizer.encode("詩!")]
            ['', '', '詩', '!']
        """
        return StreamDecoder(self)

    def ends_inside_character(self, ids: Sequence[int]) -> bool:
        """Return whether `ids` end inside a character that a next id may complete."""
        del ids
        return False

    def safe_cut(self, text: str) -> int:
        """Return the last position where a cut of `text` does not change its ids.

        The ids of both halves, joined, equal the ids of the whole text, whatever follows `text`.
        Long files are encoded in pieces this way.

        Args:
            text: A string, usually the beginning of a longer one.

        Returns:
            A position in `text`; 0 if no safe position was found.
        """
        del text
        return 0

    def save(self, path: str | os.PathLike) -> Path:
        """Write the tokenizer to one human-readable JSON file.

        The file is written under a temporary name and then renamed. So an interruption never leaves
        half a file behind.

        Args:
            path: A file whose name ends in `.json`; or a folder (created if missing), in which the
                file is named `tokenizer.json`.

        Returns:
            The path of the file.

        Example:
            >>> import tempfile
            >>> import gpt_keras as gk
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     gk.tokenizers.CharacterTokenizer("abc").save(folder).name
            'tokenizer.json'
        """
        path = Path(path)
        file = path if path.suffix == ".json" else path / FILE_NAME
        with atomic_file(file) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8", newline="\n")
        return file

    def digest(self) -> str:
        """Return the SHA-256 of the content as 64 hexadecimal digits."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        content = json.dumps(json.loads(self.to_json()), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(f"{type(self).__name__}\n{content}".encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokenizer):
            return NotImplemented
        return type(self) is type(other) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} vocabulary_size={self.vocabulary_size}>"

    def _allowed(self, allowed_special: AllowedSpecial) -> dict[str, int]:
        """Return the special tokens that `allowed_special` names, and their ids."""
        special = self.special_tokens
        if isinstance(allowed_special, str) and allowed_special == "all":
            return special
        if isinstance(allowed_special, str) or not isinstance(allowed_special, Collection):
            raise ValueError(
                f'`allowed_special` must be "all" or a list of special tokens, got '
                f"{describe(allowed_special)}."
            )
        unknown = [token for token in allowed_special if token not in special]
        if unknown:
            raise ValueError(
                f"`allowed_special` must be among the special tokens {list(special)}, got "
                f"{unknown[0]!r}."
            )
        return {token: special[token] for token in allowed_special}

    def _encode_with(self, allowed: dict[str, int], texts: list[str]) -> list[list[int]]:
        """Encode texts in which the allowed special tokens become their ids."""
        # If one token is a prefix of another, the longer one is tried first.
        longest_first = sorted(allowed, key=len, reverse=True)
        expression = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        # `split` returns the special tokens at the odd positions.
        rows = [expression.split(text) for text in texts]
        encoded = self._encode_parts(
            [[allowed[part] if i % 2 else part for i, part in enumerate(row)] for row in rows]
        )
        return [list(itertools.chain.from_iterable(parts)) for parts in encoded]

    def encode_parts(self, parts: Sequence[str | int]) -> list[int]:
        """Encode a text whose special tokens are given as ids between its parts.

        Unlike in `encode`, no string can become a special token. A special token with `lstrip` or
        `rstrip` (settings of Hugging Face's files) removes the white space before or after it.

        Args:
            parts: Strings and ids, in the order of the text.

        Returns:
            The ids of the whole text.

        Raises:
            ValueError: A part is neither a string nor an id of the vocabulary.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc", end_of_text=True)
            >>> tokenizer.encode_parts(["ab", 3, "c"])
            [0, 1, 3, 2]
        """
        return list(itertools.chain.from_iterable(self.encode_each_part(parts)))

    def encode_each_part(self, parts: Sequence[str | int]) -> list[list[int]]:
        """Encode a text like `encode_parts`; return the ids of each part in a list.

        Args:
            parts: As in `encode_parts`.

        Returns:
            A list of ids for each part. Joined, they are the result of `encode_parts`.

        Raises:
            ValueError: As in `encode_parts`.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc", end_of_text=True)
            >>> tokenizer.encode_each_part(["ab", 3, "c"])
            [[0, 1], [3], [2]]
        """
        parts = list(parts)
        self._checked([part for part in parts if not isinstance(part, str)], "parts")
        return self._encode_parts([parts])[0]

    def _encode_parts(self, rows: list[list[str | int]]) -> list[list[list[int]]]:
        """Encode the strings of all rows in two batches, and return the ids of each part.

        Strings that begin a row are one batch, all other strings are the second.
        """
        first, later = [], []
        for row in rows:
            for i, part in enumerate(row):
                if isinstance(part, str):
                    before = row[i - 1] if i else None
                    after = row[i + 1] if i + 1 < len(row) else None
                    (later if i else first).append(self._stripped(part, before, after))
        ids = iter(self._encode_batch(first)), iter(self._encode_later(later))
        return [
            [
                next(ids[i > 0]) if isinstance(part, str) else [int(part)]
                for i, part in enumerate(row)
            ]
            for row in rows
        ]

    def _stripped(self, text: str, before: str | int | None, after: str | int | None) -> str:
        """Return a string without the white space that its neighbours remove."""
        if before in self.strips_after:
            text = _LEADING_SPACE.sub("", text)
        if after in self.strips_before:
            text = _TRAILING_SPACE.sub("", text)
        return text

    def _encode_later(self, texts: list[str]) -> list[list[int]]:
        """Encode texts that follow a special token, not the beginning of a text."""
        return self._encode_batch(texts)

    def _checked(self, ids: Sequence, name: str = "ids") -> list[int]:
        array = np.asarray(ids)
        if array.size == 0:
            return []
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError(f"`{name}` must be integers, got {describe(ids)}.")
        outside = array[(array < 0) | (array >= self.vocabulary_size)]
        if outside.size:
            raise ValueError(
                f"`{name}` must be from 0 to {self.vocabulary_size - 1} (the vocabulary has "
                f"{self.vocabulary_size} tokens), got {int(outside[0])}."
            )
        return array.tolist()
