"""Prompt caches: the KV cache of a text that a model has run, to continue from it."""

import weakref
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from gpt_keras.generation.state import Prefix, State


class PromptCache:
    """KV cache of a text, so that prompts that begin with it are not run again.

    Made empty, or by `CausalLM.cache_prompt`, and handed to `generate` or `stream`. Other prompts
    are served, too: with the longest prefix that they all share with the text. A call with a single
    prompt stores all that was run, prompt and continuation: the next turn of a conversation then
    only runs its new tokens. A call with several prompts, or with
    a strategy that finds several continuations, changes nothing.

    It belongs to one model, as it was: after training begin with a new one.

    Attributes:
        token_ids: The tokens that are remembered.

    Example:
        >>> import gpt_keras as gk
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=9)
        >>> model, cache = gk.GPTCausalLM(config), gk.generation.PromptCache()
        >>> row = model.generate([1, 2, 3], max_new_tokens=4, seed=0, prompt_cache=cache)
        >>> cache.token_ids == row[:-1]                     # the last one was not run
        True
    """

    def __init__(self):
        self.token_ids: list[int] = []
        self._cache: Any = None
        self._start = 0
        self._backbone: weakref.ref | None = None

    def check_backbone(self, backbone) -> None:
        """Raise `ValueError` if what is remembered was run by another backbone."""
        if self._backbone is not None and self._backbone() is not backbone:
            raise ValueError(
                "`prompt_cache` must be a new one, or one that this model has filled; it holds "
                "tokens that another model has run."
            )

    def prefix(self, prompts: Sequence[Sequence[int]]) -> Prefix | None:
        """Return what all of these prompts can begin with; None if it is nothing.

        The last token of a prompt does not count: it is run for its logits.
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
        """Remember a state of one row, and which backbone ran it."""
        start, index = int(state.starts[0]), int(state.index)
        self.token_ids = state.token_ids[0, start:index].numpy().tolist()
        self._cache, self._start = state.cache, start
        self._backbone = weakref.ref(backbone)
