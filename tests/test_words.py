"""One form of docstring, and none of the phrases that make a reader read twice.

ruff checks the rest of the form: imperative first lines, documented arguments, section names.
"""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("gpt_keras/**/*.py"), *ROOT.glob("scripts/*.py")])
SECTIONS = ["Attributes", "Args", "Returns", "Yields", "Raises", "Example"]
ENTRY = re.compile(r" {4}[\w*`][\w*, `.]*: (.*)")
LONGEST_SENTENCE = 40  # words

# A phrase, and what to write in its place.
PHRASES = {
    r"\bof others\b": "name whose",
    r"\bthose (that|which|who|of|it|with|without|in)\b": "name the thing again",
    r"\bsuch (a|an|is|as are|are|was|were)\b": "name the thing again",
    r"\bthe (like|former|latter)\b": "name the thing again",
    r"\bso (and so )?many\b": "name the number",
    r"\b(is|are|was) (told|said|asked|left alone)\b": "code returns, raises, writes, skips",
    r"\b(has|have|had) (not|none)\b(?=[.,;:)]|$)": "lacks",
    r"\bare dear\b|\bis dear\b": "costs much",
    r"\bwhat is (left|not|there|more|missing|given)\b": "name the thing",
    r"\bas (it|they) says?\b": "name the rule",
    r"\bone's own\b": "your own, a user's own",
}


def docstrings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "name", path.stem), text


def comments(path):
    """Return the comments of a file; lines that follow each other are one comment."""
    lines, last = [], -1
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("# ")
            if token.start[0] == last + 1:
                lines[-1] += " " + text
            else:
                lines.append(text)
            last = token.start[0]
    return lines


def prose(text):
    """Return the paragraphs of a docstring or a page without examples and code."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"^(\s*>>>.*\n)(.+\n?)*", "", text, flags=re.MULTILINE)
    text = re.sub(r"^.*::\n\n( {4,}.*\n|\n)*", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`]*`", "`code`", text)


def phrases(text):
    text = " ".join(prose(text).split())
    return [
        f"{match[0]!r} ({better}): ...{text[max(0, match.start() - 40) : match.end() + 30]}..."
        for pattern, better in PHRASES.items()
        for match in re.finditer(pattern, text)
    ]


def long_sentences(text):
    # A list item, an entry of a section, a cell of a table or an empty line ends a sentence too.
    parts = re.split(r"\n\s*\n|\n\s*[-*|] |\n\s*[\w*`, ]+: |(?<=[.:;?!])\s|\|", prose(text))
    return [part for part in parts if len(part.split()) > LONGEST_SENTENCE]


def faults_of_form(name, text):
    first = text.splitlines()[0]
    if len(first) > 80:
        yield f"{name}: its first line has {len(first)} characters"
    if re.match(r"(What|Whether|How|Where|Which|When|Those|Of|As|For|With|Let)\b", first):
        yield f"{name}: begins with {first.split()[0]!r}"
    found, section = [], None
    for line in text.splitlines():
        if line.endswith(":") and line[:-1] in SECTIONS:
            section = line[:-1]
            found.append(section)
        elif line and not line.startswith(" "):
            section = None
        elif section in ("Args", "Attributes", "Raises") and (entry := ENTRY.fullmatch(line)):
            begin = entry[1].split(" ")[0]
            if re.fullmatch(r"[a-z]+,?", begin) and begin not in ("tiktoken", "transformers"):
                yield f"{name}: an entry begins with the small letter of {begin!r}"
            if section == "Raises" and begin == "If":
                yield f"{name}: a condition of an error begins with 'If'"
    if found != sorted(found, key=SECTIONS.index):
        yield f"{name}: its sections stand in the order {found}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_and_comments(path):
    faults = []
    for name, text in docstrings(path):
        faults += faults_of_form(name, text)
        faults += [f"{name}: {fault}" for fault in phrases(text)]
        faults += [f"{name}: a long sentence: {part}" for part in long_sentences(text)]
    for text in comments(path):
        faults += [f"comment: {fault}" for fault in phrases(text)]
        faults += [f"comment: a long sentence: {part}" for part in long_sentences(text)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "path",
    [path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("scripts/*.md")]],
    ids=lambda path: path.name,
)
def test_pages(path):
    faults = phrases(path.read_text(encoding="utf-8"))
    assert not faults, "\n".join(faults)
