"""Settings of logits processors: checked, and turned into tensors."""

import contextlib
import dataclasses
import itertools
import math
import numbers
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

# What float32 can hold.
LARGEST = float(np.finfo(np.float32).max)


class Vocabulary(NamedTuple):
    """Tokenizer and ids with which texts among the settings are read.

    Attributes:
        tokenizer: Turns texts into ids; None if there is none.
        size: Ids are below this.
        end_token_ids: Ids that end a row.
    """

    tokenizer: Any
    size: int
    end_token_ids: Sequence[int] = ()


@dataclasses.dataclass(frozen=True)
class Number:
    """A number as a setting: one scalar tensor.

    Attributes:
        off: The tensor's value where the user gives None; an integer makes it int32, else float32.
        allowed: What the number may be, in words.
        is_allowed: The same for a number or a tensor; `off` is left to the caller.
        is_on: Whether a scalar tensor changes anything.

    Example:
        >>> from gpt_keras.generation.settings import Number, Vocabulary
        >>> share = Number(1.0, "in (0, 1]", lambda p: (p > 0) & (p <= 1), lambda p: p < 1)
        >>> float(share.read("top_p", 0.5, Vocabulary(tokenizer=None, size=10))["top_p"])
        0.5
    """

    off: int | float
    allowed: str
    is_allowed: Callable[[Any], Any]
    is_on: Callable[[Any], Any]

    def specs(self, name: str) -> dict[str, tf.TensorSpec]:
        """Return the specs of the tensors, by name."""
        return {name: tf.TensorSpec([], tf.int32 if self._is_integer else tf.float32, name)}

    def read(self, name: str, value: Any, vocabulary: Vocabulary) -> dict[str, tf.Tensor]:
        """Return the tensors for what the user gave; None is off.

        Raises:
            ValueError: The value is not allowed.
        """
        del vocabulary
        if value is None:
            value = self.off
        elif not self._is_number(value) or not self.is_allowed(value):
            raise ValueError(f"`{name}` must be {self.allowed}, or None for off; got {value!r}.")
        if self._is_integer:
            return {name: tf.constant(min(operator.index(value), 2**31 - 1), tf.int32)}
        with np.errstate(under="ignore"):
            rounded = np.float32(value)
        if not self.is_allowed(rounded):
            raise ValueError(f"`{name}` must be {self.allowed} in float32, got {value!r}.")
        return {name: tf.constant(rounded)}

    def graph_check(self, name: str, tensor: tf.Tensor) -> list[tf.Operation]:
        """Return the ops that fail unless the tensor is allowed or off."""
        is_fine = tf.equal(tensor, self.off) | self.is_allowed(tensor)
        message = f"{name} must be {self.allowed}, or {self.off} for off; got"
        return [tf.debugging.Assert(is_fine, [message, tensor])]

    @property
    def _is_integer(self):
        return isinstance(self.off, int)

    def _is_number(self, value):
        if isinstance(value, bool):
            return False
        return hasattr(value, "__index__") if self._is_integer else isinstance(value, numbers.Real)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenSequences:
    """Lists of token ids as a setting: an int32 tensor `(n, longest)`, padded with -1.

    Attributes:
        pads_left: Whether padding stands before a list, and not after it.
        may_be_empty: Whether an empty list is a setting, which is off.
        with_space: Whether a text stands for two lists: its ids, and those with a space before it.

    Example:
        >>> from gpt_keras.generation.settings import TokenSequences, Vocabulary
        >>> words = TokenSequences(pads_left=True, may_be_empty=True)
        >>> tensors = words.read("words", [[1, 2], [3]], Vocabulary(tokenizer=None, size=10))
        >>> tensors["words"].numpy().tolist()
        [[1, 2], [-1, 3]]
    """

    pads_left: bool
    may_be_empty: bool
    with_space: bool = False

    allowed: ClassVar[str] = "a list of texts or of lists of token ids"

    def specs(self, name: str) -> dict[str, tf.TensorSpec]:
        """Return the specs of the tensors, by name."""
        return {name: tf.TensorSpec([None, None], tf.int32, name)}

    def is_on(self, sequences: tf.Tensor):
        """Return whether there is any."""
        return tf.shape(sequences)[0] > 0

    def read(self, name: str, value: Any, vocabulary: Vocabulary) -> dict[str, tf.Tensor]:
        """Return the tensors for what the user gave; None is off.

        Raises:
            ValueError: The value is no list, or one of its texts or ids is not allowed.
        """
        if value is None:
            return {name: self.tensor([])}
        if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping | Set):
            raise ValueError(f"`{name}` must be {self.allowed}, got {value!r}.")
        rows = [row for item in value for row in self._rows(name, item, vocabulary)]
        if not rows and not self.may_be_empty:
            raise ValueError(f"`{name}` must hold at least one text, or be None; got {value!r}.")
        rows = list(dict.fromkeys(rows))
        return {name: self.tensor(rows)}

    def graph_check(self, name: str, tensor: tf.Tensor) -> list[tf.Operation]:
        """Return the ops that fail unless every row holds a token where the processor looks."""
        ends = tensor[:, -1:] if self.pads_left else tensor[:, :1]
        message = f"{name} must be rows of token ids, none empty; got"
        is_fine = tf.reduce_all(tf.reduce_any(ends >= 0, axis=1))  # with no column at all, not
        return [tf.debugging.Assert(is_fine, [message, tensor])]

    def tensor(self, rows: Sequence[Sequence[int]]) -> tf.Tensor:
        """Pad lists of ids to a tensor."""
        longest = max((len(row) for row in rows), default=1)
        padded = np.full((len(rows), longest), -1, np.int32)
        for i, row in enumerate(rows):
            padded[i, slice(longest - len(row), None) if self.pads_left else slice(len(row))] = row
        return tf.constant(padded)

    def _rows(self, name, item, vocabulary):
        if not isinstance(item, str):
            return [check_ids(name, item, vocabulary.size)]
        if vocabulary.tokenizer is None:
            raise ValueError(
                f"`{name}` holds a text, {item!r}, which needs a tokenizer, and there is none: "
                f"give lists of token ids."
            )
        try:
            rows = [vocabulary.tokenizer.encode(item)]
        except ValueError as error:
            raise ValueError(f"`{name}` holds {item!r}: {error}") from error
        if self.with_space and not item[:1].isspace():
            with contextlib.suppress(ValueError):  # a tokenizer that knows no space writes none
                rows.append(vocabulary.tokenizer.encode(" " + item))
        return [check_ids(name, row, vocabulary.size, item) for row in rows]


class Choices(TokenSequences):
    """Token sequences, none a prefix of another unless an end token separates them."""

    def read(self, name: str, value: Any, vocabulary: Vocabulary) -> dict[str, tf.Tensor]:
        """Return the tensors for what the user gave; None is off.

        Raises:
            ValueError: As in `TokenSequences`, or one begins with another, and no end token can
                tell them apart.
        """
        tensors = super().read(name, value, vocabulary)
        rows = sorted(tuple(row[row >= 0].tolist()) for row in tensors[name].numpy())
        # Sorted, a list stands right before one that begins with it, if there is any.
        for row, following in itertools.pairwise(rows):
            if following[: len(row)] == row and not len(vocabulary.end_token_ids):
                raise ValueError(
                    f"`{name}` must not begin with one another where no token ends a text; "
                    f"the token ids {list(following)} begin with {list(row)}."
                )
        return tensors


class SequenceBiases(TokenSequences):
    """Biases of token sequences: the ids as `TokenSequences`, and `(n,)` numbers."""

    allowed: ClassVar[str] = "a mapping from token ids, or tuples of them, to numbers"

    def specs(self, name: str) -> dict[str, tf.TensorSpec]:
        """Return the specs of the tensors, by name."""
        ids = f"{name}_ids"
        return {**super().specs(ids), name: tf.TensorSpec([None], tf.float32, name)}

    def is_on(self, sequences: tf.Tensor, biases: tf.Tensor):
        """Return whether there is any."""
        del biases
        return super().is_on(sequences)

    def read(self, name: str, value: Any, vocabulary: Vocabulary) -> dict[str, tf.Tensor]:
        """Return the tensors for what the user gave; None is off.

        Raises:
            ValueError: The value is no mapping, or an id or a number is not allowed.
        """
        value = {} if value is None else value
        if not isinstance(value, Mapping):
            raise ValueError(f"`{name}` must be {self.allowed}, got {value!r}.")
        rows, biases = [], []
        for key, bias in value.items():
            is_number = isinstance(bias, numbers.Real) and not isinstance(bias, bool)
            if not is_number or not bias <= LARGEST:
                raise ValueError(
                    f"`{name}` must be {self.allowed}, finite or minus infinity; "
                    f"got {bias!r} for {key!r}."
                )
            ids = key if isinstance(key, tuple) else (key,)
            rows.append(check_ids(name, ids, vocabulary.size, key))
            biases.append(bias)
        with np.errstate(over="ignore"):
            biases = np.array(biases, np.float64).astype(np.float32)
        return {f"{name}_ids": self.tensor(rows), name: tf.constant(biases)}

    def graph_check(self, name: str, sequences: tf.Tensor, biases: tf.Tensor) -> list[tf.Operation]:
        """Return the ops that fail unless there is one number below infinity for each row."""
        message = f"{name} must be one number for each row of {name}_ids, below infinity; got"
        is_fine = tf.reduce_all(biases < math.inf)
        is_fine &= tf.equal(tf.shape(biases)[0], tf.shape(sequences)[0])
        return [
            *super().graph_check(f"{name}_ids", sequences),
            tf.debugging.Assert(is_fine, [message, biases]),
        ]


def check_ids(name: str, ids: Any, vocabulary_size: int, given: Any = None) -> tuple[int, ...]:
    """Return token ids as a tuple.

    Args:
        name: The argument that they belong to.
        ids: What are to be integers in `[0, vocabulary_size)`, at least one.
        vocabulary_size: Ids are below this.
        given: What the user gave in their place, for the message.

    Raises:
        ValueError: They are something else.
    """
    given = ids if given is None else given
    message = (
        f"`{name}` must hold texts or lists of token ids in [0, {vocabulary_size}), none empty; "
        f"got {given!r}."
    )
    if not isinstance(ids, Iterable) or isinstance(ids, bytes | Mapping | Set):
        raise ValueError(message)
    ids = list(ids)
    if not ids or any(isinstance(i, bool) or not hasattr(i, "__index__") for i in ids):
        raise ValueError(message)
    ids = tuple(operator.index(i) for i in ids)
    if min(ids) < 0 or max(ids) >= vocabulary_size:
        raise ValueError(message)
    return ids
