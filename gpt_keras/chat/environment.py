"""Jinja environment of chat templates, the same as in `transformers`.

Importing this module needs jinja2.
"""

import datetime
import json
from typing import NoReturn

import jinja2
import jinja2.ext
import jinja2.sandbox


def new_environment(generation_marks: tuple[str, str] = ("", "")) -> jinja2.Environment:
    """Return a Jinja sandbox with the tags, filters and functions of chat templates.

    Args:
        generation_marks: Texts that are written at the beginning and at the end of each
            `{% generation %}` block.

    Returns:
        The environment.

    Example:
        >>> from gpt_keras.chat.environment import new_environment
        >>> new_environment().from_string("{{ words | tojson }}").render(words=["é", "<b>"])
        '["é", "<b>"]'
    """
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", GenerationBlock],
    )
    environment.generation_marks = generation_marks
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment


class GenerationBlock(jinja2.ext.Extension):
    """Jinja extension for `{% generation %}` and `{% endgeneration %}`.

    The tags enclose the assistant's text, which is the part that a model is trained on. The block
    renders to the text inside it.
    """

    tags = frozenset({"generation"})

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        """Return the block as a Jinja scope; Jinja calls this method at the first tag."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        opening, closing = (
            jinja2.nodes.Output([jinja2.nodes.TemplateData(mark)]).set_lineno(line)
            for mark in self.environment.generation_marks
        )
        return jinja2.nodes.Scope([opening, *body, closing]).set_lineno(line)


def to_json(
    value,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return a value as JSON, without the HTML escapes of Jinja's own filter."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def raise_exception(message: str) -> NoReturn:
    """Refuse a conversation; templates call this function.

    Args:
        message: The reason.

    Raises:
        jinja2.TemplateError: Always.
    """
    raise jinja2.TemplateError(message)


def strftime_now(form: str) -> str:
    """Return the current date and time in a format of `strftime`."""
    return datetime.datetime.now().strftime(form)
