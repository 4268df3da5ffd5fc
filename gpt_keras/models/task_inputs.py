"""Layouts of the examples of tasks as token sequences (GPT-1, Radford et al. 2018, figure 1).

A sequence begins with a start token, its parts have a delimiter token between them, and it ends
with an extract token, at which the model's answer is read. Before that end a model learns these
three in training: they stand for no text. Unless a model is given others, their ids are the last
three of its vocabulary, which then has at least three more ids than its tokenizer;
`with_vocabulary_size` of a backbone makes room.

Every layout takes token ids, gives a list of sequences, and cuts what does not fit: the end of the
longest part, token by token.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gpt_keras.checks import check_token_ids


class SpecialIds(NamedTuple):
    """Ids of the three tokens that shape a task's input.

    Attributes:
        start: Begins a sequence.
        delimiter: Stands between two parts.
        extract: Ends a sequence; the model's answer is read there.
    """

    start: int
    delimiter: int
    extract: int


# What is in a sequence besides the text: start and extract, and a delimiter for each further part.
NUM_SPECIAL_IDS = len(SpecialIds._fields)


def special_ids(vocabulary_size: int) -> SpecialIds:
    """Return the last three ids of a vocabulary.

    Example:
        >>> import gpt_keras as gk
        >>> gk.models.task_inputs.special_ids(50260)
        SpecialIds(start=50257, delimiter=50258, extract=50259)
    """
    return SpecialIds(*range(vocabulary_size - NUM_SPECIAL_IDS, vocabulary_size))


def check_special_ids(token_ids: Sequence[int], vocabulary_size: int) -> None:
    """Raise `ValueError` unless these are three different ids of a vocabulary."""
    ids = np.asarray(token_ids)
    if ids.shape != (NUM_SPECIAL_IDS,) or len(set(ids.tolist())) < NUM_SPECIAL_IDS:
        raise ValueError(
            f"`special_ids` must be three different ids, start, delimiter and extract; got "
            f"{token_ids!r}."
        )
    check_token_ids(ids, vocabulary_size)


def classification(
    text: Sequence[int], special: SpecialIds, max_length: int | None = None
) -> list[list[int]]:
    """Lay out one text: start, text, extract.

    Args:
        text: Token ids.
        special: As `special_ids` gives them.
        max_length: Tokens that a sequence may have; None for any number.

    Returns:
        A list of one sequence.

    Raises:
        ValueError: `max_length` leaves no room for a token of text.

    Example:
        >>> from gpt_keras.models.task_inputs import SpecialIds, classification
        >>> classification([1, 2], SpecialIds(start=7, delimiter=8, extract=9))
        [[7, 1, 2, 9]]
    """
    return [_sequence([text], special, max_length)]


def entailment(
    premise: Sequence[int],
    hypothesis: Sequence[int],
    special: SpecialIds,
    max_length: int | None = None,
) -> list[list[int]]:
    """Lay out a premise and a hypothesis: start, premise, delimiter, hypothesis, extract.

    Args:
        premise: Token ids.
        hypothesis: Token ids.
        special: As `special_ids` gives them.
        max_length: Tokens that a sequence may have; None for any number.

    Returns:
        A list of one sequence.

    Raises:
        ValueError: `max_length` leaves no room for a token of each part.

    Example:
        >>> from gpt_keras.models.task_inputs import SpecialIds, entailment
        >>> entailment([1, 2], [3], SpecialIds(start=7, delimiter=8, extract=9))
        [[7, 1, 2, 8, 3, 9]]
    """
    return [_sequence([premise, hypothesis], special, max_length)]


def similarity(
    first: Sequence[int],
    second: Sequence[int],
    special: SpecialIds,
    max_length: int | None = None,
) -> list[list[int]]:
    """Lay out two texts in both orders, since neither comes first by nature.

    The model runs both sequences and adds their hidden states.

    Args:
        first: Token ids.
        second: Token ids.
        special: As `special_ids` gives them.
        max_length: Tokens that a sequence may have; None for any number.

    Returns:
        A list of two sequences.

    Raises:
        ValueError: `max_length` leaves no room for a token of each part.

    Example:
        >>> from gpt_keras.models.task_inputs import SpecialIds, similarity
        >>> similarity([1, 2], [3], SpecialIds(start=7, delimiter=8, extract=9))
        [[7, 1, 2, 8, 3, 9], [7, 3, 8, 1, 2, 9]]
    """
    parts = _fitted([first, second], max_length)
    return [_sequence(parts, special, None), _sequence(parts[::-1], special, None)]


def multiple_choice(
    context: Sequence[int],
    answers: Sequence[Sequence[int]],
    special: SpecialIds,
    max_length: int | None = None,
) -> list[list[int]]:
    """Lay out a context with each of its answers: start, context, delimiter, answer, extract.

    Where there is a question, it is the end of the context (section 3.3 of the paper).

    Args:
        context: Token ids.
        answers: Token ids of each answer.
        special: As `special_ids` gives them.
        max_length: Tokens that a sequence may have; None for any number.

    Returns:
        A list of sequences, one for each answer.

    Raises:
        ValueError: There is no answer, or `max_length` leaves no room for a token of each part.

    Example:
        >>> from gpt_keras.models.task_inputs import SpecialIds, multiple_choice
        >>> multiple_choice([1], [[2], [3, 4]], SpecialIds(start=7, delimiter=8, extract=9))
        [[7, 1, 8, 2, 9], [7, 1, 8, 3, 4, 9]]
    """
    if len(answers) == 0:
        raise ValueError("`answers` must hold at least one answer, but is empty.")
    return [_sequence([context, answer], special, max_length) for answer in answers]


def pad(examples: Sequence[Sequence[Sequence[int]]], extract: int, length: int) -> np.ndarray:
    """Return the sequences of examples as one array, padded on the right.

    Padding is further extract tokens: the first one of a row is the one that is read, and what
    comes after it changes nothing in a causal model.

    Args:
        examples: For each example the list of sequences that a layout gave; as many for each.
        extract: Id of the extract token.
        length: Length of the rows.

    Returns:
        int32, `(examples, length)` if each has one sequence, else `(examples, sequences, length)`.

    Raises:
        ValueError: The examples have different numbers of sequences.
    """
    counts = {len(sequences) for sequences in examples}
    if len(counts) != 1:
        raise ValueError(
            f"All examples must have the same number of sequences (choices), got {sorted(counts)}."
        )
    (count,) = counts
    padded = np.full((len(examples), count, length), extract, np.int32)
    for i, sequences in enumerate(examples):
        for j, sequence in enumerate(sequences):
            padded[i, j, : len(sequence)] = sequence
    return padded[:, 0] if count == 1 else padded


def _sequence(parts, special, max_length):
    first, *others = _fitted(parts, max_length)
    sequence = [special.start, *first]
    for part in others:
        sequence += [special.delimiter, *part]
    return [*sequence, special.extract]


def _fitted(parts, max_length):
    """Cut the longest part, a token at a time, until all have room."""
    if max_length is None:
        return parts
    room = max_length - len(parts) - 1
    if room < len(parts):
        raise ValueError(
            f"`max_length` must be at least {2 * len(parts) + 1}, a token for each part and the "
            f"special ones; got {max_length}."
        )
    lengths = [len(part) for part in parts]
    while sum(lengths) > room:
        lengths[int(np.argmax(lengths))] -= 1
    return [part[:length] for part, length in zip(parts, lengths, strict=True)]
