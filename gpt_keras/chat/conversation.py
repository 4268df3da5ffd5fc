"""A conversation with a model that was trained to chat."""

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

if TYPE_CHECKING:  # data sets render templates, and models stand above them
    from gpt_keras.models import CausalLM

# An answer gets at least this many tokens of the context; older turns make room for it.
_ROOM_FOR_ANSWER = 64

# Room for a conversation of usual length is made from the start: growing would mean to compile.
_CACHE_LENGTH = 1024

# Settings of which one takes the place of the other.
_LIMITS = {"max_new_tokens", "max_length"}


class Conversation:
    """Conversation with a model; each turn computes only the tokens that are new.

    Args:
        model: A `CausalLM` with a tokenizer and a `chat_template`.
        system: What the model is told before the conversation; None for what its template says.
        **settings: Settings of `CausalLM.generate` for all answers, such as `temperature`.

    Attributes:
        messages: The conversation so far, dicts of `role` and `content`.

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
        """Forget what was said."""
        self.messages = [] if self._system is None else [_message("system", self._system)]
        self._cache = self._new_cache()

    def warm_up(self) -> None:
        """Compile what answers need, which takes a while, so that the first one comes at once."""
        # A short prompt, a longer one, and one that goes on from it.
        cache = self._new_cache()
        for length in (2, CHUNKS[0] + 2, CHUNKS[0] + 4):
            prompt = [0] * min(length, self._limit // 2)
            list(self._stream(prompt, {"max_new_tokens": 2}, cache))

    @property
    def _limit(self) -> int:
        return self.model.max_sequence_length or 2**31

    def _new_cache(self) -> PromptCache | None:
        """The cache of the conversation, or None if the model computes each prompt whole."""
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
        """Say something and get the answer piece by piece.

        Where the conversation has grown too long for the model, its oldest turns are left out.

        Args:
            text: What the user says.
            **settings: Settings of `CausalLM.generate` for this answer.

        Yields:
            Pieces of the answer. It is kept as far as it was read.

        Raises:
            ValueError: `text` is not a string or too long by itself, or a setting is wrong; at
                once, not at the first piece.
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
        """The ids of the conversation, without its oldest turns if it is too long."""
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
            f"`text` must leave room for an answer; it has {len(ids)} tokens of the {limit} that "
            "the model takes."
        )

    def save(self, path: str | os.PathLike) -> None:
        """Write the conversation as JSON: a list of messages."""
        with atomic_file(pathlib.Path(path)) as temporary:
            text = json.dumps(self.messages, indent=2, ensure_ascii=False)
            temporary.write_text(text + "\n", encoding="utf-8")


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
