"""Conversations from rows of a table: messages, ShareGPT and Alpaca."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from gpt_keras.records import Row
from gpt_keras.texts import describe

# ShareGPT's names of the roles, and other names in data sets of its form.
_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}

# For each role, the roles that may come before it; None is the beginning.
_BEFORE = {
    "system": (None,),
    "developer": (None,),
    "user": (None, "system", "developer", "assistant"),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}

_FORMS = (
    "`messages` (a list of role and content), `conversations` (ShareGPT: a list of from and "
    "value), or `instruction` and `output` (Alpaca)"
)


class ConversationRow(NamedTuple):
    """The conversation of a row.

    Attributes:
        messages: Dicts of `role` and `content`, and further entries such as `tool_calls`.
        tools: Functions that the assistant may call, as JSON schemas; or None.
        place: File and line of the row.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    place: str


def form_of(row: Row) -> str:
    """Return the column that shows the form of a row.

    Args:
        row: The first row of a file.

    Returns:
        `"messages"`, `"conversations"` or `"instruction"`.

    Raises:
        ValueError: The row has none of the three forms.

    Example:
        >>> from gpt_keras.datasets.conversation_rows import form_of
        >>> from gpt_keras.records import Row
        >>> form_of(Row({"instruction": "Rhyme.", "output": "Time."}, place="a.jsonl, line 1"))
        'instruction'
    """
    for form in ("messages", "conversations", "instruction"):
        if form in row and (form != "instruction" or "output" in row):
            return form
    raise ValueError(f"{row.place}: a row must have {_FORMS}; it has {_columns(row)}.")


def conversation_of(row: Row, form: str) -> ConversationRow:
    """Return the conversation of a row, with its roles and contents checked.

    Args:
        row: The row.
        form: The form of the file, a result of `form_of`.

    Returns:
        The conversation, in the form of messages.

    Raises:
        ValueError: The row has another form, there is no answer, a role is unknown or out of order,
            or a content is empty. The message begins with the place of the row.

    Example:
        >>> from gpt_keras.datasets.conversation_rows import conversation_of
        >>> from gpt_keras.records import Row
        >>> said = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi."}]
        >>> row = Row({"conversations": said}, place="a.jsonl, line 1")
        >>> conversation_of(row, "conversations").messages[1]
        {'role': 'assistant', 'content': 'Hi.'}
    """
    if form not in row or (form == "instruction" and "output" not in row):
        raise ValueError(
            f"{row.place}: the first row has the form `{form}`, and each row must have it; this "
            f"row has {_columns(row)}."
        )
    try:
        if form == "instruction":
            messages = _alpaca(row)
        else:
            messages = [_message(i, said) for i, said in enumerate(_list(form, row[form]))]
        system = row.get("system")
        if form != "messages" and system:
            messages.insert(0, {"role": "system", "content": _text("system", system)})
        tools = _tools(row.get("tools"))
        _check_order(messages)
    except ValueError as error:
        raise ValueError(f"{row.place}: {error}") from error
    return ConversationRow(messages, tools, row.place)


def exchanges(messages: list[dict[str, Any]]) -> tuple[list[dict], list[list[dict]]]:
    """Split messages into those before the first user message, and the exchanges.

    An exchange is a message of the user and all messages up to the next one of the user.

    Args:
        messages: Dicts with `role`.

    Returns:
        `(first, exchanges)`. Without a message of the user, all messages are one exchange.
    """
    starts = [i for i, message in enumerate(messages) if message["role"] == "user"]
    if not starts:
        return [], [messages]
    ends = [*starts[1:], len(messages)]
    return messages[: starts[0]], [messages[start:end] for start, end in zip(starts, ends)]


def _columns(row: Row) -> str:
    return ", ".join(map(repr, row)) or "no columns"


def _alpaca(row: Row) -> list[dict[str, Any]]:
    question = _text("instruction", row["instruction"])
    given = row.get("input")
    if given is not None and (not isinstance(given, str) or given.strip()):
        question = f"{question}\n{_text('input', given)}"
    messages = []
    for pair in _list("history", row.get("history") or []):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(f"`history` must hold pairs of texts, got {describe(pair)}.")
        messages += [_said("user", pair[0]), _said("assistant", pair[1])]
    return [*messages, _said("user", question), _said("assistant", row["output"])]


def _said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": _text(role, content)}


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"`{name}` must be a text, got {describe(value)}.")
    return value


def _list(name: str, value: Any) -> list:
    """Return a list; in a CSV file it is JSON, in pandas it may be an array."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"`{name}` must be a list or its JSON, got broken JSON ({error})."
            ) from error
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise ValueError(f"`{name}` must be a list, got {describe(value)}.")
    return list(value)


def _tools(value: Any) -> list[dict[str, Any]] | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return _list("tools", value) or None


def _message(number: int, said: Any) -> dict[str, Any]:
    """Return a message in the form of messages, with the fields that have a value."""
    keys = set(said) if isinstance(said, Mapping) else set()
    if "role" in keys:
        # Parquet files give all messages of a column the same fields; absent ones are None.
        message = {name: value for name, value in said.items() if value is not None}
        if message.pop("weight", 1) != 1:
            raise ValueError(
                f"message {number} has a `weight` of {said['weight']!r}, but all answers are "
                "trained on with weight 1. Remove the entry, or the conversation."
            )
        return message
    if not {"from", "value"} <= keys:
        raise ValueError(
            f"message {number} must be a dict with `role` and `content`, or with `from` and "
            f"`value`; got {describe(said)}."
        )
    role = _SHAREGPT_ROLES.get(said["from"]) if isinstance(said["from"], str) else None
    if role is None:
        raise ValueError(
            f"message {number} has an unknown role: `from` must be one of "
            f"{', '.join(_SHAREGPT_ROLES)}, got {said['from']!r}."
        )
    if said["from"] == "function_call":
        return {"role": role, "tool_calls": [_tool_call(number, said["value"])]}
    return {"role": role, "content": said["value"]}


def _tool_call(number: int, value: Any) -> dict[str, Any]:
    try:
        called = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        called = None
    if not isinstance(called, Mapping) or not {"name", "arguments"} <= set(called):
        raise ValueError(
            f"message {number} must hold the JSON of a function call, with `name` and `arguments`; "
            f"got {describe(value)}."
        )
    return {"type": "function", "function": dict(called)}


def _check_order(messages: list[dict[str, Any]]) -> None:
    """Check the order of the roles, and that no content is empty."""
    before = None
    for number, message in enumerate(messages):
        role = message.get("role")
        if not isinstance(role, str) or role not in _BEFORE:
            raise ValueError(
                f"message {number} has an unknown role: it must be one of {', '.join(_BEFORE)}, "
                f"got {role!r}."
            )
        if before not in _BEFORE[role]:
            allowed = [name or "nothing" for name in _BEFORE[role]]
            raise ValueError(
                f"message {number} is out of order: before a message of the {role} there must be "
                f"{' or '.join(allowed)}, got {before or 'nothing'}."
            )
        if role in ("user", "assistant") and _is_empty(message):
            raise ValueError(f"message {number}, of the {role}, must have a content, but is empty.")
        before = role
    if not any(message["role"] == "assistant" for message in messages):
        raise ValueError("there must be an answer of the assistant, but there is none.")
    if before != "assistant":
        raise ValueError(
            f"the last message must be an answer of the assistant, got one of the {before}."
        )


def _is_empty(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    if isinstance(content, str):
        return not content.strip() and not message.get("tool_calls")
    return not content and not message.get("tool_calls")
