"""Jinja templates of task descriptions: a row of a table becomes texts and values."""

import re
from collections.abc import Mapping
from typing import Any

from gpt_keras.records import Row
from gpt_keras.texts import as_texts


class Templates:
    """Compiled templates and expressions of a task, and the columns that they use.

    Templates have the form of the task files of lm-evaluation-harness, and run in a sandbox.

    Attributes:
        columns: Names of the columns that the templates use, sorted.

    Args:
        texts: Templates by name; each renders a text.
        expressions: Jinja expressions by name, such as `answers.text`; each has a Python value.

    Raises:
        ValueError: A template is broken. The message begins with its name.
        ImportError: Jinja2 is not installed.

    Example:
        >>> from gpt_keras.datasets.templates import Templates
        >>> from gpt_keras.records import Row
        >>> templates = Templates({"prompt": "{{ a }} + {{ b }} ="}, {"sum": "a + b"})
        >>> row = Row({"a": 1, "b": 2}, place="row 0")
        >>> templates.columns, templates.render("prompt", row), templates.value("sum", row)
        (('a', 'b'), '1 + 2 =', 3)
    """

    def __init__(self, texts: Mapping[str, str], expressions: Mapping[str, str] | None = None):
        try:
            import jinja2
            import jinja2.meta
            import jinja2.sandbox
        except ImportError as error:
            raise ImportError(
                "Task descriptions need jinja2: pip install 'gpt_keras[evaluation]'"
            ) from error
        # Like the environment of lm-evaluation-harness, but in a sandbox.
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            undefined=jinja2.StrictUndefined, keep_trailing_newline=True, finalize=_present
        )
        environment.globals.clear()  # a column may be named `range` or `dict`
        environment.filters["regex_replace"] = _regex_replace
        self._undefined = jinja2.Undefined
        self._columns_of: dict[str, set[str]] = {}
        self._compiled: dict[str, Any] = {}
        for name, source in [*texts.items(), *(expressions or {}).items()]:
            is_text = name in texts
            try:
                tree = environment.parse(source if is_text else f"{{{{ {source} }}}}")
                self._columns_of[name] = jinja2.meta.find_undeclared_variables(tree)
                self._compiled[name] = (
                    environment.from_string(source)
                    if is_text
                    else environment.compile_expression(source, undefined_to_none=False)
                )
            except (jinja2.TemplateError, SyntaxError) as error:
                raise ValueError(f"`{name}` is not a Jinja template: {error}.") from error
        self.columns = tuple(sorted(set().union(*self._columns_of.values())))

    def columns_of(self, name: str) -> set[str]:
        """Return the names of the columns that a template uses."""
        return self._columns_of[name]

    def render(self, name: str, row: Row) -> str:
        """Return the text of a template for a row.

        Raises:
            ValueError: The template fails or uses a missing value. The message gives the place.
        """
        try:
            return self._compiled[name].render(row)
        except Exception as error:  # a template can raise any exception
            raise ValueError(f"{row.place}: the template `{name}` fails: {error}.") from error

    def value(self, name: str, row: Row) -> Any:
        """Return the value of an expression for a row.

        Raises:
            ValueError: The expression fails. The message gives the place.
        """
        try:
            value = self._compiled[name](row)
            if isinstance(value, self._undefined):
                str(value)  # raises: a missing attribute fails only where it is used
            return _present(value)
        except Exception as error:  # an expression can raise any exception
            raise ValueError(f"{row.place}: `{name}` fails: {error}") from error

    def texts(self, name: str, row: Row) -> list[str]:
        """Return the texts of an expression, which gives one text or several.

        Raises:
            ValueError: As in `value`, or the value holds something else than texts.
        """
        value = self.value(name, row)
        try:
            texts = as_texts(name, value)
        except Exception as error:  # the items of a value can raise any exception
            raise ValueError(f"{row.place}: `{name}` fails: {error}") from error
        return [texts] if isinstance(texts, str) else texts


def _present(value: Any) -> Any:
    """Return a value of a template, unless it is missing."""
    if value is None:
        raise ValueError("a value is missing")
    return value


def _regex_replace(text: str, pattern: str, repl: str, count: int = 0) -> str:
    return re.sub(pattern, repl, text, count=count)
