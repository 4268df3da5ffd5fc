"""How a conversation is written as one text, the way the model was trained on."""

import re
from collections.abc import Mapping, Sequence

from gpt_keras.tokenizers import Tokenizer

ROLES = ("system", "user", "assistant")

# Stand for the contents of messages while a template is rendered: characters for private use, which
# no template writes.
_OPEN, _CLOSE = "\U0010fffc", "\U0010fffd"

# What `transformers` gives a template where there are no tools to call and no documents to read;
# some templates only ask whether these are none.
_NOTHING_TO_USE = {"tools": None, "documents": None}


class ChatTemplate:
    """A template in the Jinja language, as GGUF files and Hugging Face folders hold it.

    Templates come with models, that is from strangers: they are run in Jinja's sandbox, which lets
    them reach nothing but the messages. They find there what `transformers` offers them: the loop
    controls, `{% generation %}`, `tojson`, `raise_exception` and `strftime_now`.

    Args:
        source: the template's text.
        variables: texts that the template may use, such as `bos_token` and `eos_token`.

    Raises:
        ValueError: the template has an error.
        ImportError: jinja2 is not installed.

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
        self._variables = _NOTHING_TO_USE | dict(variables or {})
        try:
            self._template = new_environment().from_string(source)
        except (jinja2.TemplateError, SyntaxError) as error:  # a `break` outside a loop is Python's
            raise ValueError(f"`source` is not a Jinja template: {error}.") from error

    def render(
        self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Write a conversation as one text.

        Args:
            messages: dicts of `role` (`"system"`, `"user"` or `"assistant"`) and `content`.
            add_generation_prompt: whether the text ends where the assistant's answer begins.

        Raises:
            ValueError: a message is not such a dict, or the template refuses the conversation.
        """
        for i, message in enumerate(messages):
            content = message.get("content") if isinstance(message, Mapping) else None
            if not isinstance(content, str) or message.get("role") not in ROLES:
                raise ValueError(
                    f"`messages` must hold dicts of a `role` ({', '.join(ROLES)}) and a `content` "
                    f"that is a string; number {i} is {message!r}."
                )
        try:
            return self._template.render(
                messages=[dict(message) for message in messages],
                add_generation_prompt=add_generation_prompt,
                **self._variables,
            )
        except Exception as error:  # whatever the template does wrong
            raise ValueError(f"The chat template refuses the conversation: {error}.") from error

    def encode(
        self,
        messages: Sequence[Mapping[str, str]],
        tokenizer: Tokenizer,
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """Write a conversation as token ids.

        Special tokens are those that the template itself writes. The text of one inside a message
        stays text: nobody can end his turn, or speak for another, by what he says.

        Args:
            messages: as in `render`.
            tokenizer: the model's tokenizer.
            add_generation_prompt: as in `render`.

        Returns:
            The ids.

        Raises:
            ValueError: as in `render`; or a message holds the text of a special token, and the
                template changes messages, so that the one cannot be told from the other.
        """
        text = self.render(messages, add_generation_prompt)
        special = sorted(tokenizer.special_tokens, key=len, reverse=True)
        if not special:
            return tokenizer.encode(text)
        expression = re.compile("|".join(map(re.escape, special)))
        if not any(expression.search(message["content"]) for message in messages):
            return tokenizer.encode(text, allowed_special="all")
        contents = [message["content"] for message in messages]
        marks = [f"{_OPEN}{i}{_CLOSE}" for i in range(len(contents))]
        marked = self.render(
            [{**message, "content": mark} for message, mark in zip(messages, marks, strict=True)],
            add_generation_prompt,
        )
        if _filled(marked, contents) != text:
            raise ValueError(
                "`messages` must not hold the text of special tokens, since the model's chat "
                f"template changes what messages say; the special tokens are {special}."
            )
        parts: list[str | int] = [_filled(part, contents) for part in expression.split(marked)]
        for i, token in enumerate(expression.findall(marked)):
            parts.insert(2 * i + 1, tokenizer.special_tokens[token])
        return tokenizer.encode_parts(parts)


def _filled(marked: str, contents: Sequence[str]) -> str:
    return re.sub(f"{_OPEN}(\\d+){_CLOSE}", lambda match: contents[int(match[1])], marked)
