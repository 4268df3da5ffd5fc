"""Conversation with a chat model, with a KV cache that is kept between the turns."""

import json
import os
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpt_keras.atomic import atomic_file
from gpt_keras.chat.template import ChatTemplate
from gpt_keras.generation import DraftModel, PromptCache
from gpt_keras.generation.backbone import CACHE_METHODS, missing
from gpt_keras.generation.runner import CHUNKS

if TYPE_CHECKING:  # a circular import at run time: `models` needs `datasets`, which needs templates
    from gpt_keras.models import CausalLM

# Least number of tokens left for an answer. The oldest turns are dropped to make this room.
_ROOM_FOR_ANSWER = 64

# Tokens in the first KV cache, enough for a usual conversation: XLA compiles again when it grows.
_CACHE_LENGTH = 1024

# `generate` needs only one of these limits, so a setting of `say` replaces both defaults.
_LIMITS = {"max_new_tokens", "max_length"}


class Conversation:
    """Conversation with a chat model; each turn runs only the new tokens.

    The KV cache of earlier turns is kept. Without it, each turn runs the whole conversation: with
    the settings `sliding_window` or `strategy=DraftModel(...)`, and with a backbone that lacks a
    cache method or `move`.

    Attributes:
        messages: The conversation so far, dicts of `role` and `content`.

    Args:
        model: A `CausalLM` with a tokenizer and a `chat_template`.
        system: System message at the beginning. Default: none, so that the template's own system
            message is used, if it has one.
        **settings: Settings of `CausalLM.generate` for all answers, such as `temperature`.

    Raises:
        ValueError: The model has no tokenizer or no chat template.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc: ", end_of_text=True)
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=6)
        >>> model = gk.GPTCausalLM(config, tokenizer=tokenizer)
        >>> model.chat_template = "{% for m in messages %}{{ m.content }}: {% endfor %}"
        >>> chat = gk.chat.Conversation(model, max_new_tokens=5, seed=0)
        >>> answer = "".join(chat.say("abc"))
        >>> [message["role"] for message in chat.messages]
        ['user', 'assistant']
    """

    def __init__(self, model: "CausalLM", system: str | None = None, **settings):
        if model.tokenizer is None or model.chat_template is None:
            lacking = "tokenizer" if model.tokenizer is None else "chat_template"
            raise ValueError(
                f"`model` must have a tokenizer and a chat_template; it has no {lacking}."
            )
        self.model = model
        self.settings = settings
        self._template = ChatTemplate(model.chat_template)
        self._system = system
        self.reset()

    def reset(self) -> None:
        """Delete all messages but the system message, and clear the KV cache."""
        self.messages = [] if self._system is None else [_message("system", self._system)]
        self._cache = self._new_cache()

    def warm_up(self) -> None:
        """Compile the generation step in advance, so that the first answer starts at once."""
        # A prompt of 2 tokens, a prompt of several chunks, and one that extends the cached prompt.
        cache = self._new_cache()
        for length in (2, CHUNKS[0] + 2, CHUNKS[0] + 4):
            prompt = [0] * min(length, self._limit // 2)
            list(self._stream(prompt, {"max_new_tokens": 2}, cache))

    @property
    def _limit(self) -> int:
        return self.model.max_sequence_length or 2**31

    def _new_cache(self) -> PromptCache | None:
        """Return a new prompt cache, or None if each turn runs the whole prompt."""
        runs_all = self.settings.get("sliding_window") or isinstance(
            self.settings.get("strategy"), DraftModel
        )
        lacking = missing(self.model.backbone, *CACHE_METHODS, "move")
        return None if runs_all or lacking else PromptCache()

    def _stream(
        self, prompt: list[int], settings: dict, prompt_cache: PromptCache | None
    ) -> Iterator[str]:
        usual = self.settings
        if settings.keys() & _LIMITS:
            usual = {name: value for name, value in usual.items() if name not in _LIMITS}
        room = max(len(prompt) + _ROOM_FOR_ANSWER, _CACHE_LENGTH)
        fixed = {"cache_length": min(room, self._limit), "prompt_cache": prompt_cache}
        return self.model.stream(prompt, **fixed | usual | settings)

    def say(self, text: str, **settings) -> Iterator[str]:
        """Send a user message and yield the answer piece by piece.

        If the conversation is too long for the model, the prompt leaves out its oldest turns.

        Args:
            text: The user's message.
            **settings: Settings of `CausalLM.generate` for this answer.

        Yields:
            Pieces of the answer. `messages` contains only the pieces that were read.

        Raises:
            ValueError: `text` is not a string or is too long by itself, or a setting is wrong. The
                call of `say` raises it, before the first piece is read.
        """
        if not isinstance(text, str):
            raise ValueError(f"`text` must be a string, got {text!r}.")
        asked = [*self.messages, _message("user", text)]
        prompt = self._fitting_prompt(asked)
        pieces = self._stream(prompt, settings, self._cache)
        answer = _message("assistant", "")
        self.messages = [*asked, answer]
        return self._read(pieces, answer)

    def _read(self, pieces: Iterator[str], answer: dict[str, str]) -> Iterator[str]:
        for piece in pieces:
            answer["content"] += piece
            yield piece

    def _fitting_prompt(self, messages: list[dict[str, str]]) -> list[int]:
        """Return the ids of the conversation; drop the oldest turns if it is too long."""
        first = 1 if messages[0]["role"] == "system" else 0
        limit = self.model.max_sequence_length
        for start in range(first, len(messages), 2):
            ids = self._template.encode(
                [*messages[:first], *messages[start:]], self.model.tokenizer
            )
            if limit is None or len(ids) + _ROOM_FOR_ANSWER <= limit:
                return ids
        if len(ids) < limit:
            return ids
        raise ValueError(
            f"`text` must leave room for an answer: with the chat template it has {len(ids)} "
            f"tokens, and the model takes {limit}."
        )

    def save(self, path: str | os.PathLike) -> None:
        """Save the conversation as JSON: a list of messages.

        Args:
            path: File to write.
        """
        with atomic_file(pathlib.Path(path)) as temporary:
            text = json.dumps(self.messages, indent=2, ensure_ascii=False)
            temporary.write_text(text + "\n", encoding="utf-8")


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
