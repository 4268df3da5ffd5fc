"""Chat templates: a conversation as one text, in the model's training format."""

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gpt_keras.chat.answer_spans import GENERATION_TAG, MARKS, marked_spans, prefix_spans
from gpt_keras.chat.masked_encoding import encode_segments
from gpt_keras.tokenizers import Tokenizer

ROLES = ("system", "developer", "user", "assistant", "tool")

# Private-use characters, which no template writes. They enclose the number of a content while a
# template is rendered without the contents.
_OPEN, _CLOSE = "\U0010fffc", "\U0010fffd"

# A regular expression that matches nothing.
_NEVER = r"(?!)"

# `transformers` passes these to a template if there are no tools and no documents. Some templates
# test `tools is none`, and an undefined variable would fail this test.
_NOTHING_TO_USE = {"tools": None, "documents": None}


class MaskedIds(NamedTuple):
    """Token ids of a conversation, and which of them the assistant writes.

    Attributes:
        token_ids: The ids.
        assistant_mask: For each id, True if the assistant writes it.
    """

    token_ids: list[int]
    assistant_mask: list[bool]


class ChatTemplate:
    """Jinja chat template, as in GGUF files and Hugging Face folders.

    A template is code that comes with a downloaded model, so it runs in Jinja's sandbox, without
    access to files or the system. As in `transformers`, it may use loop controls, `tojson`,
    `raise_exception`, `strftime_now` and `{% generation %}`.

    Args:
        source: Text of the template.
        variables: Further variables of the template, such as `bos_token` and `eos_token`.

    Raises:
        ValueError: `source` is not a valid Jinja template.
        ImportError: Jinja2 is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> template = gk.chat.ChatTemplate(
        ...     "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
        ...     "{% if add_generation_prompt %}<assistant>{% endif %}"
        ... )
        >>> template.render([{"role": "user", "content": "Hello"}])
        '<user>Hello<assistant>'
    """

    def __init__(self, source: str, variables: Mapping[str, str] | None = None):
        try:
            import jinja2

            from gpt_keras.chat.environment import new_environment
        except ImportError as error:
            raise ImportError("Chat templates need jinja2: pip install 'gpt_keras[cli]'") from error
        if not isinstance(source, str):
            raise ValueError(f"`source` must be a Jinja template, got {source!r}.")
        self.source = source
        self._variables = dict(variables or {})
        environment = new_environment()
        try:
            self._template = environment.from_string(source)
        except (jinja2.TemplateError, SyntaxError) as error:  # Python's, for `break` outside a loop
            raise ValueError(f"`source` is not a Jinja template: {error}.") from error
        # Templates of vision models loop over the parts of a message's content.
        self._takes_parts = any(
            "content" in _names(loop.iter)
            for loop in environment.parse(source).find_all(jinja2.nodes.For)
        )

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """Return a conversation as one text.

        Args:
            messages: Dicts of a `role` (`"system"`, `"developer"`, `"user"`, `"assistant"` or
                `"tool"`) and a `content`. The content is a string, or a list of text parts such as
                `{"type": "text", "text": "Hello"}`. If the template does not loop over parts, their
                texts are joined by line ends. Other entries, such as `tool_calls`, are passed to
                the template unchanged. A message with `tool_calls` needs no content.
            add_generation_prompt: Whether to end the text with the beginning of an assistant
                message, so that the model writes the answer next.
            tools: Functions that the model may call, as JSON schemas; None for no tools.

        Returns:
            The prompt.

        Raises:
            ValueError: A message or a tool has another form, or the template refuses the
                conversation.
        """
        return self._render(self._read(messages), add_generation_prompt, tools, {})

    def _read(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Check the messages, and return them with contents in the template's form."""
        found = []
        for i, message in enumerate(messages):
            is_message = isinstance(message, Mapping) and message.get("role") in ROLES
            content = message.get("content") if is_message else None
            texts = _texts(content)
            if texts is None and not (is_message and content is None and message.get("tool_calls")):
                raise ValueError(
                    f"`messages` must hold dicts of a `role` ({', '.join(ROLES)}) and a `content` "
                    "that is a string or a list of text parts; "
                    f"number {i} is {message!r}."
                )
            message = dict(message)
            if texts is not None and not isinstance(content, str):
                parts = [{"type": "text", "text": text} for text in texts]
                message["content"] = parts if self._takes_parts else "\n".join(texts)
            found.append(message)
        return found

    @functools.cached_property
    def _marking_template(self):
        """The template with marks around its `{% generation %}` blocks."""
        from gpt_keras.chat.environment import new_environment

        return new_environment(MARKS).from_string(self.source)

    def _render(self, messages, add_generation_prompt, tools, variables, template=None):
        if tools is not None and (
            isinstance(tools, str | Mapping) or not all(isinstance(tool, Mapping) for tool in tools)
        ):
            raise ValueError(
                f"`tools` must be a list of JSON schemas (dicts) or None, got {tools!r}."
            )
        given = {"messages": messages, "add_generation_prompt": add_generation_prompt}
        if tools is not None:
            given["tools"] = [dict(tool) for tool in tools]
        template = self._template if template is None else template
        try:
            return template.render(**(_NOTHING_TO_USE | variables | self._variables | given))
        except Exception as error:  # a template can raise any exception
            raise ValueError(f"The chat template refuses the conversation: {error}.") from error

    def encode(
        self,
        messages: Sequence[Mapping[str, Any]],
        tokenizer: Tokenizer,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[int]:
        """Return a conversation as token ids.

        Only the special tokens that the template writes become special ids. The text of a special
        token inside a message is encoded as plain text, so a message cannot end its turn or imitate
        another role. The start of text is not added, because the template writes it.

        Args:
            messages: As in `render`.
            tokenizer: The model's tokenizer. The template's `bos_token` and `eos_token` are its
                start and end of text, unless `variables` of the constructor define them.
            add_generation_prompt: As in `render`.
            tools: As in `render`.

        Returns:
            The ids.

        Raises:
            ValueError: As in `render`; or a message or a tool contains the text of a special token
                outside of `content`. Or a content contains the text of a special token and the
                template changes contents, so that text and special tokens look alike.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc:", end_of_text=True)
            >>> source = "{% for m in messages %}{{ m.content }}:{% endfor %}"
            >>> template = gk.chat.ChatTemplate(source)
            >>> template.encode([{"role": "user", "content": "cab"}], tokenizer)
            [2, 0, 1, 3]
        """
        writing = self._writing(messages, tokenizer, tools)
        text = self._render(writing.messages, add_generation_prompt, tools, writing.variables)
        self._check_filled(writing, text, add_generation_prompt, tools)
        return tokenizer.encode_parts(writing.parts(text))

    def encode_with_mask(
        self,
        messages: Sequence[Mapping[str, Any]],
        tokenizer: Tokenizer,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> MaskedIds:
        r"""Return a conversation as token ids, with a mask of the assistant's tokens.

        If the template has `{% generation %}` blocks, the assistant writes the text inside them, as
        in transformers. Otherwise, an answer begins where the prompt of `encode` ends, after the
        header such as `<|im_start|>assistant\n`. It ends with its last special token, such as
        `<|im_end|>`. White space after this token is not part of the answer. Without a special
        token, an answer ends with the text of its turn.

        An answer is encoded apart from the text before it. The ids before an answer then equal the
        ids of a prompt. A tokenizer could otherwise join the end of the header and the beginning of
        the answer to one token, which generation never sees.

        Args:
            messages: As in `render`.
            tokenizer: As in `encode`.
            tools: As in `render`.

        Returns:
            `(token_ids, assistant_mask)`.

        Raises:
            ValueError: As in `encode`; or the template has no `{% generation %}` blocks and writes
                an earlier turn in another way when later turns follow.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc:", end_of_text=True)
            >>> template = gk.chat.ChatTemplate(
            ...     "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}:"
            ...     "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
            ... )
            >>> question = {"role": "user", "content": "ab"}
            >>> answer = {"role": "assistant", "content": "c"}
            >>> template.encode_with_mask([question, answer], tokenizer)
            MaskedIds(token_ids=[0, 1, 3, 2, 4], assistant_mask=[False, False, False, True, True])
        """
        writing = self._writing(messages, tokenizer, tools)

        def render(count: int, add_generation_prompt: bool, template=None) -> str:
            return self._render(
                writing.messages[:count], add_generation_prompt, tools, writing.variables, template
            )

        text = render(len(writing.messages), False)
        self._check_filled(writing, text, False, tools)
        if GENERATION_TAG.search(self.source):
            marked = render(len(writing.messages), False, self._marking_template)
            spans = marked_spans(marked, text)
        else:
            roles = [message["role"] for message in writing.messages]
            spans = prefix_spans(render, roles, writing.special)
        segments, position = [], 0
        for start, end in [*spans, (len(text), len(text))]:
            for is_answer, piece in ((False, text[position:start]), (True, text[start:end])):
                segments += [(part, is_answer) for part in writing.parts(piece) if part != ""]
            position = end
        return MaskedIds(*encode_segments(segments, tokenizer))

    def _writing(self, messages, tokenizer, tools) -> "_Writing":
        """Check the messages, and protect special tokens' texts in their contents."""
        variables = {"bos_token": tokenizer.start_of_text, "eos_token": tokenizer.end_of_text}
        variables = {name: token for name, token in variables.items() if token is not None}
        messages = self._read(messages)
        special = tokenizer.special_tokens
        longest_first = sorted(special, key=len, reverse=True)
        expression = re.compile("|".join(map(re.escape, longest_first)) or _NEVER)
        contents = [said for message in messages for said in _texts(message.get("content")) or []]
        others = [{**message, "content": None} for message in messages]
        if any(map(expression.search, _strings([others, tools]))):
            raise ValueError(
                "`messages` and `tools` must not hold the text of special tokens outside of "
                f"`content`; the special tokens are {longest_first}."
            )
        if not any(map(expression.search, contents)):
            return _Writing(messages, variables, special, expression)
        marks = iter(f"{_OPEN}{i}{_CLOSE}" for i in range(len(contents)))
        marked = [_with_texts(message, marks) for message in messages]
        return _Writing(marked, variables, special, expression, contents, messages)

    def _check_filled(self, writing, text, add_generation_prompt, tools) -> None:
        """Check that the template writes the contents as they are, if they were replaced."""
        if writing.originals is None:
            return
        plain = self._render(writing.originals, add_generation_prompt, tools, writing.variables)
        if _filled(text, writing.contents) != plain:
            raise ValueError(
                "`messages` must not hold the text of special tokens, since the model's chat "
                "template changes their contents; the special tokens are "
                f"{sorted(writing.token_ids, key=len, reverse=True)}."
            )


@dataclasses.dataclass(frozen=True)
class _Writing:
    """Messages for a template, and the conversion of its text to tokenizer parts.

    Attributes:
        messages: The messages. If a content has the text of a special token, the contents are
            replaced by their numbers between private-use characters.
        variables: Further variables of the template.
        token_ids: Special tokens and their ids.
        special: Expression that finds special tokens.
        contents: The replaced contents.
        originals: The messages with their own contents; None if no content was replaced.
    """

    messages: list[dict[str, Any]]
    variables: dict[str, str]
    token_ids: dict[str, int]
    special: re.Pattern
    contents: Sequence[str] = ()
    originals: list[dict[str, Any]] | None = None

    def parts(self, text: str) -> list[str | int]:
        """Return a rendered text as strings and ids of special tokens between them."""
        parts: list[str | int] = [
            _filled(part, self.contents) if self.originals else part
            for part in self.special.split(text)
        ]
        for i, token in enumerate(self.special.findall(text)):
            parts.insert(2 * i + 1, self.token_ids[token])
        return parts


def _names(node: object) -> tuple[object, ...]:
    """Return the names in a Jinja expression.

    They are `content` for `content`, `message.content` and `message["content"]` alike.
    """
    constant = getattr(getattr(node, "arg", None), "value", None)
    return getattr(node, "name", None), getattr(node, "attr", None), constant


def _texts(content: object) -> list[str] | None:
    """Return the texts of a content; None if it is neither text nor text parts."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list | tuple):
        return None
    texts = [
        part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
        for part in content
    ]
    return texts if all(isinstance(text, str) for text in texts) else None


def _with_texts(message: dict[str, Any], texts: Iterator[str]) -> dict[str, Any]:
    """Return a message with its texts replaced by the next items of `texts`."""
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": next(texts)}
    if content is None:
        return message
    return {**message, "content": [{**part, "text": next(texts)} for part in content]}


def _strings(value: object) -> Iterator[str]:
    """Yield all strings in nested lists and dicts, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _filled(marked: str, contents: Sequence[str]) -> str:
    return re.sub(f"{_OPEN}(\\d+){_CLOSE}", lambda match: contents[int(match[1])], marked)
