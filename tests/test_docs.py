"""The documentation site lists what the package exports, and every chapter.

`scripts/docs.sh` builds the site itself, and checks its links.
"""

import importlib
import importlib.util
import inspect
import json
import pathlib
import types

import pytest

ROOT = pathlib.Path(__file__).parent.parent


def _pages():
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pages = _pages()
PUBLIC = pages.public_names()

# Names of packages that are not installed.
LACKING = set()
if importlib.util.find_spec("lm_eval") is None:  # the extra `harness`
    LACKING.add("gpt_keras.evaluation.HarnessModel")
every_module = pytest.mark.parametrize("module", PUBLIC)


def values_of(module):
    """Return the public objects of a module by name, except for LACKING."""
    found = importlib.import_module(module)
    names = (name for name in PUBLIC[module] if f"{module}.{name}" not in LACKING)
    return {name: getattr(found, name) for name in names}


def listed(entry=None):
    """Yield the pages in the site's table of contents, or in one of its entries."""
    entry = pages.navigation() if entry is None else entry
    if isinstance(entry, str):
        yield entry
    else:
        for value in entry.values() if isinstance(entry, dict) else entry:
            yield from listed(value)


@every_module
def test_the_reference_lists_what_a_module_exports(module):
    found = importlib.import_module(module)
    if hasattr(found, "__all__"):
        assert PUBLIC[module] == [name for name in found.__all__ if not name.startswith("__")]
    else:
        own = (value for value in vars(found).values() if callable(value))
        own = {v.__name__ for v in own if v.__module__ == module and not v.__name__.startswith("_")}
        assert {*PUBLIC[module]} == own


def test_every_public_module_has_a_page():
    modules = set()
    for module in PUBLIC:
        values = values_of(module).values()
        modules |= {value.__name__ for value in values if isinstance(value, types.ModuleType)}
    assert {*PUBLIC} == modules | {"gpt_keras"}
    assert {pages.reference_path(module) for module in PUBLIC} <= {*listed()}


@every_module
def test_every_public_name_has_a_docstring(module):
    values = values_of(module)
    # A constant has no docstring that Python keeps.
    values = {k: v for k, v in values.items() if callable(v) or isinstance(v, types.ModuleType)}
    assert [name for name, value in values.items() if not inspect.getdoc(value)] == []
    # One that is inherited says nothing about the class itself.
    classes = {name: value for name, value in values.items() if isinstance(value, type)}
    assert [name for name, value in classes.items() if not vars(value).get("__doc__")] == []


def test_a_name_is_documented_once_for_each_object():
    def value(name):
        module, _, name = name.rpartition(".")
        return getattr(importlib.import_module(module), name)

    homes = {name: home for name, home in pages.homes().items() if name not in LACKING}
    assert len({*homes.values()}) < len(homes)  # the models are exported twice
    assert [name for name, home in homes.items() if value(name) is not value(home)] == []


def test_every_chapter_is_in_the_table_of_contents():
    tutorials = ROOT / "tutorials"
    notebooks = [*tutorials.glob("*.ipynb"), *tutorials.glob("solutions/*.ipynb")]
    assert notebooks
    expected = {notebook.relative_to(ROOT).with_suffix(".md").as_posix() for notebook in notebooks}
    assert expected <= {*listed()}
    for notebook in notebooks:  # its first heading is its title there
        first = json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"]
        assert "".join(first).startswith("# ")


def test_links_to_notebooks_and_folders_become_links_to_pages():
    text = "[1](01_before_gpt.ipynb), [its start](01_before_gpt.ipynb#the-idea), [a](solutions)"
    assert pages.with_site_links(text, "tutorials") == (
        "[1](01_before_gpt.md), [its start](01_before_gpt.md#the-idea), "
        "[a](solutions/00_a_gpt_in_ten_lines.md)"
    )
    text = "[limits](#limits), [tests](tests), [a](https://example.org/a.ipynb), `x[0](inputs)`"
    assert pages.with_site_links(text, "") == text.replace("[tests](tests)", "tests")


def test_the_page_of_the_command_line_has_each_command():
    page = pages.command_line_page()
    for command in ("train", "generate", "evaluate", "export", "info", "tokenizer train"):
        assert f"## gpt-keras {command}\n\n``````text\nusage: gpt-keras " in page
