"""Arguments of `generate`: checked before any work starts, then made tensors."""

import inspect
import operator
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from gpt_keras.checks import check_int64, check_positive, check_positive_int, check_token_ids
from gpt_keras.generation.backbone import CACHE_METHODS, require
from gpt_keras.generation.processors import PROCESSORS, read_settings
from gpt_keras.generation.prompt_cache import PromptCache
from gpt_keras.generation.sampling import fold_in, row_seeds
from gpt_keras.generation.speculative import DraftModel, Speculative
from gpt_keras.generation.state import Request
from gpt_keras.generation.stopping import NO_DEADLINE
from gpt_keras.generation.strategies import Sampling, Strategy
from gpt_keras.texts import as_texts

# The cache for all new tokens is allocated at once, so a model without `max_sequence_length` needs
# a limit too.
_MOST_NEW_TOKENS = 2**24


class Prompts(NamedTuple):
    """Prompts as rows of token ids, and the form in which the user gave them.

    Attributes:
        rows: One list of token ids for each prompt.
        is_text: Whether the prompts were texts.
        is_single: Whether the user gave a single prompt instead of a list.
        num_added: Number of ids at the beginning of each row that the tokenizer added, such as the
            start-of-text token. Decoding skips them.
    """

    rows: list[list[int]]
    is_text: bool
    is_single: bool
    num_added: int = 0


class Call(NamedTuple):
    """Checked arguments of one call of `generate`.

    Attributes:
        prompts: The prompts.
        request: The `Request` for `Generator.start`.
        settings: The tensors for `Generator.advance`, by name.
        strategy: The decoding strategy.
        window: Number of tokens that a token attends to at most; None for all.
        stop: Strings that end a text.
        prompt_cache: The KV cache of earlier prompts, or None.
        callback: A function that runs after each step and returns True to stop; or None.
        logits_processors: The user's own logits processors.
    """

    prompts: Prompts
    request: Request
    settings: dict[str, tf.Tensor]
    strategy: Strategy
    window: int | None
    stop: list[str]
    prompt_cache: PromptCache | None
    callback: Callable | None
    logits_processors: tuple[Callable, ...]


def read_prompts(
    prompts, tokenizer, vocabulary_size: int, name: str = "prompts", add_start_of_text: bool = True
) -> Prompts:
    """Convert prompts of any form to rows of token ids.

    Args:
        prompts: A text, a row of token ids, or several texts or rows in any container. Ids are
            used as they are.
        tokenizer: The tokenizer for texts; None if there is none.
        vocabulary_size: Number of token ids; every id must be below it.
        name: Name of the argument, for the error messages.
        add_start_of_text: Whether texts begin with the start-of-text token, if the tokenizer has
            one and adds it to prompts.

    Returns:
        The `Prompts`.

    Raises:
        ValueError: There is no prompt, a prompt is empty or of another type, an id is outside the
            vocabulary, or texts are given without a tokenizer.
    """
    prompts = _from_container(prompts, name)
    is_single = isinstance(prompts, str) or (
        len(prompts) > 0 and isinstance(prompts[0], int | np.integer)
    )
    given = [prompts] if is_single else list(prompts)
    if not given:
        raise ValueError(f"`{name}` must hold at least one {name[:-1]}, got an empty list.")
    is_text = isinstance(given[0], str)
    rows = []
    for i, prompt in enumerate(given):
        if not _is_prompt(prompt, is_text):
            raise ValueError(
                f"`{name}` must be all texts or all lists of token ids; number {i} is {prompt!r}."
            )
        row = prompt
        if is_text:
            row = require_tokenizer(tokenizer).encode(prompt, add_start_of_text=add_start_of_text)
        if len(row) == 0:  # some tokenizers encode a space to no ids
            raise ValueError(f"`{name}` must not be empty; number {i} is {prompt!r}.")
        check_token_ids(row, vocabulary_size)
        rows.append([int(token_id) for token_id in row])
    num_added = len(tokenizer.prompt_start) if is_text and add_start_of_text else 0
    return Prompts(rows, is_text, is_single, num_added)


def _from_container(prompts, name):
    """Return a text, or a list of texts, ids or rows of ids, from any container."""
    if isinstance(prompts, str):
        return prompts
    if hasattr(prompts, "to_list"):  # a tf.RaggedTensor
        prompts = prompts.to_list()
    elif hasattr(prompts, "as_numpy_iterator"):  # a tf.data.Dataset, of texts
        return as_texts(name, prompts)
    elif hasattr(prompts, "__array__"):  # a NumPy array, a tensor, a pandas Series
        array = np.asarray(prompts)
        prompts = as_texts(name, array) if array.dtype.kind in "OSU" else array.tolist()
    if isinstance(prompts, str):
        return prompts
    if not isinstance(prompts, Iterable) or isinstance(prompts, bytes | Mapping | Set):
        raise ValueError(
            f"`{name}` must be a text, token ids, or a list, array or tensor of these, got "
            f"{prompts!r}."
        )
    return [
        prompt.decode("utf-8", errors="strict") if isinstance(prompt, bytes) else prompt
        for prompt in prompts
    ]


def _is_prompt(prompt, is_text):
    if is_text or isinstance(prompt, str):
        return is_text and isinstance(prompt, str)
    try:
        return np.ndim(prompt) == 1
    except ValueError:  # lists of different lengths inside
        return False


def read_call(
    model,
    prompts,
    *,
    max_new_tokens: int | None = None,
    max_length: int | None = None,
    seed: int | Sequence[int] | None = None,
    stop: str | Sequence[str] = (),
    time_limit: float | None = None,
    strategy: Strategy | None = None,
    callback: Callable | None = None,
    logits_processors: Sequence[Callable] = (),
    prompt_cache: PromptCache | None = None,
    sliding_window: bool = False,
    cache_length: int | None = None,
    **processors: Any,
) -> Call:
    """Check the arguments of `CausalLM.generate` and convert them to tensors.

    The arguments after `model` are described in `GenerationMixin.generate`.

    Returns:
        The `Call`.

    Raises:
        ValueError: An argument is out of its range, two arguments exclude each other, or a prompt
            leaves no room for new tokens.
        TypeError: There is no argument of that name.
    """
    given = read_prompts(prompts, model.tokenizer, model.vocabulary_size)
    rows = given.rows
    strategy = Sampling() if strategy is None else strategy
    _check_strategy(strategy, model, rows, processors, callback)
    settings = read_settings(
        processors,
        model.tokenizer,
        model.vocabulary_size if model.tokenizer is None else model.tokenizer.vocabulary_size,
        model.end_token_ids,
    )
    stop = _read_stop(stop, model.tokenizer)
    settings["stop"] = tf.constant(stop, tf.string)
    if time_limit is not None:
        check_positive("time_limit", time_limit)
    deadline = NO_DEADLINE if time_limit is None else time.time() + time_limit
    settings["deadline"] = tf.constant(deadline, tf.float64)
    if cache_length is not None:
        check_positive_int("cache_length", cache_length)
        if cache_length > _MOST_NEW_TOKENS:
            raise ValueError(
                f"`cache_length` must be at most {_MOST_NEW_TOKENS}, got {cache_length}."
            )
    if callback is not None and not callable(callback):
        raise ValueError(f"`callback` must be a function, got {callback!r}.")
    window = _read_window(sliding_window, model)
    _check_prompt_cache(prompt_cache, model, strategy, window)

    lengths = [len(row) for row in rows]
    longest = None if sliding_window else model.max_sequence_length
    limits = _limits(lengths, max_new_tokens, max_length, longest)
    token_ids = np.zeros((len(rows), max(lengths)), "int32")
    for i, row in enumerate(rows):
        token_ids[i, : len(row)] = row
    request = Request(
        token_ids=tf.constant(token_ids),
        lengths=tf.constant(lengths, tf.int32),
        limits=tf.constant(limits, tf.int32),
        seeds=_row_seeds(seed, len(rows), strategy.copies),
        cache_length=tf.constant(cache_length or 0, tf.int32),
    )
    return Call(
        given,
        request,
        settings,
        strategy,
        window,
        stop,
        prompt_cache,
        callback,
        check_logits_processors(logits_processors),
    )


def check_logits_processors(logits_processors) -> tuple[Callable, ...]:
    """Return the user's logits processors as a tuple.

    Raises:
        ValueError: `logits_processors` is not a sequence of functions.
    """
    is_list = isinstance(logits_processors, Sequence) and not isinstance(logits_processors, str)
    if not is_list or not all(callable(function) for function in logits_processors):
        raise ValueError(
            "`logits_processors` must be a list of functions (logits, context) -> logits, "
            f"got {logits_processors!r}."
        )
    return tuple(logits_processors)


def require_tokenizer(tokenizer):
    """Return the tokenizer, or raise `ValueError` if there is none."""
    if tokenizer is None:
        raise ValueError(
            "Texts need a tokenizer, and this model has none: set `model.tokenizer`, "
            "or pass token ids."
        )
    return tokenizer


def _check_strategy(strategy, model, rows, processors, callback):
    if not isinstance(strategy, Strategy):
        raise ValueError(
            f"`strategy` must be a gk.generation.Strategy, such as BeamSearch(4), got {strategy!r}."
        )
    name = type(strategy).__name__
    if callback is not None and not strategy.streams:
        raise ValueError(
            f"`callback` must be None with {name}, whose tokens are final only at the end."
        )
    if not strategy.draws:
        for setting, processor in PROCESSORS.items():
            value = processors.get(setting)
            if processor.is_warper and value is not None and (setting, value) != ("temperature", 0):
                raise ValueError(
                    f"`{setting}` must be left out with {name}, which does not sample; "
                    f"got {value!r}."
                )
    if isinstance(strategy, Speculative):
        if len(rows) > 1:
            raise ValueError(f"{name} takes one prompt at a time, got {len(rows)}.")
        require(model.backbone, *CACHE_METHODS, "move", what=name)
    if isinstance(strategy, DraftModel):
        draft = strategy.model
        require(draft.backbone, *CACHE_METHODS, "move", what=f"A draft in {name}")
        if draft.vocabulary_size != model.vocabulary_size or draft.tokenizer != model.tokenizer:
            raise ValueError(
                "The draft model must have the same vocabulary and tokenizer as the model: the "
                f"draft has {draft.vocabulary_size} ids and {draft.tokenizer!r}, the model has "
                f"{model.vocabulary_size} ids and {model.tokenizer!r}."
            )


def _read_stop(stop, tokenizer):
    given, stop = stop, [stop] if isinstance(stop, str) else stop
    is_list = isinstance(stop, Iterable) and not isinstance(stop, bytes | Mapping)
    stop = list(stop) if is_list else [stop]
    if any(not isinstance(string, str) or not string for string in stop):
        raise ValueError(
            f"`stop` must be a text or a list of texts, none of them empty, got {given!r}."
        )
    if stop:
        require_tokenizer(tokenizer)
    return stop


def _read_window(sliding_window, model):
    if not isinstance(sliding_window, bool):
        raise ValueError(f"`sliding_window` must be True or False, got {sliding_window!r}.")
    if not sliding_window:
        return None
    names = (*CACHE_METHODS, "move", "has_learned_positions")
    require(model.backbone, *names, what="`sliding_window`")
    if "window" not in inspect.signature(model.backbone.extend).parameters:
        raise ValueError(
            "`sliding_window` needs a backbone whose `extend` has an argument `window`; `extend` "
            f"of {model.backbone.name!r} lacks it. See gk.Backbone for the protocol."
        )
    if model.backbone.has_learned_positions:
        raise ValueError(
            "`sliding_window` must be False for a model with learned positions: it has no "
            f"positions beyond its max_sequence_length of {model.max_sequence_length}."
        )
    return model.max_sequence_length


def _check_prompt_cache(prompt_cache, model, strategy, window):
    if prompt_cache is None:
        return
    if not isinstance(prompt_cache, PromptCache):
        raise ValueError(f"`prompt_cache` must be a PromptCache or None, got {prompt_cache!r}.")
    require(model.backbone, *CACHE_METHODS, "move", what="`prompt_cache`")
    prompt_cache.check_backbone(model.backbone)
    if window is not None or isinstance(strategy, DraftModel):
        raise ValueError(
            "`prompt_cache` must be None with `sliding_window` or a DraftModel, which run the "
            "whole prompt."
        )


def _limits(lengths, max_new_tokens, max_length, max_sequence_length):
    """Return the largest number of new tokens for each prompt."""
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
            f"A prompt of {max(lengths)} tokens leaves no room for a new token: `max_length` is "
            f"{max_length} and the model's max_sequence_length {max_sequence_length}."
        )
    return limits


def _row_seeds(seed, num_prompts, copies):
    """Return one seed for each row, derived from the seed of its prompt."""
    seeds = _prompt_seeds(seed, num_prompts)
    if copies == 1:
        return seeds
    return tf.stack([fold_in(seeds[i], j) for i in range(num_prompts) for j in range(copies)])


def _prompt_seeds(seed, num_prompts):
    if seed is None:
        # `keras.utils.set_random_seed` also seeds Python's `random`, so a call without a seed is
        # reproducible after it.
        seed = random.getrandbits(62)
    if not isinstance(seed, Sequence) and np.ndim(seed) == 0:
        check_int64("seed", seed)
        return row_seeds(operator.index(seed), num_prompts)
    for number in seed:
        check_int64("seed", number)
    if len(seed) != num_prompts or isinstance(seed, str):
        raise ValueError(
            f"`seed` must be one number, or one for each of the {num_prompts} prompts; "
            f"got {seed!r}."
        )
    return tf.constant([operator.index(number) for number in seed], tf.int64)
