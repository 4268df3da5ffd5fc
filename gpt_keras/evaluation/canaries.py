"""Exposure of canaries: random texts that were planted in the training data."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gpt_keras.evaluation.tasks.text_scores import TextItem, score_texts
from gpt_keras.models import CausalLM
from gpt_keras.texts import as_list_of_texts


class CanaryExposure(NamedTuple):
    """Exposure of one canary.

    Attributes:
        canary: The planted text.
        log_probability: Its log-probability, in nats.
        rank: Its place among the candidates by log-probability; 1 is the most likely.
        exposure: `log2(num_texts) - log2(rank)`, in bits.
        num_texts: Number of the candidates and the canary.

    Example:
        >>> import gpt_keras as gk
        >>> print(gk.evaluation.CanaryExposure("code 7341", -3.2, 1, 10.0, 1024))
        'code 7341': rank 1 of 1,024, exposure 10.0 of 10.0 bits
    """

    canary: str
    log_probability: float
    rank: int
    exposure: float
    num_texts: int

    def __str__(self):
        return (
            f"{self.canary!r}: rank {self.rank:,} of {self.num_texts:,}, exposure "
            f"{self.exposure:.1f} of {math.log2(self.num_texts):.1f} bits"
        )


def canary_exposure(
    model: CausalLM,
    canaries: Sequence[str],
    candidates: Sequence[str],
    *,
    prefix: str = "",
    batch_size: int = 8,
) -> list[CanaryExposure]:
    """Return how much more likely planted texts are than texts that were not planted.

    Choose random texts of one form, such as "my code is 7341", plant some of them (the canaries) in
    the training data, and keep the others as candidates. The exposure of a canary is
    `log2(number of texts) - log2(rank)`, its rank being its place among the candidates by
    log-probability (Carlini et al. 2019, "The Secret Sharer", section 4.2, by sampling). A model
    that has not memorized it gives it a random rank: above `b` bits with probability `2 ** -b`.

    The exposure cannot exceed `log2(number of candidates + 1)`. At this limit, more candidates may
    show more. Exposure is of these canaries: rare text that stands once in the data can behave in
    another way than a canary that is repeated.

    Args:
        model: A `CausalLM` with a tokenizer.
        canaries: The planted texts, without `prefix`.
        candidates: Texts of the same form that are not in the training data, without `prefix`. They
            should have the same number of tokens, since a longer text is less likely.
        prefix: Text before canaries and candidates. Only spaces at its end are scored, since a
            tokenizer may join them to the next word.
        batch_size: Number of texts in a batch.

    Returns:
        A `CanaryExposure` for each canary. Of equally likely candidates and canaries, the candidate
        ranks first.

    Raises:
        ValueError: The model has no tokenizer; canaries or candidates are none, are no texts, or
            have a text in common; or the tokenizer encodes one to no ids.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("0123456789", end_of_text=True)
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=11)
        >>> model = gk.GPTCausalLM(config, tokenizer=tokenizer)
        >>> others = [f"{number:02}" for number in range(16) if number != 7]
        >>> [found] = gk.evaluation.canary_exposure(model, ["07"], others)
        >>> found.num_texts, 0 <= found.exposure <= 4
        (16, True)
    """
    if not isinstance(model, CausalLM) or model.tokenizer is None:
        raise ValueError(f"`model` must be a CausalLM with a tokenizer, got {model!r}.")
    canaries = as_list_of_texts("canaries", canaries)
    candidates = list(dict.fromkeys(as_list_of_texts("candidates", candidates)))
    for name, texts in (("canaries", canaries), ("candidates", candidates)):
        if not texts:
            raise ValueError(f"`{name}` must hold at least one text, but is empty.")
    known = set(candidates)
    planted = next((canary for canary in canaries if canary in known), None)
    if planted is not None:
        raise ValueError(f"`candidates` must not hold a canary, got {planted!r}.")
    items = [TextItem(prefix, [text], f"the text {text!r}") for text in [*canaries, *candidates]]
    scores = np.array(
        [score.log_probability for [score] in score_texts(model, items, batch_size=batch_size)]
    )
    others = np.sort(scores[len(canaries) :])
    num_texts = len(others) + 1
    found = []
    for canary, score in zip(canaries, scores.tolist()):
        rank = num_texts - int(np.searchsorted(others, score, side="left"))
        found.append(CanaryExposure(canary, score, rank, math.log2(num_texts / rank), num_texts))
    return found
