"""An extension of griffe, which reads the docstrings for the site."""

import re

import griffe


class ExampleSections(griffe.Extension):
    """Shows a section `Example:` as Google's `Examples:`: as code, with its output."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring:
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
