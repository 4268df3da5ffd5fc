"""Base class of the tokenizers: text to ids, ids to text, save, compare."""

import abc
import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from gpt_keras.atomic import atomic_file
from gpt_keras.checks import check_choice, check_positive_int
from gpt_keras.tokenizers.added_tokens import AddedToken, without_gaps
from gpt_keras.tokenizers.boundaries import Boundaries
from gpt_keras.tokenizers.stream_decoder import StreamDecoder
from gpt_keras.tokenizers.texts import as_list_of_texts, as_texts, describe

END_OF_TEXT = "<|endoftext|>"
FILE_NAME = "tokenizer.json"

META_SPACE = "\u2581"  # "▁": SentencePiece writes a space as this character

SIDES = ("left", "right")

# What the engine takes for white space: Python's `\s` has four control characters more.
WHITE_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_LEADING_SPACE = re.compile(rf"\A[{WHITE_SPACE}]+")
_TRAILING_SPACE = re.compile(rf"[{WHITE_SPACE}]+\Z")

# Which special tokens a text may hold: all of the tokenizer's, or these.
AllowedSpecial = Literal["all"] | Collection[str]


class PaddedIds(NamedTuple):
    """Ids of several texts in rows of one length.

    Attributes:
        token_ids: `(batch, sequence_length)` int32.
        mask: `(batch, sequence_length)` bool, False where a row was padded.
    """

    token_ids: Any
    mask: Any


class Tokenizer(abc.ABC):
    """A fixed mapping between text and integer ids.

    A tokenizer never changes after it was made: train or load a new one. Two tokenizers of equal
    content are equal (`==`), and `digest()` names that content.
    """

    @property
    @abc.abstractmethod
    def vocabulary_size(self) -> int:
        """Number of ids; ids run from 0 to `vocabulary_size - 1`."""

    @property
    @abc.abstractmethod
    def end_of_text_id(self) -> int | None:
        """Id of the token that ends a text and so separates documents, or None."""

    @property
    def strips_before(self) -> Collection[int]:
        """Ids of the special tokens that take the white space before them."""
        return ()

    @property
    def strips_after(self) -> Collection[int]:
        """Ids of the special tokens that take the white space after them."""
        return ()

    @property
    def start_of_text_id(self) -> int | None:
        """Id of the token that begins a text (`<s>`, `<|begin_of_text|>`), or None."""
        return None

    @property
    def start_of_text(self) -> str | None:
        """The token of `start_of_text_id`, as the vocabulary writes it, or None."""
        return self._written(self.start_of_text_id)

    @property
    def end_of_text(self) -> str | None:
        """The token of `end_of_text_id`, as the vocabulary writes it, or None."""
        return self._written(self.end_of_text_id)

    def _written(self, token_id: int | None) -> str | None:
        """A token as the vocabulary writes it."""
        special = self.special_tokens.items()
        return next((token for token, i in special if i == token_id), None)

    @property
    def adds_start_of_text(self) -> bool:
        """Whether the model's prompts and training documents begin with `start_of_text_id`."""
        return False

    @property
    def prompt_start(self) -> tuple[int, ...]:
        """The ids that every prompt begins with: `start_of_text_id` where it is added, or none."""
        return (self.start_of_text_id,) if self.adds_start_of_text else ()

    @property
    def id_before_text(self) -> int | None:
        """Id that stands before a text in training, the context of its first token; or None.

        It is `start_of_text_id` where it is added, and else the end of the text before.
        """
        return next(iter(self.prompt_start), self.end_of_text_id)

    @property
    @abc.abstractmethod
    def special_tokens(self) -> dict[str, int]:
        """Tokens that text holds only where `allowed_special` names them, and their ids."""

    def with_boundaries(
        self,
        start_of_text: str | None = None,
        end_of_text: str | None = None,
        adds_start_of_text: bool | None = None,
    ) -> "Tokenizer":
        """Return a copy whose texts begin and end with other tokens.

        Args:
            start_of_text: The token whose id becomes `start_of_text_id`; None changes nothing.
            end_of_text: The token whose id becomes `end_of_text_id`; None changes nothing.
            adds_start_of_text: Whether prompts and training documents begin with the first; None
                changes nothing.

        Raises:
            ValueError: The vocabulary lacks a token, or `adds_start_of_text` is True without a
                start of text.

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
        """Return a copy that has these tokens, too.

        Args:
            tokens: Tokens with ids after those of the vocabulary; ids between that have none get
                a token such as `[PAD270]`. Tokens that the tokenizer has already are left out.

        Raises:
            ValueError: The vocabulary has another token of one of these ids or texts, or a
                tokenizer of this kind cannot have further tokens.

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
                f"`tokens` must have ids after those of the vocabulary, or those that it has, got "
                f"{known[0].token_id} for {known[0].text!r}."
            )
        return self._with_added_tokens(without_gaps(new, self.vocabulary_size)) if new else self

    def with_first_ids(self, count: int) -> "Tokenizer":
        """Return a copy without the added tokens from an id on, as of a model with fewer ids.

        Args:
            count: How many ids to keep.

        Raises:
            ValueError: That takes away tokens which text is made of.

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
            f"`count` must be at least {self.vocabulary_size}, which the texts need, got {count}."
        )

    def _with_added_tokens(self, tokens: list[AddedToken]) -> "Tokenizer":
        raise ValueError(f"A {type(self).__name__} cannot have further tokens.")

    @property
    def _boundaries(self) -> Boundaries:
        return Boundaries(self.start_of_text_id, self.end_of_text_id, self.adds_start_of_text)

    def _with_boundaries(self, boundaries: Boundaries) -> "Tokenizer":
        raise ValueError(f"A {type(self).__name__} cannot have other tokens at its boundaries.")

    def token_id(self, token: str) -> int | None:
        """Return the id of a token, given as the vocabulary writes it; None if there is none."""
        return self.special_tokens.get(token)

    @abc.abstractmethod
    def to_json(self) -> str:
        """Return the whole content as JSON text; `save` writes exactly this."""

    @abc.abstractmethod
    def in_graph(self, allowed_special: AllowedSpecial = ()) -> Any:
        """Return a Keras layer that does the same with TensorFlow ops.

        `layer(strings)` takes a `(batch,)` string tensor and returns a `tf.RaggedTensor` of int32
        ids, `(batch, None)`; `layer(strings, add_start_of_text=True)` those of prompts.
        `layer.encode_padded(strings, sequence_length)` returns dense ids and their mask.
        `layer.detokenize(ids)` takes a ragged or dense integer tensor and returns `(batch,)`
        strings: exactly the bytes of the tokens, joined; `layer.detokenize_stream` does so bit by
        bit and never ends inside a character. All can be traced into a SavedModel that needs
        neither Keras nor this package.

        Args:
            allowed_special: As in `encode`.
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
        """Turn text into ids.

        Unless allowed, the text of a special token gets no special treatment: the string
        `"<|endoftext|>"` is encoded like any other text, so that no user's text can end a document
        or take the part of the assistant in a chat.

        Args:
            text: One string, or several in any container: a list, tuple, NumPy array, pandas
                Series, string tensor, generator or `tf.data.Dataset`.
            allowed_special: Special tokens whose text becomes their id: a list of them, or `"all"`
                for all in `special_tokens`.
            add_start_of_text: Whether the ids begin as the model's prompts do, with
                `start_of_text_id` if the tokenizer `adds_start_of_text`. (In transformers this is
                `add_special_tokens`, and True by default.)

        Returns:
            A list of ids for one string, a list of lists for several.

        Raises:
            ValueError: `text` holds anything but strings, or
                `allowed_special` names a token that is not special.
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
        """Turn texts into rows of ids of one length: longer ones are cut, shorter ones padded.

        Args:
            texts: Several strings, in any container that `encode` takes.
            sequence_length: Ids in a row.
            append_end_of_text: Whether `end_of_text_id` follows each text. It is added before a
                text is cut, so a text that was cut on the right does not have it.
            padding_side: Where padding goes.
            truncation_side: From which end ids are cut off.
            pad_id: The id of padding; None for `end_of_text_id`, or 0 if there is none.
            allowed_special: As in `encode`.
            add_start_of_text: As in `encode`; added before a text is cut, too.

        Returns:
            `(token_ids, mask)`: numpy arrays `(len(texts), sequence_length)`, int32 and bool; the
            mask is False at padding.

        Raises:
            ValueError: As in `encode`, or an argument is out of its range.

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
        """Check the arguments of `encode_padded` and return the id of padding."""
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
        """Return the fastest function there is from many texts to their ids.

        It gives what `encode` gives, as integer arrays, and several threads may call it. Making it
        takes up to a second.
        """
        return lambda texts: [np.array(ids, np.int32) for ids in self.encode(texts)]

    def decode(self, ids: Any) -> str | list[str]:
        """Turn ids into text.

        Byte-level tokens may hold parts of a character: bytes that are not valid UTF-8, as at the
        end of a sequence cut in the middle of a character, decode to U+FFFD.

        Args:
            ids: One sequence of ids, or a batch of sequences; lists, numpy arrays or tensors.

        Returns:
            A string for one sequence, a list of strings for a batch.

        Raises:
            ValueError: An id is not an integer or is outside the vocabulary.
        """
        if hasattr(ids, "to_list"):  # tf.RaggedTensor
            ids = ids.to_list()
        elif hasattr(ids, "numpy"):  # tf.Tensor
            ids = ids.numpy()
        if isinstance(ids, (str, bytes)) or not isinstance(ids, (Iterable, np.ndarray)):
            raise ValueError(f"`ids` must be a sequence of integers, but is {describe(ids)}.")
        if isinstance(ids, np.ndarray):
            if ids.ndim not in (1, 2):
                raise ValueError(f"`ids` must have 1 or 2 dimensions, but has shape {ids.shape}.")
            is_batch = ids.ndim == 2
        else:
            ids = list(ids)
            is_batch = bool(ids) and np.ndim(ids[0]) > 0
        if is_batch:
            return [self._decode_one(self._checked(row)) for row in ids]
        return self._decode_one(self._checked(ids))

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        r"""Return the bytes that each id stands for, one entry an id.

        Joined, they are what `decode` gives, up to a space at the beginning. They are bytes
        because a token may hold a part of a character.

        Args:
            ids: One sequence of ids.

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
        """Return a decoder for ids that come one by one; it never shows half a character.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.BytePairTokenizer.gpt2()
            >>> decoder = tokenizer.stream_decoder()
            >>> [decoder.decode([i]) for i in tokenizer.encode("詩!")]
            ['', '', '詩', '!']
        """
        return StreamDecoder(self)

    def ends_inside_character(self, ids: Sequence[int]) -> bool:
        """Whether a further id may complete a character that `ids` end in the middle of."""
        del ids
        return False

    def safe_cut(self, text: str) -> int:
        """Return the last place where `text` can be cut without changing its ids.

        Encoding both halves and joining the ids gives the ids of the whole, whatever follows
        `text`. Long files are encoded piece by piece this way.

        Args:
            text: A string, usually the beginning of a longer one.

        Returns:
            A position in `text`; 0 if no safe place was found.
        """
        del text
        return 0

    def save(self, path: str | os.PathLike) -> Path:
        """Write the tokenizer to one JSON file, readable by people.

        The file is written under a temporary name and then renamed, so that no half a file is
        left when writing stops in the middle.

        Args:
            path: The file, whose name must end in `.json`, or a folder (made if missing) that
                gets a `tokenizer.json`.

        Returns:
            The path of the file.
        """
        path = Path(path)
        file = path if path.suffix == ".json" else path / FILE_NAME
        with atomic_file(file) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8", newline="\n")
        return file

    def digest(self) -> str:
        """Return the SHA-256 of the content, as 64 hexadecimal digits."""
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
        """The special tokens that `allowed_special` names, and their ids."""
        special = self.special_tokens
        if isinstance(allowed_special, str) and allowed_special == "all":
            return special
        if isinstance(allowed_special, str) or not isinstance(allowed_special, Collection):
            raise ValueError(
                f'`allowed_special` must be "all" or a list of special tokens, but is '
                f"{describe(allowed_special)}."
            )
        unknown = [token for token in allowed_special if token not in special]
        if unknown:
            raise ValueError(
                f"`allowed_special` must be among the special tokens {list(special)}, but has "
                f"{unknown[0]!r}."
            )
        return {token: special[token] for token in allowed_special}

    def _encode_with(self, allowed: dict[str, int], texts: list[str]) -> list[list[int]]:
        """Encode texts with the allowed special tokens in them."""
        # Of tokens that begin alike the longest one counts.
        longest_first = sorted(allowed, key=len, reverse=True)
        expression = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        # Every second part is a special token.
        rows = [expression.split(text) for text in texts]
        return self._encode_parts(
            [[allowed[part] if i % 2 else part for i, part in enumerate(row)] for row in rows]
        )

    def encode_parts(self, parts: Sequence[str | int]) -> list[int]:
        """Encode one text whose special tokens are given as ids, between the parts of the text.

        Unlike in `encode`, no part can become a special token by what it says. A special token
        that takes the white space before or after it (`lstrip`, `rstrip` in Hugging Face's files)
        does so.

        Args:
            parts: Strings and ids.

        Raises:
            ValueError: A part is neither a string nor an id of the vocabulary.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc", end_of_text=True)
            >>> tokenizer.encode_parts(["ab", 3, "c"])
            [0, 1, 3, 2]
        """
        parts = list(parts)
        self._checked([part for part in parts if not isinstance(part, str)], "parts")
        return self._encode_parts([parts])[0]

    def _encode_parts(self, rows: list[list[str | int]]) -> list[list[int]]:
        """Encode the texts of all rows in two batches: those that begin a row, and the others."""
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
                token_id
                for i, part in enumerate(row)
                for token_id in (next(ids[i > 0]) if isinstance(part, str) else [int(part)])
            ]
            for row in rows
        ]

    def _stripped(self, text: str, before: str | int | None, after: str | int | None) -> str:
        """A part of a text without the white space that the tokens around it take."""
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
            raise ValueError(f"`{name}` must be integers, but holds {describe(ids)}.")
        outside = array[(array < 0) | (array >= self.vocabulary_size)]
        if outside.size:
            raise ValueError(
                f"`{name}` must be from 0 to {self.vocabulary_size - 1} (the vocabulary has "
                f"{self.vocabulary_size} tokens), but {int(outside[0])} is among them."
            )
        return array.tolist()
