"""What every tokenizer can do: text to ids, ids to text, save, compare."""

import abc
import functools
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpt_keras.atomic import atomic_file

END_OF_TEXT = "<|endoftext|>"
FILE_NAME = "tokenizer.json"


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
        """Id of the `<|endoftext|>` token that separates documents, or None."""

    @abc.abstractmethod
    def to_json(self) -> str:
        """Returns the whole content as JSON text; `save` writes exactly this."""

    @abc.abstractmethod
    def in_graph(self) -> Any:
        """Returns a Keras layer that does the same with TensorFlow ops.

        `layer(strings)` takes a `(batch,)` string tensor and returns a `tf.RaggedTensor` of int32
        ids, `(batch, None)`. `layer.detokenize(ids)` takes a ragged or dense integer tensor and
        returns `(batch,)` strings: exactly the bytes of the tokens, joined. Both can be traced
        into a SavedModel that needs neither Keras nor this package.
        """

    @abc.abstractmethod
    def _encode_batch(self, texts: list[str]) -> list[list[int]]: ...

    @abc.abstractmethod
    def _decode_one(self, ids: list[int]) -> str: ...

    def encode(self, text: str | Sequence[str]) -> list[int] | list[list[int]]:
        """Turns text into ids.

        The text of a special token gets no special treatment: the string `"<|endoftext|>"` is
        encoded like any other text. Put `end_of_text_id` between documents yourself, or let
        `gpt_keras.datasets` do it.

        Args:
            text: One string, or a sequence of strings.

        Returns:
            A list of ids for one string, a list of such lists for a sequence.

        Raises:
            ValueError: If `text` is neither a string nor a sequence of strings.
        """
        if isinstance(text, str):
            _check_text(text, "text")
            return self._encode_batch([text])[0]
        if isinstance(text, bytes) or not isinstance(text, (Sequence, np.ndarray)):
            raise ValueError(
                f"`text` must be a string or a sequence of strings, but is {_describe(text)}."
            )
        texts = list(text)
        for i, item in enumerate(texts):
            _check_text(item, f"text[{i}]")
        return self._encode_batch(texts)

    def decode(self, ids: Any) -> str | list[str]:
        """Turns ids into text.

        Byte-level tokens may hold parts of a character: bytes that are not valid UTF-8, as at the
        end of a sequence cut in the middle of a character, decode to U+FFFD.

        Args:
            ids: One sequence of ids, or a batch of sequences; lists, numpy arrays or tensors.

        Returns:
            A string for one sequence, a list of strings for a batch.

        Raises:
            ValueError: If an id is not an integer or is outside the vocabulary.
        """
        if hasattr(ids, "to_list"):  # tf.RaggedTensor
            ids = ids.to_list()
        elif hasattr(ids, "numpy"):  # tf.Tensor
            ids = ids.numpy()
        if isinstance(ids, (str, bytes)) or not isinstance(ids, (Iterable, np.ndarray)):
            raise ValueError(f"`ids` must be a sequence of integers, but is {_describe(ids)}.")
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

    def safe_cut(self, text: str) -> int:
        """Returns the last place where `text` can be cut without changing its ids.

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
        """Writes the tokenizer to one JSON file, readable by people.

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
        """Returns the SHA-256 of the content, as 64 hexadecimal digits."""
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

    def _checked(self, ids: Sequence) -> list[int]:
        array = np.asarray(ids)
        if array.size == 0:
            return []
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError(f"`ids` must be integers, but holds {_describe(ids)}.")
        outside = array[(array < 0) | (array >= self.vocabulary_size)]
        if outside.size:
            raise ValueError(
                f"`ids` must be from 0 to {self.vocabulary_size - 1} (the vocabulary has "
                f"{self.vocabulary_size} tokens), but {int(outside[0])} is among them."
            )
        return array.tolist()


def _check_text(text: object, name: str) -> None:
    if not isinstance(text, str):
        raise ValueError(f"`{name}` must be a string, but is {_describe(text)}.")


def _describe(value: object) -> str:
    shown = repr(value)
    return f"{shown[:60]}{'...' if len(shown) > 60 else ''} of type {type(value).__name__}"
