"""Prompts, sampled completions and rewards as arrays of a training step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpt_keras.chat.template import ChatTemplate
from gpt_keras.generation.arguments import read_prompts
from gpt_keras.generation.lengths import bucket_lengths
from gpt_keras.generation.text_pieces import TextPieces
from gpt_keras.models import CausalLM
from gpt_keras.models.text_containers import find_texts

# Keeps advantages finite if the rewards of a group hardly differ; the value is trl's.
_EPSILON = 1e-4


class TrainingPrompts(NamedTuple):
    """Prompts as token ids, and as the user gave them.

    Attributes:
        rows: Token ids of each prompt.
        given: Each prompt for the reward function: a text, token ids or messages.
        is_text: Whether completions are texts; False for prompts of token ids.
    """

    rows: list[list[int]]
    given: list[Any]
    is_text: bool


def training_prompts(
    name: str, prompts: Any, model: CausalLM, max_new_tokens: int
) -> TrainingPrompts:
    """Read prompts: texts, rows of token ids, or messages for the chat template.

    Args:
        name: Name of the argument, for the error messages.
        prompts: Texts or rows of token ids in any container, as in `CausalLM.generate`; or a list
            of lists of messages.
        model: The model.
        max_new_tokens: Number of tokens that each prompt must leave room for.

    Returns:
        The prompts.

    Raises:
        ValueError: There is no prompt, or a prompt is empty, too long or of another form.
    """
    if isinstance(prompts, list | tuple) and not prompts:
        raise ValueError(f"`{name}` must hold at least one prompt, got none.")
    texts, prompts = find_texts(name, prompts)
    if texts is not None:
        rows = given = read_prompts(texts, model.tokenizer, model.vocabulary_size, name).rows
        given = texts
    elif isinstance(prompts, list | tuple) and _is_messages(prompts[0]):
        rows, given = _chat_rows(name, prompts, model), list(prompts)
    else:
        rows = given = read_prompts(prompts, None, model.vocabulary_size, name).rows
    limit = model.max_sequence_length
    for i, row in enumerate(rows):
        if limit is not None and len(row) + max_new_tokens > limit:
            raise ValueError(
                f"`{name}` must leave room for max_new_tokens={max_new_tokens} within the model's "
                f"max_sequence_length={limit}; number {i} has {len(row)} tokens."
            )
    return TrainingPrompts(rows, given, is_text=given is not rows)


def _is_messages(prompt: Any) -> bool:
    return isinstance(prompt, list | tuple) and len(prompt) > 0 and isinstance(prompt[0], Mapping)


def _chat_rows(name: str, prompts: Sequence[Any], model: CausalLM) -> list[list[int]]:
    if model.chat_template is None or model.tokenizer is None:
        raise ValueError(
            f"`{name}` has messages, but the model has no tokenizer with a chat_template. Set one, "
            "or give texts."
        )
    template = ChatTemplate(model.chat_template)
    rows = []
    for i, messages in enumerate(prompts):
        try:
            rows.append(template.encode(messages, model.tokenizer))
        except ValueError as error:
            raise ValueError(f"`{name}`, number {i}: {error}") from error
    return rows


class Completions(NamedTuple):
    """Completions of prompts, one row each; the rows of a group follow each other.

    Attributes:
        prompts: Token ids of the prompt of each row.
        token_ids: Token ids of each completion, without its end token.
        has_ended: Whether the model ended the completion with an end token; False if the limit
            `max_new_tokens` ended it.
        for_reward: Prompts and completions as the reward function gets them.
    """

    prompts: list[list[int]]
    token_ids: list[list[int]]
    has_ended: np.ndarray
    for_reward: tuple[list[Any], list[Any]]

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each completion, its end token included."""
        return np.array([*map(len, self.token_ids)]) + self.has_ended


def sample_completions(
    model: CausalLM, prompts: TrainingPrompts, numbers: np.ndarray, group_size: int, **settings: Any
) -> Completions:
    """Sample a group of completions for each of the given prompts.

    Args:
        model: The model.
        prompts: All prompts.
        numbers: Numbers of the prompts of this batch.
        group_size: Number of completions of each prompt.
        **settings: Settings of `generate`, `max_new_tokens` among them.

    Returns:
        The completions, `group_size` for each prompt.
    """
    numbers = np.repeat(numbers, group_size)
    rows = [prompts.rows[i] for i in numbers]
    # The longest of all prompts decides the length of the cache, so XLA compiles once.
    longest = max(map(len, prompts.rows)) + settings["max_new_tokens"]
    found = model.generate(rows, cache_length=longest, **settings)
    token_ids = [whole[len(row) :] for row, whole in zip(rows, found)]
    completions = token_ids
    if prompts.is_text:
        completions = [
            TextPieces(model.tokenizer, row, ()).take(new, True)
            for row, new in zip(rows, token_ids)
        ]
    return Completions(
        rows,
        token_ids,
        np.array([len(new) < settings["max_new_tokens"] for new in token_ids]),
        ([prompts.given[i] for i in numbers], completions),
    )


def rewards_of(function: Callable, prompts: list[Any], completions: list[Any]) -> np.ndarray:
    """Call the user's reward function and check its result.

    Args:
        function: The function, called as `function(prompts=..., completions=...)`.
        prompts: The prompt of each completion.
        completions: The completions.

    Returns:
        float64 `(completions,)`.

    Raises:
        ValueError: The result is not one finite number for each completion.

    Example:
        >>> from gpt_keras.finetuning.rollouts import rewards_of
        >>> rewards_of(lambda prompts, completions: [1, 0.5], ["a", "a"], ["b", "c"]).tolist()
        [1.0, 0.5]
    """
    rewards = function(prompts=prompts, completions=completions)
    wanted = f"`reward_function` must return {len(completions)} numbers, one for each completion"
    try:
        array = np.asarray(rewards)
    except (ValueError, TypeError):  # rows of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "biuf" or array.ndim != 1:
        raise ValueError(f"{wanted}, got {rewards!r}.")
    if len(array) != len(completions):
        raise ValueError(f"{wanted}, got {len(array)}.")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        bad = int(np.argmin(np.isfinite(array)))
        raise ValueError(
            f"{wanted}, all finite; got {array[bad]} for the completion {completions[bad]!r} of "
            f"the prompt {prompts[bad]!r}."
        )
    return array


def group_advantages(rewards: np.ndarray) -> np.ndarray:
    """Return rewards minus the mean of their group, over its standard deviation.

    The standard deviation has the divisor n - 1, and 0.0001 is added to it, as in trl. All
    advantages of a group with equal rewards are 0.

    Args:
        rewards: `(groups, group_size)`.

    Returns:
        `(groups, group_size)`.

    Example:
        >>> import numpy as np
        >>> from gpt_keras.finetuning.rollouts import group_advantages
        >>> group_advantages(np.array([[1.0, 3.0], [5.0, 5.0]])).round(4).tolist()
        [[-0.7071, 0.7071], [0.0, 0.0]]
    """
    centered = rewards - rewards.mean(axis=1, keepdims=True)
    deviations = rewards.std(axis=1, ddof=1, keepdims=True)
    has_signal = np.ptp(rewards, axis=1, keepdims=True) > 0
    return np.where(has_signal, centered / (deviations + _EPSILON), 0.0)


def step_arrays(
    completions: Completions,
    advantages: np.ndarray,
    *,
    end_token_id: int | None,
    longest: int | None,
    fixed: int | None,
    uses_truncated: bool,
) -> dict[str, np.ndarray]:
    """Return the arrays of a training step, padded to one of few lengths.

    Args:
        completions: The completions, `rows` of them.
        advantages: Advantage of each completion that counts; the rows after them are only there
            to fill up the batch.
        end_token_id: Id that follows a completion that has ended.
        longest: Largest number of tokens that the model reads, or None.
        fixed: The only number of tokens that the model reads, or None.
        uses_truncated: Whether completions that have not ended have a loss.

    Returns:
        `token_ids`, int32 `(rows, length)`; `completion_mask`, bool `(rows, length)`, True for the
        completion's tokens with its end token; `advantages`, float32 `(rows,)`; `is_row`, float32
        `(rows,)`, 1 for the rows that count.
    """
    ends = np.array([*map(len, completions.prompts)]) + completions.lengths
    # The model reads all tokens but the last one.
    length = bucket_lengths(max(1, int(ends.max()) - 1))[-1]
    length = fixed or (length if longest is None else min(length, longest))
    num_rows = len(completions.token_ids)
    token_ids = np.zeros((num_rows, length + 1), np.int32)
    mask = np.zeros((num_rows, length + 1), bool)
    for i, (prompt, new) in enumerate(zip(completions.prompts, completions.token_ids)):
        row = [*prompt, *new, *([end_token_id] if completions.has_ended[i] else [])]
        token_ids[i, : len(row)] = row
        mask[i, len(prompt) : len(row)] = uses_truncated or completions.has_ended[i]
    is_row = np.arange(num_rows) < advantages.size
    mask &= is_row[:, None]
    padded = np.zeros(num_rows, np.float32)
    padded[: advantages.size] = advantages.reshape(-1)
    return {
        "token_ids": token_ids,
        "completion_mask": mask,
        "advantages": padded,
        "is_row": is_row.astype(np.float32),
    }
