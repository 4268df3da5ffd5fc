"""Log-probabilities of texts that continue other texts."""

from collections.abc import Sequence
from typing import NamedTuple

from gpt_keras.evaluation.context_pairs import encode_pair
from gpt_keras.generation.continuations import ContinuationScore, score_continuations
from gpt_keras.models import CausalLM


class TextItem(NamedTuple):
    """Context with texts that may continue it.

    Attributes:
        context: The context; it may be empty.
        continuations: The continuations, delimiter included.
        place: File and line of the row, for errors.
    """

    context: str
    continuations: Sequence[str]
    place: str


def score_texts(
    model: CausalLM, items: Sequence[TextItem], *, batch_size: int = 8
) -> list[list[ContinuationScore]]:
    """Return the score of each continuation of each item.

    A context runs once for all its continuations.

    Args:
        model: A `CausalLM` with a tokenizer.
        items: Contexts with their continuations.
        batch_size: Number of contexts in a batch.

    Returns:
        For each item a `ContinuationScore` for each continuation.

    Raises:
        ValueError: The tokenizer does not know a character, or encodes a continuation to no ids.
            The message gives the place.
    """
    requests: list[tuple[list[int], list[list[int]]]] = []
    sources = []  # for each item the requests of its continuations, and the numbers in them
    for item in items:
        own = {}
        source = []
        for text in item.continuations:
            try:
                context_ids, ids = encode_pair(model.tokenizer, item.context, text)
            except ValueError as error:  # characters that the tokenizer does not know
                raise ValueError(f"{item.place}: {error}") from error
            if not context_ids or not ids:
                raise ValueError(f"{item.place}: the tokenizer encodes {text!r} to no ids.")
            # The ids of a context can depend on the continuation if the context is empty.
            key = tuple(context_ids)
            if key not in own:
                own[key] = len(requests)
                requests.append((list(context_ids), []))
            continuations = requests[own[key]][1]
            source.append((own[key], len(continuations)))
            continuations.append(list(ids))
        sources.append(source)
    scores = score_continuations(model, requests, batch_size=batch_size)
    return [[scores[request][number] for request, number in source] for source in sources]
