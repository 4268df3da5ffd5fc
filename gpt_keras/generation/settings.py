"""Settings of logits processors: checks, and conversion to tensors."""

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

# Largest finite float32.
LARGEST = float(np.finfo(np.float32).max)


class Vocabulary(NamedTuple):
    """Tokenizer and token ids of a model, for settings that are texts or ids.

    Attributes:
        tokenizer: The tokenizer for texts, or None.
        size: Number of token ids; every id must be below it.
        end_token_ids: Ids that end a row.
    """

    tokenizer: Any
    size: int
    end_token_ids: Sequence[int] = ()


@dataclasses.dataclass(frozen=True)
class Number:
    """Setting that is a number: one scalar tensor.

    Attributes:
        off: The tensor's value if the user gives None. An integer makes the tensor int32, a float
            makes it float32.
        allowed: The allowed values in words, for error messages.
        is_allowed: A function that returns whether a number or a tensor is allowed. `off` itself
            need not be allowed.
        is_on: A function that returns whether a scalar tensor has an effect.

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
        """Check the user's value and return its tensors by name; None is off.

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
        """Return ops that fail unless the tensor is allowed or off."""
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
    """Setting that is a list of token sequences: one int32 tensor `(n, longest)`.

    The rows are padded with -1.

    Attributes:
        pads_left: True for left padding, False for right padding.
        may_be_empty: Whether an empty list is allowed; it turns the setting off.
        with_space: Whether a text is encoded twice, without and with a space before it.

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
        """Return whether there is at least one sequence."""
        return tf.shape(sequences)[0] > 0

    def read(self, name: str, value: Any, vocabulary: Vocabulary) -> dict[str, tf.Tensor]:
        """Check the user's value and return its tensors by name; None is off.

        Raises:
            ValueError: The value is not a list, or one of its texts or ids is not allowed.
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
        """Return ops that fail if a row is empty or padded on the wrong side."""
        ends = tensor[:, -1:] if self.pads_left else tensor[:, :1]
        message = f"{name} must be rows of token ids, none empty; got"
        is_fine = tf.reduce_all(tf.reduce_any(ends >= 0, axis=1))  # False without columns
        return [tf.debugging.Assert(is_fine, [message, tensor])]

    def tensor(self, rows: Sequence[Sequence[int]]) -> tf.Tensor:
        """Return lists of ids as a tensor `(n, longest)`, padded with -1."""
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
            with contextlib.suppress(ValueError):  # a character tokenizer may lack the space
                rows.append(vocabulary.tokenizer.encode(" " + item))
        return [check_ids(name, row, vocabulary.size, item) for row in rows]


class Choices(TokenSequences):
    """Token sequences, none a prefix of another unless an end token separates them."""

    def read(self, name: str, value: Any, vocabulary: Vocabulary) -> dict[str, tf.Tensor]:
        """Check the user's value and return its tensors by name; None is off.

        Raises:
            ValueError: As in `TokenSequences`; or one sequence is a prefix of another, and there is
                no end token.
        """
        tensors = super().read(name, value, vocabulary)
        rows = sorted(tuple(row[row >= 0].tolist()) for row in tensors[name].numpy())
        # In sorted order, a prefix directly precedes one of the sequences that it begins.
        for row, following in itertools.pairwise(rows):
            if following[: len(row)] == row and not len(vocabulary.end_token_ids):
                raise ValueError(
                    f"`{name}` must not begin with one another if the model has no end token; "
                    f"the token ids {list(following)} begin with {list(row)}."
                )
        return tensors


class SequenceBiases(TokenSequences):
    """Setting that maps token sequences to biases: their ids, and `(n,)` float32."""

    allowed: ClassVar[str] = "a mapping from token ids, or tuples of them, to numbers"

    def specs(self, name: str) -> dict[str, tf.TensorSpec]:
        """Return the specs of the tensors, by name."""
        ids = f"{name}_ids"
        return {**super().specs(ids), name: tf.TensorSpec([None], tf.float32, name)}

    def is_on(self, sequences: tf.Tensor, biases: tf.Tensor):
        """Return whether there is at least one sequence."""
        del biases
        return super().is_on(sequences)

    def read(self, name: str, value: Any, vocabulary: Vocabulary) -> dict[str, tf.Tensor]:
        """Check the user's value and return its tensors by name; None is off.

        Raises:
            ValueError: The value is not a mapping, or an id or a bias is not allowed.
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
        """Return ops that fail unless there is one bias below infinity for each row."""
        message = f"{name} must be one number for each row of {name}_ids, below infinity; got"
        is_fine = tf.reduce_all(biases < math.inf)
        is_fine &= tf.equal(tf.shape(biases)[0], tf.shape(sequences)[0])
        return [
            *super().graph_check(f"{name}_ids", sequences),
            tf.debugging.Assert(is_fine, [message, biases]),
        ]


def check_ids(name: str, ids: Any, vocabulary_size: int, given: Any = None) -> tuple[int, ...]:
    """Check token ids and return them as a tuple.

    Args:
        name: Name of the setting, for the message.
        ids: The token ids: integers in `[0, vocabulary_size)`, at least one.
        vocabulary_size: Number of token ids.
        given: The user's value for the message, if it differs from `ids`.

    Raises:
        ValueError: `ids` is not iterable, is empty, or holds something else.
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
