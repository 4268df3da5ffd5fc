"""A call of `generate`, checked before any work starts and turned into tensors."""

import operator
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gpt_keras.config import check_at_least_0, check_int64, check_positive_int
from gpt_keras.generation import row_seeds
from gpt_keras.models.vocabulary import check_token_ids

# Room for these is made at once; a model without a longest sequence needs some limit.
_MOST_NEW_TOKENS = 2**24


class Prompts(NamedTuple):
    """Prompts as rows of token ids, and the form in which they came.

    Attributes:
        rows: one list of ids for each prompt.
        is_text: whether they came as texts.
        is_single: whether there was one prompt and no list of them.
    """

    rows: list[list[int]]
    is_text: bool
    is_single: bool


def read_prompts(prompts, tokenizer, vocabulary_size: int) -> Prompts:
    """Turn a text, texts, ids or lists of ids into rows of ids.

    Raises:
        ValueError: there is no prompt, one is empty or of another type, an id is outside the
            vocabulary, or texts are given without a tokenizer.
    """
    if hasattr(prompts, "numpy"):  # a tensor
        prompts = prompts.numpy().tolist()
    if not isinstance(prompts, Iterable) or isinstance(prompts, bytes | Mapping | Set):
        raise ValueError(f"`prompts` must be a text, token ids or a list of such, got {prompts!r}.")
    prompts = prompts if isinstance(prompts, str) else list(prompts)
    is_single = isinstance(prompts, str) or (
        len(prompts) > 0 and isinstance(prompts[0], int | np.integer)
    )
    given = [prompts] if is_single else list(prompts)
    if not given:
        raise ValueError("`prompts` must hold at least one prompt, got an empty list.")
    is_text = isinstance(given[0], str)
    rows = []
    for i, prompt in enumerate(given):
        if not _is_prompt(prompt, is_text):
            raise ValueError(
                f"`prompts` must be all texts or all lists of token ids; number {i} is {prompt!r}."
            )
        if len(prompt) == 0:
            raise ValueError(f"`prompts` must not be empty; number {i} is {prompt!r}.")
        row = require_tokenizer(tokenizer).encode(prompt) if is_text else prompt
        check_token_ids(row, vocabulary_size)
        rows.append([int(token_id) for token_id in row])
    return Prompts(rows, is_text, is_single)


def _is_prompt(prompt, is_text):
    if is_text or isinstance(prompt, str):
        return is_text and isinstance(prompt, str)
    try:
        return np.ndim(prompt) == 1
    except ValueError:  # lists of different lengths inside
        return False


def generator_inputs(
    rows: list[list[int]],
    *,
    max_sequence_length: int | None,
    max_new_tokens: int | None = None,
    max_length: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | Sequence[int] | None = None,
    cache_length: int | None = None,
) -> tuple[tuple[tf.Tensor, ...], tuple[tf.Tensor, ...]]:
    """Check the settings of `CausalLM.generate` and return them as the generator takes them.

    Returns:
        `(prompts, settings)`: the inputs of `Generator.start`, and the further ones of
        `Generator.advance`.

    Raises:
        ValueError: a setting is out of its range, or a prompt leaves no room.
    """
    check_at_least_0("temperature", temperature)
    if top_k is not None:
        check_positive_int("top_k", top_k)
    if top_p is not None:
        check_at_least_0("top_p", top_p)
        if not 0 < top_p <= 1:
            raise ValueError(f"`top_p` must be in (0, 1], or None for off; got {top_p!r}.")
    if cache_length is not None:
        check_positive_int("cache_length", cache_length)
        if cache_length > _MOST_NEW_TOKENS:
            raise ValueError(
                f"`cache_length` must be at most {_MOST_NEW_TOKENS}, got {cache_length}."
            )
    lengths = [len(row) for row in rows]
    limits = _limits(lengths, max_new_tokens, max_length, max_sequence_length)
    seeds = _row_seeds(seed, len(rows))
    token_ids = np.zeros((len(rows), max(lengths)), "int32")
    for i, row in enumerate(rows):
        token_ids[i, : len(row)] = row
    prompts = (
        tf.constant(token_ids),
        tf.constant(lengths, tf.int32),
        tf.constant(limits, tf.int32),
        seeds,
        tf.constant(cache_length or 0, tf.int32),
    )
    settings = (
        tf.constant(temperature, tf.float32),
        tf.constant(0 if top_k is None else min(top_k, 2**31 - 1), tf.int32),
        tf.constant(1.0 if top_p is None else top_p, tf.float32),
    )
    return prompts, settings


def require_tokenizer(tokenizer):
    """Return the tokenizer, or raise `ValueError` if there is none."""
    if tokenizer is None:
        raise ValueError(
            "Texts need a tokenizer, and this model has none: set `model.tokenizer`, "
            "or pass token ids."
        )
    return tokenizer


def _limits(lengths, max_new_tokens, max_length, max_sequence_length):
    """How many tokens each row may get."""
    if max_new_tokens is not None and max_length is not None:
        raise ValueError(
            f"Give `max_new_tokens` or `max_length`, not both; "
            f"got {max_new_tokens!r} and {max_length!r}."
        )
    if max_length is not None:
        check_positive_int("max_length", max_length)
        limits = [max_length - length for length in lengths]
    else:
        max_new_tokens = 100 if max_new_tokens is None else max_new_tokens
        check_positive_int("max_new_tokens", max_new_tokens)
        limits = [max_new_tokens] * len(lengths)
    if max_sequence_length is not None:
        limits = [
            min(limit, max_sequence_length - length)
            for limit, length in zip(limits, lengths, strict=True)
        ]
    if max(limits) > _MOST_NEW_TOKENS:
        raise ValueError(
            f"`max_new_tokens` and `max_length` must leave at most {_MOST_NEW_TOKENS} new tokens, "
            f"got {max_new_tokens!r} and {max_length!r}."
        )
    if min(limits) < 1:
        raise ValueError(
            f"A prompt of {max(lengths)} tokens leaves no room for another: `max_length` is "
            f"{max_length} and the model's max_sequence_length {max_sequence_length}."
        )
    return limits


def _row_seeds(seed, batch_size):
    if seed is None:
        seed = np.random.default_rng().integers(2**62)
    if not isinstance(seed, Sequence) and np.ndim(seed) == 0:
        check_int64("seed", seed)
        return row_seeds(operator.index(seed), batch_size)
    for number in seed:
        check_int64("seed", number)
    if len(seed) != batch_size or isinstance(seed, str):
        raise ValueError(
            f"`seed` must be one number, or one for each of the {batch_size} prompts; got {seed!r}."
        )
    return tf.constant([operator.index(number) for number in seed], tf.int64)
