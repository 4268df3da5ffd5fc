"""The notebooks belong to their sources, have the form of a chapter, and can be built."""

import os
import pathlib
import re

import nbclient
import nbformat
import numpy as np
import PIL.Image
import pytest
from run_cells import CHAPTERS, SOURCES, build_tutorials

TUTORIALS = pathlib.Path(__file__).parent.parent / "tutorials"
MAP = (TUTORIALS / "README.md").read_text(encoding="utf-8")

HEADINGS = [
    "What you will be able to do",
    "The idea",
    "By hand",
    "The formula",
    "The class",
    "On real text",
    "Look",
    "What goes wrong",
    "Exercises",
    "Further reading",
]

every_source = pytest.mark.parametrize(
    "source", SOURCES, ids=lambda s: s.relative_to(TUTORIALS).with_suffix("").as_posix()
)
every_chapter = pytest.mark.parametrize("source", CHAPTERS, ids=lambda s: s.stem)


def _notebook(source):
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def _code_cells(source):
    return [cell for cell in _notebook(source).cells if cell.cell_type == "code"]


def _headings(source):
    texts = [c.source for c in _notebook(source).cells if c.cell_type == "markdown"]
    return re.findall(r"^## (.+)$", "\n".join(texts), re.MULTILINE)


def test_there_are_chapters():
    assert CHAPTERS


@every_source
def test_notebook_was_built_from_its_source(source):
    stored = build_tutorials.stored_hash(source.with_suffix(".ipynb"))
    assert stored == build_tutorials.source_hash(source), (
        f"run: python scripts/build_tutorials.py {source.stem}"
    )


@every_source
def test_notebook_has_the_cells_of_its_source(source):
    expected = build_tutorials.read_source(source)
    notebook = _notebook(source)
    nbformat.validate(notebook)
    assert [(c.id, c.cell_type, c.source) for c in notebook.cells] == [
        (c.id, c.cell_type, c.source) for c in expected.cells
    ]


@every_source
def test_all_cells_ran_in_order_and_without_error(source):
    cells = _code_cells(source)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert "error" not in kinds
    # Cells that import or define show nothing; most do show something.
    assert sum(bool(cell.outputs) for cell in cells) > len(cells) / 2


@every_source
def test_no_noise_in_the_outputs(source):
    for cell in _code_cells(source):
        assert "execution" not in cell.metadata
        text = "".join(o.text for o in cell.outputs if o.output_type == "stream")
        assert "\r" not in text
        assert "\x1b" not in text
        assert "ms/step" not in text
        assert "absl::InitializeLog" not in text
        assert "Glyph" not in text, "a font lacks a character"
        assert "Limiting steps_per_epoch" not in text, "built with the fast setting"


@every_source
def test_no_cell_is_longer_than_25_lines(source):
    longest = max(_code_cells(source), key=lambda cell: cell.source.count("\n"))
    assert longest.source.count("\n") + 1 <= 25, longest.source


@every_source
def test_no_half_written_notebook_is_left(source):
    assert not source.with_suffix(".ipynb.partial").exists()


@every_chapter
def test_chapter_has_the_headings_in_order(source):
    assert _headings(source) == HEADINGS


@every_chapter
def test_chapter_has_pictures_and_states_its_time(source):
    outputs = [output for cell in _code_cells(source) for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    first = _notebook(source).cells[0].source
    assert "2 CPU cores" in first
    assert "GPT_KERAS_FAST" in first


@every_chapter
def test_thumbnail_is_the_first_picture_of_look(source):
    made = build_tutorials.thumbnail(_notebook(source))
    with PIL.Image.open(build_tutorials.thumbnail_path(source)) as stored:
        # Versions of the image library may round differently.
        np.testing.assert_allclose(np.asarray(stored, int), np.asarray(made, int), atol=8)


@every_chapter
def test_the_map_shows_the_chapter_and_states_the_same_time(source):
    (row,) = [line for line in MAP.splitlines() if f"]({source.stem}.ipynb)" in line]
    title = re.match(r"# (\d+\. .+)", _notebook(source).cells[0].source).group(1)
    assert f"[{title}]({source.stem}.ipynb)" in row
    assert f'src="images/{source.stem}.png"' in row
    first = _notebook(source).cells[0].source.replace("\n", " ")
    full, fast = re.search(r"about (\S+) minutes?, or (.+?) with the", first).groups()
    assert f"| {full} | {fast} |" in row


def test_the_map_links_to_what_there_is():
    links = re.findall(r"\]\(([^)#]+)\)", MAP)
    assert [link for link in links if "://" not in link and not (TUTORIALS / link).exists()] == []


@every_chapter
def test_chapter_has_four_exercises_and_their_solutions(source):
    exercises = _notebook(source).cells[-1].source.split("## Further reading")[0]
    assert re.findall(r"^(\d)\. ", exercises, re.MULTILINE) == ["1", "2", "3", "4"]
    solutions = TUTORIALS / "solutions" / source.name
    assert _headings(solutions) == [f"Exercise {n}" for n in range(1, 5)]


def test_changed_source_changes_the_hash(tmp_path):
    source = tmp_path / "chapter.py"
    source.write_text("# %%\n1 + 1\n", encoding="utf-8")
    before = build_tutorials.source_hash(source)
    source.write_text("# %%\n1 + 2\n", encoding="utf-8")
    assert build_tutorials.source_hash(source) != before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1/2 -- loss: 3\r2/2 -- loss: 2\n", "2/2 -- loss: 2\n"),
        ("1/2 -- loss: 3\x08\x08\x08\r2/2 -- loss: 2\n", "2/2 -- loss: 2\n"),
        ("\x1b[1m2/2\x1b[0m --- \x1b[1m31s\x1b[0m 2s/step - loss: 1\n", "2/2 --- - loss: 1\n"),
        ("2/2 - 31s - 217ms/step - loss: 1\n", "2/2 - loss: 1\n"),
        ("WARNING: All log messages before absl::InitializeLog() is called\nkept\n", "kept\n"),
        ("I0000 00:00:1795303356.06 5381 port.cc:153] oneDNN\nkept\n", "kept\n"),
        ("2026-11-21 23:00:00.1: I tensorflow/core/x.cc:1] y\nkept\n", "kept\n"),
        (f"{'*' * 32}\n[Compiling module a_b.1] Very slow compile? If you\nkept\n", "kept\n"),
        ("**** four stars\n", "**** four stars\n"),
        ("I took 3s to say so\n", "I took 3s to say so\n"),
    ],
)
def test_clean_text(text, expected):
    assert build_tutorials.clean_text(text) == expected


@pytest.mark.slow
def test_build_runs_and_is_repeatable(tmp_path):
    source = tmp_path / "chapter.py"
    source.write_text(
        "# %% [markdown]\n# # Title\n\n# %%\nprint(1)\n\n# %%\nimport sys\nsys.executable\n",
        encoding="utf-8",
    )
    first, second = tmp_path / "first.ipynb", tmp_path / "second.ipynb"
    build_tutorials.build(source, first)
    build_tutorials.build(source, second)
    assert first.read_bytes() == second.read_bytes()
    assert build_tutorials.stored_hash(first) == build_tutorials.source_hash(source)
    outputs = nbformat.read(first, as_version=4).cells[2].outputs
    assert outputs[0].data["text/plain"] == repr(build_tutorials.sys.executable)


@pytest.mark.slow
def test_build_reports_the_cell_that_fails(tmp_path):
    source = tmp_path / "chapter.py"
    source.write_text("# %%\na = 1\n\n# %%\na / 0\n", encoding="utf-8")
    with pytest.raises(build_tutorials.ChapterError, match=r"cell 2:\na / 0\n\nZeroDivisionError"):
        build_tutorials.build(source, tmp_path / "chapter.ipynb")
    assert not (tmp_path / "chapter.ipynb").exists()


@pytest.mark.slow
def test_build_reports_the_cell_in_which_the_kernel_dies(tmp_path):
    source = tmp_path / "chapter.py"
    source.write_text("# %%\na = 1\n\n# %%\nimport os\nos.kill(os.getpid(), 9)\n", encoding="utf-8")
    died = nbclient.exceptions.DeadKernelError
    with pytest.raises(died, match=r"cell 2:\nimport os\n[^\n]*\n\nKernel died"):
        build_tutorials.build(source, tmp_path / "chapter.ipynb")
    assert not (tmp_path / "chapter.ipynb").exists()


@pytest.mark.slow
def test_build_in_the_fast_setting(tmp_path):
    # The smallest of them; the others run without a kernel in test_chapters_run.py and
    # test_solutions_run.py.
    source, target = TUTORIALS / "solutions" / "09_real_weights.py", tmp_path / "built.ipynb"
    build_tutorials.build(source, target, fast=True)
    assert build_tutorials.stored_hash(target) == build_tutorials.source_hash(source)
    shown = build_tutorials.read_source(source)
    assert len(nbformat.read(target, as_version=4).cells) == len(shown.cells)
    assert build_tutorials.FAST not in os.environ


@pytest.mark.slow
def test_build_sets_the_fast_setting_in_the_notebook_only(tmp_path):
    source, target = tmp_path / "chapter.py", tmp_path / "chapter.ipynb"
    source.write_text(f"# %%\nimport os\nos.environ.get({build_tutorials.FAST!r})\n", "utf-8")
    for fast, expected in ((True, "'1'"), (False, None)):
        build_tutorials.build(source, target, fast)
        outputs = nbformat.read(target, as_version=4).cells[0].outputs
        assert [output.data["text/plain"] for output in outputs] == ([expected] if fast else [])
    assert build_tutorials.FAST not in os.environ


@pytest.mark.soak
@every_source
def test_runs_in_full(source, tmp_path):
    target = tmp_path / source.with_suffix(".ipynb").name
    build_tutorials.build(source, target)
    built = nbformat.read(target, as_version=4)
    assert [_shown(cell) for cell in built.cells] == [_shown(c) for c in _notebook(source).cells]


def _shown(cell):
    """The kinds of outputs; warnings, some of which come only on a busy machine, left out."""
    kinds = {output.get("name", output.output_type) for output in cell.get("outputs", [])}
    return kinds - {"stderr"}
