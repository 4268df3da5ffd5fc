"""Prompts with targets as token ids for `fit`, with the loss on the targets."""

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpt_keras.datasets.encoded_rows import length_limit
from gpt_keras.datasets.masked_sequences import MaskedSequences
from gpt_keras.datasets.prompt_task import PromptExample, PromptTask
from gpt_keras.tokenizers import Tokenizer

# Examples that are encoded at once: the tokenizers are faster with batches.
_AT_ONCE = 1024


def prompted(
    task: PromptTask, source: Any, model: Any, *, sequence_length: int | None = None
) -> MaskedSequences:
    r"""Make token ids from a task and a table, with the loss on the targets.

    A sequence is the prompt, the target and an end token. The prompt has the ids that `generate`
    gives it, since the target is encoded apart from it. The sample weight is 1 for the tokens of
    the target and the end token, and 0 for the prompt. The end token is the first of the model's
    `end_token_ids`; without one, the first stop string of the task ends the target.

    For a model with a chat template, use
    `gk.datasets.conversations(task.conversations(source), model)`.

    Args:
        task: The task.
        source: A table as in `gk.records.read_rows`, with the task's columns.
        model: A `CausalLM` with a tokenizer. Its weights are not used.
        sequence_length: Largest number of input tokens of a sequence; a longer sequence is left
            out, with a warning. Default: the model's `max_sequence_length`.

    Returns:
        The sequences. Their `batches(batch_size, seed=0)` makes the dataset for `fit`.

    Raises:
        ValueError: The model has no tokenizer, there is neither an end token nor a stop string, the
            length is out of range, the table has no rows, all sequences are too long, or a row is
            wrong as in `PromptTask.examples`.
        ImportError: The source is a parquet file, and pyarrow is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> task = gk.datasets.PromptTask(name="twice", prompt="{{ n }} =", target="{{ n }}{{ n }}")
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("12 =", end_of_text=True)
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=tokenizer.vocabulary_size)
        >>> model = gk.GPTCausalLM(config, tokenizer=tokenizer)
        >>> data = gk.datasets.prompted(task, [{"n": 1}, {"n": 2}], model)
        >>> data.runs(1, tokenizer)
        [('2 =', False), (' 22<|endoftext|>', True)]
    """
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise ValueError(f"`model` must be a CausalLM with a tokenizer, got {model!r}.")
    if not isinstance(task, PromptTask):
        raise ValueError(f"`task` must be a gk.datasets.PromptTask, got {task!r}.")
    limit = length_limit(model, sequence_length)
    end_ids, end_text = list(model.end_token_ids[:1]), ""
    if not end_ids:
        if not task.stop:
            raise ValueError(
                "A target must end with an end token or a stop string, but `model` has no "
                "end_token_ids and `task` no `stop`: the model would not learn to stop."
            )
        end_text = task.stop[0]
    token_ids, masks, num_read = [], [], 0
    for ids, num_of_prompt in _encoded(task.examples(source), tokenizer, end_text):
        num_read += 1
        ids = np.array(ids + end_ids, np.int32)
        if limit is None or len(ids) <= limit + 1:  # the last token is only a target
            token_ids.append(ids)
            masks.append(np.arange(len(ids)) >= num_of_prompt)
    if not num_read:
        raise ValueError("`source` must have rows, but is empty.")
    if not token_ids:
        raise ValueError(
            f"Each of the {num_read} examples has more than {limit} input tokens. Give a larger "
            "`sequence_length`, or shorter texts."
        )
    if len(token_ids) < num_read:
        warnings.warn(
            f"{num_read - len(token_ids)} of {num_read} examples have more than {limit} input "
            "tokens and are left out.",
            stacklevel=2,
        )
    return MaskedSequences(tuple(token_ids), tuple(masks))


def _encoded(
    examples: Iterator[PromptExample], tokenizer: Tokenizer, end_text: str
) -> Iterator[tuple[list[int], int]]:
    """Yield the ids of each example, and how many of them are the prompt."""
    while found := list(itertools.islice(examples, _AT_ONCE)):
        prompts = tokenizer.encode([example.prompt for example in found])
        start = list(tokenizer.prompt_start)
        for example, prompt in zip(found, prompts):
            if not start and not prompt:
                raise ValueError(f"{example.place}: the tokenizer encodes the prompt to no ids.")
            ids = tokenizer.encode_parts([example.prompt, example.target + end_text])
            yield start + ids, len(start) + len(prompt)
