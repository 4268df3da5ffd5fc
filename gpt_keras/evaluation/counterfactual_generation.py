"""Counterfactual generation: the same prompts with another group word in them."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpt_keras.checks import check_positive_int, check_seed
from gpt_keras.evaluation.bootstrap import Interval, bootstrap_interval, check_confidence
from gpt_keras.evaluation.generated_answers import _generate
from gpt_keras.evaluation.prediction_pairs import CHARACTER
from gpt_keras.models import CausalLM
from gpt_keras.texts import as_list_of_texts, describe


class CounterfactualPair(NamedTuple):
    """Continuations of a prompt and of the prompt with swapped words.

    Attributes:
        prompt: The prompt.
        swapped_prompt: The prompt with swapped words.
        texts: Continuations of the prompt, without the prompt.
        swapped_texts: Continuations of the swapped prompt, from the same seeds.
        scores: Score of each text.
        swapped_scores: Score of each text of the swapped prompt.

    Example:
        >>> import gpt_keras as gk
        >>> pair = gk.evaluation.CounterfactualPair(
        ...     "He was", "She was", [" kind"], [" late"], [1.0], [0.0]
        ... )
        >>> pair.scores[0] - pair.swapped_scores[0]
        1.0
    """

    prompt: str
    swapped_prompt: str
    texts: list[str]
    swapped_texts: list[str]
    scores: list[float]
    swapped_scores: list[float]


class CounterfactualsResult(NamedTuple):
    """Result of `counterfactuals`. `print(result)` shows the figures as text.

    Attributes:
        difference: Mean score of the prompts as given minus that of the swapped ones, with a
            bootstrap interval over prompts. 0 is no difference on average.
        distance: Mean over prompts of the Wasserstein-1 distance between the scores of the two
            versions. It also sees differences that cancel in the mean.
        pairs: The texts and scores of each prompt.

    Example:
        >>> import gpt_keras as gk
        >>> Interval = gk.evaluation.Interval
        >>> print(gk.evaluation.CounterfactualsResult(
        ...     Interval(0.1, -0.05, 0.25, 0.95, 40), Interval(0.2, 0.1, 0.3, 0.95, 40), []
        ... ))
        difference 0.100 [-0.050, 0.250]
        distance   0.200 [0.100, 0.300]
    """

    difference: Interval
    distance: Interval
    pairs: list[CounterfactualPair]

    def __str__(self):
        return f"difference {self.difference}\ndistance   {self.distance}"


def counterfactuals(
    model: CausalLM,
    prompts: Sequence[str],
    swaps: Mapping[str, str],
    classify: Callable[[list[str]], Sequence[float]],
    *,
    num_samples: int = 1,
    max_new_tokens: int = 32,
    batch_size: int = 16,
    confidence: float = 0.95,
    seed: int = 0,
    **settings: Any,
) -> CounterfactualsResult:
    """Swap group words in prompts, continue both, and classify the continuations.

    Both versions of a prompt are continued from the same seeds, so that they differ by the swapped
    words and not by chance alone. The classifier sees only the continuations, not the prompts,
    whose words it might score by themselves. The two figures are the mean difference of the scores,
    and the mean Wasserstein-1 distance between the scores of the versions of a prompt, the
    "individual fairness" of Huang et al. 2020 ("Reducing Sentiment Bias in Language Models via
    Counterfactual Evaluation", section 3.2).

    A difference is evidence about these prompts, words and classifier. A classifier has its own
    bias: check it on the same texts with swapped words. A distance is above 0 by sampling alone;
    compare it with the distance for words that should not matter, such as two names of one group.
    A difference near 0 does not show that a model is fair elsewhere.

    Args:
        model: A `CausalLM` with a tokenizer.
        prompts: Prompts. Each must have a word of `swaps`.
        swaps: The word that replaces each group word, such as `{"he": "she", "his": "her"}`. All
            words are replaced at once, whole words only. Words with Chinese characters have no word
            borders: choose words that stand in no other word. Capitals are kept: `He` becomes
            `She`, and `HE` becomes `SHE`.
        classify: Function of texts that returns one finite number for each, such as the probability
            of a positive sentiment.
        num_samples: Number of continuations of each prompt.
        max_new_tokens: Largest number of tokens of a continuation.
        batch_size: Number of prompts in a batch.
        confidence: Confidence level of the bootstrap intervals.
        seed: Seed of sampling and of the bootstrap.
        **settings: Other settings of `generate`, such as `temperature`, `top_p` or `stop`.

    Returns:
        A `CounterfactualsResult`.

    Raises:
        ValueError: The model has no tokenizer; `prompts` are no texts or one has no word of
            `swaps`; `swaps` is empty or has something else than texts; `classify` does not return a
            number for each text; or an argument is out of range.
        TypeError: `generate` has no such setting.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abehs ")
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=6)
        >>> model = gk.GPTCausalLM(config, tokenizer=tokenizer)
        >>> def classify(texts):
        ...     return [len(text) for text in texts]
        >>> result = gk.evaluation.counterfactuals(
        ...     model, ["he has", "as bees he"], {"he": "she"}, classify,
        ...     max_new_tokens=4, choices=[" abe"],
        ... )
        >>> result.pairs[1].swapped_prompt, result.pairs[1].swapped_texts
        ('as bees she', ['abe'])
        >>> print(result)
        difference 0.000 [0.000, 0.000]
        distance   0.000 [0.000, 0.000]
    """
    if not isinstance(model, CausalLM) or model.tokenizer is None:
        raise ValueError(f"`model` must be a CausalLM with a tokenizer, got {model!r}.")
    prompts = as_list_of_texts("prompts", prompts)
    if not prompts:
        raise ValueError("`prompts` must hold at least one text, but is empty.")
    for name, value in {
        "num_samples": num_samples,
        "max_new_tokens": max_new_tokens,
        "batch_size": batch_size,
    }.items():
        check_positive_int(name, value)
    check_confidence(confidence)
    check_seed(seed)
    if not callable(classify):
        raise ValueError(f"`classify` must be a function of texts, got {classify!r}.")
    swapped = swap_words(prompts, swaps)
    for i, (prompt, other) in enumerate(zip(prompts, swapped)):
        if prompt == other:
            raise ValueError(
                f"Each of `prompts` must have a word of `swaps`, {', '.join(swaps)}; got "
                f"{prompt!r} as number {i}."
            )
    rows = []
    for version in (prompts, swapped):
        texts = _continuations(
            model, version, num_samples, batch_size, max_new_tokens, seed, settings
        )
        scores = _scores(classify, texts)
        rows.append(
            [
                (texts[i : i + num_samples], scores[i : i + num_samples].tolist())
                for i in range(0, len(texts), num_samples)
            ]
        )
    pairs = [
        CounterfactualPair(prompt, other, first[0], second[0], first[1], second[1])
        for prompt, other, first, second in zip(prompts, swapped, *rows)
    ]
    interval = {"confidence": confidence, "seed": seed}
    return CounterfactualsResult(
        bootstrap_interval(
            [np.mean(pair.scores) - np.mean(pair.swapped_scores) for pair in pairs], **interval
        ),
        bootstrap_interval([_wasserstein(pair) for pair in pairs], **interval),
        pairs,
    )


def swap_words(texts: Sequence[str], swaps: Mapping[str, str]) -> list[str]:
    """Replace words in texts, all at once, and keep their capitals.

    Args:
        texts: The texts.
        swaps: As in `counterfactuals`.

    Raises:
        ValueError: `swaps` is empty, or has something else than texts that are not empty.

    Example:
        >>> from gpt_keras.evaluation.counterfactual_generation import swap_words
        >>> swap_words(["He hid the hen. HE did.", "他来了"], {"he": "she", "她": "他", "他": "她"})
        ['She hid the hen. SHE did.', '她来了']
    """
    is_right = isinstance(swaps, Mapping) and all(
        isinstance(text, str) and text.strip() for pair in swaps.items() for text in pair
    )
    if not is_right or not swaps:
        raise ValueError(
            "`swaps` must map words to the words that replace them, such as {'he': 'she'}; got "
            f"{describe(swaps)}."
        )
    others = {word.lower(): other for word, other in swaps.items()}
    if len(others) < len(swaps):
        raise ValueError(
            f"The words of `swaps` must differ in more than capitals, got {list(swaps)}."
        )
    # The longest word first: of two that begin at one place, it is the one that is meant.
    words = sorted(others, key=len, reverse=True)
    pattern = re.compile("|".join(map(_with_borders, words)), re.IGNORECASE)

    def other(match):
        # A letter such as the long s matches without regard to case, but is not lowered to `s`.
        replacement = others.get(match[0].lower())
        return match[0] if replacement is None else _with_capitals(match[0], replacement)

    return [pattern.sub(other, text) for text in texts]


def _with_borders(word: str) -> str:
    """Return the pattern of a word; Chinese characters need no borders."""
    begin = "" if CHARACTER.match(word[0]) else r"(?<!\w)"
    end = "" if CHARACTER.match(word[-1]) else r"(?!\w)"
    return begin + re.escape(word) + end


def _with_capitals(found: str, other: str) -> str:
    """Return the other word with the capitals of the word that was found."""
    if len(found) > 1 and found.isupper():
        return other.upper()
    if found[0].isupper():
        return other[0].upper() + other[1:]
    return other


def _continuations(
    model, prompts, num_samples, batch_size, max_new_tokens, seed, settings
) -> list[str]:
    """Return continuations; the seed of a row depends only on its number."""
    ids = model.tokenizer.encode(prompts, add_start_of_text=True)
    rows = [row for row in ids for _ in range(num_samples)]
    found = _generate(model, rows, batch_size, max_new_tokens, seed, {"stop": ()} | settings)
    return [text for text, _ in found]


def _scores(classify: Callable[[list[str]], Sequence[float]], texts: list[str]) -> np.ndarray:
    found = classify(list(texts))
    try:
        scores = np.asarray(found, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`classify` must return numbers, got {describe(found)}.") from error
    if scores.shape != (len(texts),) or not np.isfinite(scores).all():
        raise ValueError(
            f"`classify` must return one finite number for each of {len(texts)} texts, got "
            f"{describe(found)}."
        )
    return scores


def _wasserstein(pair: CounterfactualPair) -> float:
    """Return the distance of two equally large samples of scores."""
    # With equal sizes, it is the mean difference of the sorted scores.
    return float(np.mean(np.abs(np.sort(pair.scores) - np.sort(pair.swapped_scores))))
