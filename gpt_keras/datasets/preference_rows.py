"""Preferences from the rows of a table: strings, or messages as in trl."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from gpt_keras.records import Row
from gpt_keras.texts import describe, is_unicode

Messages = list[dict[str, Any]]


class Preference(NamedTuple):
    """A prompt and two answers of one row, all three texts or all three messages.

    Attributes:
        prompt: A text, or the messages before the answers.
        chosen: The better answer: a text, or messages of the assistant.
        rejected: The other answer.
        tools: Functions that the assistant may call, as JSON schemas; or None.
        place: File and line of the row.
    """

    prompt: str | Messages
    chosen: str | Messages
    rejected: str | Messages
    tools: list[dict[str, Any]] | None
    place: str


def preference_of(row: Row) -> Preference:
    """Return the preference of a row, with its columns checked.

    Args:
        row: A row with `chosen`, `rejected`, and `prompt` unless these are whole conversations.

    Returns:
        The preference. Of whole conversations, the messages that both begin with are the prompt.

    Raises:
        ValueError: A column is missing, an answer is empty, both answers are equal, or a message
            has the wrong form or role. The message begins with the place of the row.

    Example:
        >>> from gpt_keras.datasets.preference_rows import preference_of
        >>> from gpt_keras.records import Row
        >>> say = lambda role, content: {"role": role, "content": content}
        >>> row = Row({"chosen": [say("user", "1 + 1?"), say("assistant", "2")],
        ...            "rejected": [say("user", "1 + 1?"), say("assistant", "3")]}, "line 1")
        >>> preference_of(row).prompt
        [{'role': 'user', 'content': '1 + 1?'}]
    """
    try:
        prompt, chosen, rejected = (_value(row, name) for name in ("prompt", "chosen", "rejected"))
        for name, value in (("chosen", chosen), ("rejected", rejected)):
            if value is None or _is_empty(value):
                raise ValueError(f"`{name}` must have an answer, but is empty or missing.")
        if chosen == rejected:
            raise ValueError("`chosen` and `rejected` must differ, but are equal.")
        if isinstance(chosen, str) != isinstance(rejected, str):
            raise ValueError("`chosen` and `rejected` must both be texts, or both be messages.")
        if isinstance(chosen, str):
            _check_text(prompt)
            return Preference(prompt, chosen, rejected, None, row.place)
        if isinstance(prompt, list):
            _check_roles("prompt", prompt, ("user", "tool"))
        else:
            prompt, chosen, rejected = _split(prompt, chosen, rejected)
        for name, answer in (("chosen", chosen), ("rejected", rejected)):
            _check_answer(name, answer)
        return Preference(prompt, chosen, rejected, _tools(row), row.place)
    except ValueError as error:
        raise ValueError(f"{row.place}: {error}") from error


def _value(row: Row, name: str) -> str | Messages | None:
    """Return a column as a text or as messages; None if it is missing."""
    if name not in row and name != "prompt":
        raise ValueError(f"there is no column {name!r}. The row has {', '.join(map(repr, row))}.")
    value = row.get(name)
    if isinstance(value, str) and not row.is_typed and value.lstrip().startswith("["):
        # A CSV file has no lists: messages are written as JSON.
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return value
    if value is None:
        return None
    if isinstance(value, str):
        if not is_unicode(value):
            raise ValueError(f"`{name}` has a lone surrogate: {value!r:.60}.")
        return value
    if isinstance(value, bytes | Mapping) or not isinstance(value, Iterable):
        raise ValueError(f"`{name}` must be a text or a list of messages, got {describe(value)}.")
    messages = list(value)
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ValueError(
                f"message {number} of `{name}` must be a dict with `role` and `content`, got "
                f"{describe(message)}."
            )
    # Parquet files give all messages of a column the same fields; absent ones are None.
    return [{k: v for k, v in message.items() if v is not None} for message in messages]


def _check_text(prompt) -> None:
    if prompt is None or (isinstance(prompt, str) and not prompt.strip()):
        raise ValueError(
            "`prompt` must have a text, but is empty or missing. Only with messages may the prompt "
            "be the beginning of `chosen` and `rejected`."
        )
    if not isinstance(prompt, str):
        raise ValueError("`prompt` must be a text if `chosen` and `rejected` are texts.")


def _split(prompt: str | None, chosen: Messages, rejected: Messages):
    """Return prompt and answers of whole conversations, or of answers to a text."""
    length = 0
    while length < min(len(chosen), len(rejected)) and chosen[length] == rejected[length]:
        length += 1
    common = chosen[:length]
    if prompt is not None and not common:
        if not prompt.strip():
            raise ValueError("`prompt` must not be empty.")
        return [{"role": "user", "content": prompt}], chosen, rejected
    if not common:
        raise ValueError(
            "`prompt` is missing, and `chosen` and `rejected` do not begin with the same messages."
        )
    if prompt is not None and not any(prompt == message.get("content") for message in common):
        raise ValueError(
            f"`prompt` must be in the messages that `chosen` and `rejected` begin with, got "
            f"{describe(prompt)}."
        )
    _check_roles("prompt", common, ("user", "tool"))
    return common, chosen[length:], rejected[length:]


def _check_roles(name: str, messages: Messages, last: tuple[str, ...]) -> None:
    if not messages:
        raise ValueError(f"`{name}` must have messages, but is empty.")
    if messages[-1]["role"] not in last:
        raise ValueError(
            f"the last message of `{name}` must be of the {' or '.join(last)}, got one of the "
            f"{messages[-1]['role']}."
        )


def _check_answer(name: str, answer: Messages) -> None:
    if not answer:
        raise ValueError(f"`{name}` must have an answer after the prompt, but ends before it.")
    for message in answer:
        if message["role"] != "assistant":
            raise ValueError(
                f"`{name}` must hold messages of the assistant after the prompt, got one of the "
                f"{message['role']}. Where `chosen` and `rejected` are whole conversations, they "
                "must differ in the last answer only, and there must be no messages in `prompt`."
            )
        if _is_empty(message.get("content") or "") and not message.get("tool_calls"):
            raise ValueError(f"`{name}` must have an answer, but a message is empty.")


def _is_empty(value) -> bool:
    return not (value.strip() if isinstance(value, str) else value)


def _tools(row: Row) -> list[dict[str, Any]] | None:
    tools = row.get("tools")
    if isinstance(tools, str):
        if not tools.strip():
            return None
        try:
            tools = json.loads(tools)
        except json.JSONDecodeError as error:
            raise ValueError(f"`tools` must be JSON schemas, got broken JSON ({error}).") from error
    return tools or None
