"""The pages of the documentation site, made from the repository: a hook of MkDocs.

MkDocs calls `on_config` and `on_files` before it builds, and `on_page_content` for each page. A
page has the path of its source in the repository, and relative links work as they do there. Only
the folder `reference` is new: one page for each public module, and the help of the command line.

The public names are read from the export lists, without importing the package.
"""

import ast
import contextlib
import functools
import importlib.resources
import io
import os
import posixpath
import re
import sys
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "gpt_keras"
COMMAND_LINE = "reference/command_line.md"

# Pages on the project itself, where their file exists.
PAGES = {
    "Measurements": "docs/measurements.md",
    "Scripts": "scripts/README.md",
    "Contributing": "CONTRIBUTING.md",
    "Changelog": "CHANGELOG.md",
}


def module_path(module: str) -> Path | None:
    """Return the source of a module or package, or None if there is no such module."""
    path = ROOT.joinpath(*module.split("."))
    found = [path / "__init__.py", path.with_suffix(".py")]
    return next((source for source in found if source.exists()), None)


def exported(source: Path) -> list[str]:
    """Return `__all__` of a source file, or the documented names that it defines."""
    names = []
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [name for name in ast.literal_eval(node.value) if not name.startswith("__")]
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            names += [node.name] if ast.get_docstring(node) else []
    return names


def public_names(module: str = PACKAGE) -> dict[str, list[str]]:
    """Return the public names of a module and of the public modules in it."""
    found = {module: exported(module_path(module))}
    for name in found[module]:
        if module_path(f"{module}.{name}"):
            found |= public_names(f"{module}.{name}")
    return found


def homes() -> dict[str, str]:
    """Return the name under which each public object is documented, by its full name.

    A name that the package itself exports is documented there, and not again in its subpackage.
    """
    modules = public_names()
    first = {name for name in modules[PACKAGE] if f"{PACKAGE}.{name}" not in modules}
    return {
        f"{module}.{name}": f"{PACKAGE}.{name}" if name in first else f"{module}.{name}"
        for module, names in modules.items()
        for name in names
    }


def short(name: str) -> str:
    """Return a full name as users write it: `gk.layers.GRUGate`."""
    return re.sub(rf"^{PACKAGE}\b", "gk", name)


def reference_path(module: str) -> str:
    """Return the path of the page of a public module."""
    return f"reference/{short(module)}.md"


def chapters() -> list[Path]:
    """Return the notebooks of the course, each chapter before its solutions."""
    found = []
    for chapter in sorted((ROOT / "tutorials").glob("*.ipynb")):
        solutions = chapter.parent / "solutions" / chapter.name
        found += [chapter, solutions] if solutions.exists() else [chapter]
    return found


def navigation() -> list[dict]:
    """Return the table of contents of the site."""
    tutorials = [path.relative_to(ROOT).with_suffix(".md").as_posix() for path in chapters()]
    return [
        {"Home": "README.md"},
        {"Chapters": [{"The course": "tutorials/README.md"}, *tutorials]},
        {"Reference": [*map(reference_path, sorted(public_names())), COMMAND_LINE]},
        {"Project": [{title: path} for title, path in PAGES.items() if (ROOT / path).exists()]},
    ]


# ---- texts of pages


def first_line(docstring) -> str:
    """Return the first line of griffe's docstring, which may be None."""
    return docstring.value.strip().splitlines()[0] if docstring else ""


@functools.cache
def _sources():
    import griffe

    return griffe.load(PACKAGE, search_paths=[str(ROOT)], try_relative_path=False)


def source_of(name: str):
    """Return what griffe reads of an object, by its full name."""
    return _sources()[name.removeprefix(f"{PACKAGE}.")]


def inherited(full: str) -> list[str]:
    """Return the inherited members of a class, except from other public classes."""
    found = source_of(full)
    if not found.is_class:
        return []
    public = {source_of(name).canonical_path for name in homes()}
    bases = [base for base in found.mro() if base.canonical_path in public]
    elsewhere = {name for base in bases for name in base.all_members}
    return [n for n in found.inherited_members if n not in elsewhere and not n.startswith("_")]


def reference_page(module: str) -> str:
    """Return the page of a public module: its docstring, then its public names."""
    modules, home = public_names(), homes()
    table, entries = ["| Name | Summary |", "|---|---|"], []
    for name in modules[module]:
        full = f"{module}.{name}"
        docstring = source_of(full).docstring
        table.append(f"| [`{short(home[full])}`][{home[full]}] | {first_line(docstring)} |")
        if home[full] == full and full not in modules:
            entries += [
                f"::: {full}",
                "    options:",
                f"      heading: {short(full)}",
                f"      toc_label: {name}",
                f"      inherited_members: {inherited(full)}",
                "",
            ]
    text = ast.get_docstring(ast.parse(module_path(module).read_text(encoding="utf-8")))
    return "\n".join([f"# {short(module)} {{ #{module} }}", "", text, "", *table, "", *entries])


def command_line_page() -> str:
    """Return the page of the command line: what `--help` prints, for each command."""
    with mock.patch.object(sys, "path", [str(ROOT), *sys.path]):
        import gpt_keras_command

        cli = gpt_keras_command._load()
    lines = ["# Command line", "", "`pip install '.[cli]'` brings the command `gpt-keras`.", ""]

    def add(commands, words):
        output = io.StringIO()
        width, printed = (
            mock.patch.dict(os.environ, COLUMNS="88"),
            contextlib.redirect_stdout(output),
        )
        with width, printed, contextlib.suppress(SystemExit):
            cli.main([*words, "--help"])
        title = " ".join(["gpt-keras", *words])
        lines.extend([f"## {title}", "", "``````text", output.getvalue().rstrip(), "``````", ""])
        for name, command in commands.items():
            add(command if isinstance(command, dict) else {}, [*words, name])

    add(cli._COMMANDS, [])
    return "\n".join(lines)


# The template of a notebook as Markdown; nbconvert has the parts that are missing here.
NOTEBOOK = """
{%- extends "markdown/index.md.j2" -%}
{% block input %}
``````python
{{ cell.source }}
``````
{% endblock %}
{% block markdowncell %}
{{ cell.source | continued_lines }}
{% endblock %}
{% block stream %}
`````` { .text .output }
{{ output.text | strip_ansi }}
``````
{% endblock %}
{% block data_text %}
`````` { .text .output }
{{ output.data["text/plain"] | strip_ansi }}
``````
{% endblock %}
{% block data_png %}
![Figure]({{ output.metadata.filenames["image/png"] }})
{% endblock %}
"""


def notebook_page(notebook: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook with its outputs as Markdown, and its pictures by name."""
    from nbconvert import MarkdownExporter

    # Python-Markdown takes a line of a list item that begins with a number for another item.
    continued_lines = functools.partial(re.sub, r"(?m)^( {2,3}\d+)\. ", r"\1\\. ")
    exporter = MarkdownExporter(raw_template=NOTEBOOK, filters={"continued_lines": continued_lines})
    resources = {"unique_key": notebook.stem, "output_files_dir": f"{notebook.stem}_files"}
    text, resources = exporter.from_filename(str(notebook), resources=resources)
    heading, _, rest = text.strip().partition("\n")
    download = f'<a class="download" href="{notebook.name}" download>Download this notebook</a>'
    text = f"{heading}\n\n{download}\n{rest}\n"
    if (notebook.parent / "solutions" / notebook.name).exists():
        text += f"\n[Solutions to the exercises](solutions/{notebook.stem}.md)\n"
    return text, resources["outputs"]


# ---- links

_MARKDOWN_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^()\s:#]+)(#[^()\s]*)?\)")
_TARGET = re.compile(r"""(?:\]\(|\b(?:src|href)=")([^()\s:#"]+)[)#"]""")


def with_site_links(text: str, folder: str) -> str:
    """Return a page whose links to notebooks and folders go to their pages."""

    def rewrite(link):
        label, target, anchor = link[1], link[2], link[3] or ""
        path = ROOT / folder / target
        if path.is_dir():
            pages = [*path.glob("README.md"), *sorted(path.glob("*.ipynb"))]
            if not pages:
                return label
            target = f"{target.rstrip('/')}/{pages[0].name}"
        target = re.sub(r"\.ipynb$", ".md", target)
        return f"[{label}]({target}{anchor})"

    return _MARKDOWN_LINK.sub(rewrite, text)


# ---- what MkDocs calls


def on_config(config):
    """Set the table of contents."""
    config.nav = navigation()
    return config


def on_files(files, config):
    """Add all pages, and each file of the repository that one of them links to."""
    from mkdocs.structure.files import File

    def add(path, **content):
        if files.get_file_from_path(path) is None:
            files.append(File.generated(config, path, **content))

    def add_page(path, text):
        folder = posixpath.dirname(path)
        text = with_site_links(text, folder)
        add(path, content=text)
        for target in _TARGET.findall(text):
            target = posixpath.normpath(posixpath.join(folder, target))
            source = ROOT / target
            if files.get_file_from_path(target) or not source.is_file():
                continue
            if source.suffix == ".md":
                add_page(target, source.read_text(encoding="utf-8"))
            else:
                add(target, abs_src_path=str(source))

    for notebook in chapters():
        text, pictures = notebook_page(notebook)
        path = notebook.relative_to(ROOT)
        for name, picture in pictures.items():
            add((path.parent / name).as_posix(), content=picture)
        add_page(path.with_suffix(".md").as_posix(), text)
    for module in public_names():
        add_page(reference_path(module), reference_page(module))
    add_page(COMMAND_LINE, command_line_page())
    for path in ["README.md", "tutorials/README.md", *PAGES.values()]:
        if (ROOT / path).exists():
            add_page(path, (ROOT / path).read_text(encoding="utf-8"))
    mathjax = importlib.resources.files("mathjax") / "static/mathjax/es5/tex-svg.js"
    add("mathjax/tex-svg.js", abs_src_path=str(mathjax))
    return files


# Code in a sentence, neither in a block nor in a link.
_CODE = re.compile(
    r"(?<!<span></span>)(?<!<pre>)<code>(gk(?:\.\w+)+|[A-Z]\w+)(?:\([^<]*\))?</code>"
    r"(?!</a>|</autoref>)"
)


def on_page_content(content, **_):
    """Link each public name in backticks to its entry in the reference."""
    home = homes()
    classes = {name.rpartition(".")[2]: full for name, full in home.items()}

    def link(code):
        name = re.sub(r"^gk\b", PACKAGE, code[1])
        target = home.get(name, name) if name != code[1] else classes.get(name)
        return f'<autoref identifier="{target}" optional>{code[0]}</autoref>' if target else code[0]

    return _CODE.sub(link, content)
