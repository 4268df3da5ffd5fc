"""Prompt cache: the KV cache of an earlier text, reused as a prefix of prompts."""

import weakref
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from gpt_keras.generation.state import Prefix, State


class PromptCache:
    """KV cache of a text, reused for prompts that begin with the same tokens.

    Make an empty one, or one with `CausalLM.cache_prompt`, and pass it to `generate` or `stream` as
    `prompt_cache`. The longest prefix that all prompts share with the cached text is not run again.

    A call with a single prompt stores prompt and continuation in the cache. The next turn of a
    conversation then runs only its new tokens. A call with several prompts, or with a strategy
    that returns several continuations, does not change the cache.

    A cache belongs to one model with its present weights. After training, make a new one.

    Attributes:
        token_ids: List of the cached token ids.

    Example:
        >>> import gpt_keras as gk
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=9)
        >>> model, cache = gk.GPTCausalLM(config), gk.generation.PromptCache()
        >>> row = model.generate([1, 2, 3], max_new_tokens=4, seed=0, prompt_cache=cache)
        >>> cache.token_ids == row[:-1]  # the last token was not run
        True
    """

    def __init__(self):
        self.token_ids: list[int] = []
        self._cache: Any = None
        self._start = 0
        self._backbone: weakref.ref | None = None

    def check_backbone(self, backbone) -> None:
        """Raise `ValueError` if another backbone filled the cache."""
        if self._backbone is not None and self._backbone() is not backbone:
            raise ValueError(
                "`prompt_cache` must be empty or filled by this model; it holds the tokens of "
                "another model. Make a new one for each model."
            )

    def prefix(self, prompts: Sequence[Sequence[int]]) -> Prefix | None:
        """Return the longest cached prefix of all prompts; None if it has no tokens.

        The last token of a prompt is never part of it, because it must be run for its logits.

        Args:
            prompts: Rows of token ids.
        """
        length = min(self._num_common(prompt) for prompt in prompts)
        if length == 0:
            return None
        return Prefix(self._cache, tf.constant(self._start), tf.constant(length))

    def _num_common(self, prompt):
        count = 0
        for remembered, token_id in zip(self.token_ids, prompt[:-1]):
            if remembered != token_id:
                break
            count += 1
        return count

    def update(self, state: State, backbone) -> None:
        """Store the tokens and the KV cache of a finished generation.

        Args:
            state: A `State` with one row.
            backbone: The backbone that ran it.
        """
        start, index = int(state.starts[0]), int(state.index)
        self.token_ids = state.token_ids[0, start:index].numpy().tolist()
        self._cache, self._start = state.cache, start
        self._backbone = weakref.ref(backbone)
