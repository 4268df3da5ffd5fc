"""Task examples as token sequences (GPT-1, Radford et al. 2018, figure 1).

A sequence consists of one or two parts, with marker tokens around and between them. The task head
reads one hidden state of each sequence. Which one, and what the markers are, is the `pooling` of a
task model:

- `"last"`: The head reads the last token of the sequence. A sequence is like any text: it begins
  with the tokenizer's `prompt_start`, which most tokenizers leave empty, and a line break separates
  two parts. If the tokenizer cannot encode a line break, the end-of-text token separates them.
- `"extract"`: The sequence has three special tokens that stand for no text, as in GPT-1. It begins
  with a start token, a delimiter token separates its parts, and it ends with an extract token, at
  which the head reads. The model learns the three tokens in fine-tuning. By default their ids are
  the last three of the model's vocabulary, which then has at least three more ids than the
  tokenizer. `with_vocabulary_size` of a backbone makes room for them.

Every layout takes token ids and returns a list of sequences. While an example is too long, the last
token of its longest part is cut.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gpt_keras.checks import check_token_ids
from gpt_keras.tokenizers import Tokenizer

# Separates two parts of plain text. An end-of-text token would tell a pretrained model that the
# second part has nothing to do with the first.
LINE_BREAK = "\n"


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


class Markers(NamedTuple):
    """Token ids around and between the parts of a sequence.

    Attributes:
        start: Ids before the first part.
        delimiter: Ids between two parts.
        end: Ids after the last part.
    """

    start: tuple[int, ...] = ()
    delimiter: tuple[int, ...] = ()
    end: tuple[int, ...] = ()

    @classmethod
    def of_special_ids(cls, special: SpecialIds) -> "Markers":
        """Return the markers of the pooling `"extract"`."""
        start, delimiter, extract = special
        return cls((start,), (delimiter,), (extract,))

    @classmethod
    def of_text(cls, tokenizer: Tokenizer, num_parts: int) -> "Markers":
        """Return the markers of the pooling `"last"`.

        Args:
            tokenizer: The tokenizer of the parts.
            num_parts: Number of parts of a sequence, 1 or 2.

        Raises:
            ValueError: Two parts need a delimiter, but the tokenizer can encode no line break and
                has no end-of-text token.

        Example:
            >>> import gpt_keras as gk
            >>> from gpt_keras.models.task_inputs import Markers
            >>> Markers.of_text(gk.tokenizers.BytePairTokenizer.gpt2(), num_parts=2)
            Markers(start=(), delimiter=(198,), end=())
        """
        delimiter = _delimiter(tokenizer) if num_parts > 1 else ()
        return cls(tokenizer.prompt_start, delimiter)

    def room(self, num_parts: int, max_length: int) -> int:
        """Return the number of tokens that the markers leave for the parts.

        Raises:
            ValueError: `max_length` leaves no room for a token of each part.
        """
        count = len(self.start) + len(self.delimiter) * (num_parts - 1) + len(self.end)
        if max_length - count < num_parts:
            raise ValueError(
                f"`max_length` must be at least {count + num_parts}, one token for each part and "
                f"the special tokens; got {max_length}."
            )
        return max_length - count


def _delimiter(tokenizer):
    try:
        ids = tokenizer.encode(LINE_BREAK)
    except ValueError:  # a vocabulary of characters without it
        ids = []
    if not ids and tokenizer.end_of_text_id is not None:
        ids = [tokenizer.end_of_text_id]
    if not ids:
        raise ValueError(
            "Two texts need a delimiter, but the tokenizer can encode no line break and has no "
            "end-of-text token: use `pooling='extract'`, which adds tokens."
        )
    return tuple(ids)


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
    text: Sequence[int], special: SpecialIds | Markers, max_length: int | None = None
) -> list[list[int]]:
    """Return one text as a sequence: start, text, extract.

    Args:
        text: Token ids.
        special: Ids of the special tokens, for example of `special_ids`; or `Markers`.
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
    special: SpecialIds | Markers,
    max_length: int | None = None,
) -> list[list[int]]:
    """Return a pair as a sequence: start, premise, delimiter, hypothesis, extract.

    Args:
        premise: Token ids.
        hypothesis: Token ids.
        special: Ids of the special tokens, for example of `special_ids`; or `Markers`.
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
    special: SpecialIds | Markers,
    max_length: int | None = None,
) -> list[list[int]]:
    """Return two texts as two sequences, one for each order of the texts.

    Similarity has no natural order. The model runs both sequences and adds their hidden states.

    Args:
        first: Token ids.
        second: Token ids.
        special: Ids of the special tokens, for example of `special_ids`; or `Markers`.
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
    parts = _fitted([first, second], _markers(special), max_length)
    return [_sequence(parts, special, None), _sequence(parts[::-1], special, None)]


def multiple_choice(
    context: Sequence[int],
    answers: Sequence[Sequence[int]],
    special: SpecialIds | Markers,
    max_length: int | None = None,
) -> list[list[int]]:
    """Return a sequence for each answer: start, context, delimiter, answer, extract.

    A question, if there is one, is the end of the context (section 3.3 of the paper).

    Args:
        context: Token ids.
        answers: Token ids of each answer.
        special: Ids of the special tokens, for example of `special_ids`; or `Markers`.
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


def pad(examples: Sequence[Sequence[Sequence[int]]], pad_id: int, length: int) -> np.ndarray:
    """Return the sequences of examples as one array, padded on the right.

    In a causal model padding cannot change the hidden states of the tokens before it.

    Args:
        examples: For each example the list of sequences of a layout; all lists of equal length.
        pad_id: Id of padding, `pad_id` of the task model.
        length: Length of the rows, at least that of the longest sequence.

    Returns:
        int32, `(examples, length)` if each has one sequence, else `(examples, sequences, length)`.

    Raises:
        ValueError: The examples have different numbers of sequences.

    Example:
        >>> from gpt_keras.models.task_inputs import pad
        >>> pad([[[7, 1, 9]], [[7, 1, 2, 9]]], pad_id=9, length=5).tolist()
        [[7, 1, 9, 9, 9], [7, 1, 2, 9, 9]]
    """
    counts = {len(sequences) for sequences in examples}
    if len(counts) != 1:
        raise ValueError(
            f"All examples must have the same number of sequences (choices), got {sorted(counts)}."
        )
    (count,) = counts
    padded = np.full((len(examples), count, length), pad_id, np.int32)
    for i, sequences in enumerate(examples):
        for j, sequence in enumerate(sequences):
            padded[i, j, : len(sequence)] = sequence
    return padded[:, 0] if count == 1 else padded


def fitted_lengths(first, second, room: int, minimum, maximum) -> tuple:
    """Return the lengths of two parts after the longest part was cut until both fit.

    Args:
        first: Length of the first part: a number, or an array or tensor of numbers.
        second: Length of the second part.
        room: Number of tokens for both parts.
        minimum: Function that returns the smaller of two values.
        maximum: Function that returns the larger of two values.

    Returns:
        The two lengths.

    Example:
        >>> from gpt_keras.models.task_inputs import fitted_lengths
        >>> fitted_lengths(4, 1, 3, min, max), fitted_lengths(5, 9, 7, min, max)
        ((2, 1), (3, 4))
    """
    # A part may have half of the room, and whatever the other one leaves of its half.
    half = room // 2
    return (
        minimum(first, maximum(room - second, half)),
        minimum(second, maximum(room - first, room - half)),
    )


def _markers(special):
    return special if isinstance(special, Markers) else Markers.of_special_ids(special)


def _sequence(parts, special, max_length):
    markers = _markers(special)
    first, *others = _fitted(parts, markers, max_length)
    sequence = [*markers.start, *first]
    for part in others:
        sequence += [*markers.delimiter, *part]
    return [*sequence, *markers.end]


def _fitted(parts, markers, max_length):
    """Cut tokens from the longest part until all parts fit."""
    if max_length is None:
        return parts
    room = markers.room(len(parts), max_length)
    if len(parts) == 1:
        return [parts[0][:room]]
    lengths = fitted_lengths(*map(len, parts), room, min, max)
    return [part[:length] for part, length in zip(parts, lengths, strict=True)]
