"""Places of the assistant's answers in the text of a conversation."""

import re
from collections.abc import Callable, Sequence

# `{% generation %}` in a template, as transformers searches for it.
GENERATION_TAG = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")

# Private-use characters, which no template writes. They mark the `{% generation %}` blocks.
MARKS = ("\U0010fffa", "\U0010fffb")

Spans = list[tuple[int, int]]


def marked_spans(marked: str, text: str) -> Spans:
    """Return where the `{% generation %}` blocks of a template stand.

    Args:
        marked: The text, with `MARKS` around each block.
        text: The text without marks.

    Returns:
        `(start, end)` of each outermost block in `text`.

    Raises:
        ValueError: The template changes the text of a block, so that the places are unknown.

    Example:
        >>> from gpt_keras.chat.answer_spans import MARKS, marked_spans
        >>> marked_spans("ask: {}answer{}".format(*MARKS), "ask: answer")
        [(5, 11)]
    """
    opening, closing = MARKS
    spans, pieces, start, depth, length = [], [], 0, 0, 0
    for piece in re.split(f"([{opening}{closing}])", marked):
        if piece == opening:
            depth += 1
            start = length if depth == 1 else start
        elif piece == closing:
            depth -= 1
            if depth == 0 and start < length:
                spans.append((start, length))
        else:
            pieces.append(piece)
            length += len(piece)
    if "".join(pieces) != text or depth != 0:
        raise ValueError(
            "The chat template changes the text of a {% generation %} block after the block, so "
            "that the place of the answer is unknown."
        )
    return spans


def prefix_spans(
    render: Callable[[int, bool], str], roles: Sequence[str], special: re.Pattern
) -> Spans:
    r"""Return where a template without `{% generation %}` blocks writes the answers.

    An answer begins where the prompt for it ends. It ends with its last special token if only
    white space follows, and otherwise with the text of the turn.

    Args:
        render: Function from a number of messages, and whether to write the generation prompt, to
            the text of these first messages.
        roles: Role of each message.
        special: Expression that finds special tokens.

    Returns:
        `(start, end)` of each answer in the text of all messages.

    Raises:
        ValueError: The text of the first turns is not the beginning of the whole text.

    Example:
        >>> import re
        >>> from gpt_keras.chat.answer_spans import prefix_spans
        >>> messages = ["Q: hi\n", "A: ho<end>\n"]
        >>> def render(count, add_generation_prompt):
        ...     return "".join(messages[:count]) + "A: " * add_generation_prompt
        >>> prefix_spans(render, ["user", "assistant"], re.compile("<end>"))
        [(9, 16)]
    """
    text = render(len(roles), False)
    spans = []
    for i, role in enumerate(roles):
        if role != "assistant":
            continue
        prompt, turn = render(i, True), render(i + 1, False)
        if not text.startswith(turn):
            raise ValueError(
                _UNKNOWN.format(i, "writes it in another way when more messages follow")
            )
        if not turn.startswith(prompt):
            raise ValueError(_UNKNOWN.format(i, "does not begin it with the generation prompt"))
        end = len(turn)
        for found in special.finditer(turn, len(prompt)):
            end = found.end()
        if turn[end:].strip():
            end = len(turn)
        if end > len(prompt):
            spans.append((len(prompt), end))
    return spans


_UNKNOWN = (
    "It is unknown which tokens of message {} the assistant writes: the chat template {}. Put "
    "{{% generation %}} and {{% endgeneration %}} around the assistant's text in the template, or "
    "train on all tokens with `assistant_only_loss=False`."
)
