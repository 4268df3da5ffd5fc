"""Task examples as token sequences (GPT-1, Radford et al. 2018, figure 1).

A sequence begins with a start token and ends with an extract token, at which the task head reads
the hidden state. A delimiter token separates its parts. These three special tokens stand for no
text; the model learns them in fine-tuning. By default their ids are the last three of the model's
vocabulary, which then has at least three more ids than the tokenizer. `with_vocabulary_size` of a
backbone makes room for them.

Every layout takes token ids and returns a list of sequences. While an example is too long, the last
token of its longest part is cut.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gpt_keras.checks import check_token_ids


class SpecialIds(NamedTuple):
    """Ids of the three special tokens of a task's input.

    Attributes:
        start: Id of the first token of a sequence.
        delimiter: Id of the token between two parts.
        extract: Id of the last token of a sequence; the task head reads the hidden state there.
    """

    start: int
    delimiter: int
    extract: int


NUM_SPECIAL_IDS = len(SpecialIds._fields)


def special_ids(vocabulary_size: int) -> SpecialIds:
    """Return the default special ids, the last three ids of a vocabulary.

    Args:
        vocabulary_size: Number of ids of the model, at least 3.

    Example:
        >>> import gpt_keras as gk
        >>> gk.models.task_inputs.special_ids(50260)
        SpecialIds(start=50257, delimiter=50258, extract=50259)
    """
    return SpecialIds(*range(vocabulary_size - NUM_SPECIAL_IDS, vocabulary_size))


def check_special_ids(token_ids: Sequence[int], vocabulary_size: int) -> None:
    """Raise `ValueError` unless `token_ids` are three different ids of a vocabulary.

    Args:
        token_ids: Ids of the start, delimiter and extract tokens.
        vocabulary_size: Number of ids of the model.

    Raises:
        ValueError: The number of ids is not three, two are equal, or one is outside the vocabulary.

    Example:
        >>> from gpt_keras.models.task_inputs import check_special_ids
        >>> check_special_ids((7, 8, 9), vocabulary_size=10)
    """
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
    """Return one text as a sequence: start, text, extract.

    Args:
        text: Token ids.
        special: Ids of the special tokens, for example of `special_ids`.
        max_length: Most tokens of a sequence; None for no limit.

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
    """Return a pair as a sequence: start, premise, delimiter, hypothesis, extract.

    Args:
        premise: Token ids.
        hypothesis: Token ids.
        special: Ids of the special tokens, for example of `special_ids`.
        max_length: Most tokens of a sequence; None for no limit.

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
    """Return two texts as two sequences, one for each order of the texts.

    Similarity has no natural order. The model runs both sequences and adds their hidden states.

    Args:
        first: Token ids.
        second: Token ids.
        special: Ids of the special tokens, for example of `special_ids`.
        max_length: Most tokens of a sequence; None for no limit.

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
    """Return a sequence for each answer: start, context, delimiter, answer, extract.

    A question, if there is one, is the end of the context (section 3.3 of the paper).

    Args:
        context: Token ids.
        answers: Token ids of each answer.
        special: Ids of the special tokens, for example of `special_ids`.
        max_length: Most tokens of a sequence; None for no limit.

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

    The padding consists of further extract tokens. The task head reads only the first extract token
    of a row, and in a causal model later tokens cannot change its hidden state.

    Args:
        examples: For each example the list of sequences of a layout; all lists of equal length.
        extract: Id of the extract token.
        length: Length of the rows, at least that of the longest sequence.

    Returns:
        int32, `(examples, length)` if each has one sequence, else `(examples, sequences, length)`.

    Raises:
        ValueError: The examples have different numbers of sequences.

    Example:
        >>> from gpt_keras.models.task_inputs import pad
        >>> pad([[[7, 1, 9]], [[7, 1, 2, 9]]], extract=9, length=5).tolist()
        [[7, 1, 9, 9, 9], [7, 1, 2, 9, 9]]
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
    """Cut tokens from the longest part, one at a time, until all parts fit."""
    if max_length is None:
        return parts
    room = max_length - len(parts) - 1
    if room < len(parts):
        raise ValueError(
            f"`max_length` must be at least {2 * len(parts) + 1}, one token for each part and the "
            f"special tokens; got {max_length}."
        )
    lengths = [len(part) for part in parts]
    while sum(lengths) > room:
        lengths[int(np.argmax(lengths))] -= 1
    return [part[:length] for part, length in zip(parts, lengths, strict=True)]
