"""Build the course's notebooks from tutorials/*.py, with their outputs.

    python scripts/build_tutorials.py                   # the chapters and solutions that changed
    python scripts/build_tutorials.py 06_pretraining    # a chapter and its solutions, if changed
    python scripts/build_tutorials.py --all             # all of them
    python scripts/build_tutorials.py --fast            # all, with few steps; writes no notebooks

A chapter's thumbnail in tutorials/README.md is the first picture of its section "Look".

A notebook stores the hash of its source. Output that differs between runs without meaning (times,
progress bars, log lines, random cell ids) is removed. Building an unchanged chapter again therefore
changes the notebook only where its numbers change.
"""

import argparse
import asyncio
import base64
import hashlib
import io
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbclient
import nbformat
import PIL.Image
from ipykernel.kernelspec import write_kernel_spec

REPOSITORY = Path(__file__).resolve().parent.parent
TUTORIALS = REPOSITORY / "tutorials"
FAST = "GPT_KERAS_FAST"

_LOG_LINE = re.compile(
    r"WARNING: All log messages before absl|[IWEF]\d{4} [\d:. ]+\S+:\d+\] |[IWEF]0000 00:00:"
    r"|(INFO|WARNING):tensorflow:|To enable the following instructions"
    r"|\d{4}-\d\d-\d\d [\d:.]+: [IWEF] "
    r"|\*{32}$|\[Compiling module "  # XLA's warning about slow compilation
)
# Matches "12s 34ms/step" of verbose=1 and "12s - 34ms/step" of verbose=2.
_STEP_TIME = re.compile(r"( -)? \d+(s|:\d\d)? (- )?\d+(\.\d+)?(ms|us|s)/(step|epoch)")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class ChapterError(Exception):
    """Failure of a cell; the message contains the cell and its error."""


def sources() -> list[Path]:
    """Return the sources of all chapters, then of all solutions, in order."""
    return sorted(TUTORIALS.glob("*.py")) + sorted((TUTORIALS / "solutions").glob("*.py"))


def source_hash(source: Path) -> str:
    """Return the SHA-256 of a source file."""
    return hashlib.sha256(source.read_bytes()).hexdigest()


def stored_hash(notebook: Path) -> str | None:
    """Return the source hash stored in a notebook, or None if there is none."""
    if not notebook.exists():
        return None
    metadata = json.loads(notebook.read_text(encoding="utf-8"))["metadata"]
    return metadata.get("gpt_keras", {}).get("source_sha256")


def build(source: Path, target: Path, fast: bool = False) -> float:
    """Run a chapter and write its notebook.

    Args:
        source: A file in jupytext's percent format.
        target: Notebook to write. Nothing is written if a cell fails.
        fast: Whether to set the environment variable that reduces the number of steps.

    Returns:
        Run time in seconds, including the start of the kernel.

    Raises:
        ChapterError: A cell failed.
        nbclient.exceptions.DeadKernelError: The kernel crashed, or the build was interrupted.
    """
    notebook = read_source(source)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run(notebook, Path(folder), fast)
    seconds = time.perf_counter() - started
    clean(notebook)
    notebook.metadata["gpt_keras"] = {"source_sha256": source_hash(source)}
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".ipynb.partial")
    nbformat.write(notebook, partial)
    partial.replace(target)
    return seconds


def read_source(source: Path) -> nbformat.NotebookNode:
    """Return a notebook without outputs; its cell ids are hashes of the cells' text."""
    notebook = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell["id"] = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        cell.metadata = nbformat.NotebookNode()
    return notebook


def run(notebook: nbformat.NotebookNode, folder: Path, fast: bool) -> None:
    """Run the cells in an empty folder, and store their outputs in the notebook."""
    # An installed kernel named python3 may use another interpreter than this one.
    write_kernel_spec(folder / "jupyter" / "kernels" / "python3")
    work = folder / "work"
    work.mkdir()
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    environment.pop(FAST, None)
    if fast:
        environment[FAST] = "1"
    client = nbclient.NotebookClient(
        notebook,
        timeout=1200,
        # A busy machine needs more than the default timeouts. Without `raise_on_iopub_timeout`,
        # later outputs would be dropped silently.
        startup_timeout=300,
        iopub_timeout=120,
        raise_on_iopub_timeout=True,
        kernel_name="python3",
        record_timing=True,  # for `_last_started`; `clean` removes the times
        resources={"metadata": {"path": str(work)}},
    )
    kept = os.environ.get("JUPYTER_PATH")
    os.environ["JUPYTER_PATH"] = str(folder / "jupyter")
    try:
        asyncio.run(client.async_execute(env=environment))
    except nbclient.exceptions.CellExecutionError as error:
        raise ChapterError(_failure(notebook, error)) from error
    except nbclient.exceptions.CellTimeoutError as error:
        raise ChapterError(str(error)) from error
    except nbclient.exceptions.DeadKernelError as error:
        # This is not a ChapterError, after which the build would continue with the next chapter:
        # nbclient also raises it when Ctrl-C or SIGTERM stops the build.
        raise nbclient.exceptions.DeadKernelError(
            f"{_last_started(notebook)}\n\n{error}: it crashed, or was stopped"
        ) from error
    finally:
        if kept is None:
            del os.environ["JUPYTER_PATH"]
        else:
            os.environ["JUPYTER_PATH"] = kept


def _failure(notebook, error) -> str:
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                return f"cell {number}:\n{cell.source}\n\n{output.ename}: {output.evalue}"
    return str(error)


def _last_started(notebook) -> str:
    cells = enumerate(notebook.cells, start=1)
    number, cell = [(n, cell) for n, cell in cells if "execution" in cell.metadata][-1]
    return f"cell {number}:\n{cell.source}"


def clean(notebook: nbformat.NotebookNode) -> None:
    """Remove output that differs between runs without meaning."""
    notebook.metadata["language_info"] = nbformat.from_dict({"name": "python"})
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.metadata = nbformat.NotebookNode()
        outputs = []
        for output in cell.outputs:
            previous = outputs[-1] if outputs else None
            if (
                output.output_type == "stream"
                and previous is not None
                and previous.output_type == "stream"
                and previous.name == output.name
            ):
                previous.text += output.text
            else:
                outputs.append(output)
        for output in outputs:
            if output.output_type == "stream":
                output.text = clean_text(output.text)
            elif "metadata" in output:
                output.metadata = nbformat.NotebookNode()
        cell.outputs = [o for o in outputs if o.output_type != "stream" or o.text.strip()]


def clean_text(text: str) -> str:
    r"""Return the final text on a terminal, without log lines and step times.

    >>> clean_text("1/2 --- 3s 40ms/step - loss: 2.0\r2/2 --- 6s 40ms/step - loss: 1.0\n")
    '2/2 --- - loss: 1.0\n'
    >>> clean_text("2/2 - 6s - 2s/step - loss: 1.0\n")
    '2/2 - loss: 1.0\n'
    """
    lines = []
    for line in _ANSI.sub("", text).split("\n"):
        # Keras's progress bars return to the beginning of the line with backspaces or "\r".
        line = re.sub("\x08+", "\r", line).rstrip("\r").rsplit("\r", 1)[-1]
        if not _LOG_LINE.match(line):
            lines.append(_STEP_TIME.sub("", line))
    return "\n".join(lines)


def thumbnail(notebook: nbformat.NotebookNode) -> PIL.Image.Image:
    """Return the first picture of the section "Look", at most 320 x 240 pixels.

    Raises:
        ValueError: The chapter has no such picture.
    """
    looking = False
    for cell in notebook.cells:
        looking = looking or re.search(r"^## Look$", cell.source, re.MULTILINE) is not None
        for output in cell.get("outputs", ()):
            if looking and "image/png" in output.get("data", {}):
                picture = PIL.Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
                picture = picture.convert("RGB")
                picture.thumbnail((320, 240), PIL.Image.Resampling.LANCZOS)
                return picture
    raise ValueError("The chapter has no picture in its section 'Look'.")


def thumbnail_path(source: Path) -> Path:
    """Return the path of a chapter's thumbnail."""
    return TUTORIALS / "images" / f"{source.stem}.png"


def main(arguments: list[str] | None = None) -> int:
    """Build the chapters named on the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="chapters, such as 06_pretraining; default: all")
    parser.add_argument("--all", action="store_true", help="also build unchanged chapters")
    parser.add_argument("--fast", action="store_true", help="few steps; write no notebooks")
    options = parser.parse_args(arguments)

    chosen = [s for s in sources() if not options.names or s.stem in options.names]
    unknown = sorted(set(options.names) - {source.stem for source in chosen})
    if unknown:
        parser.error(f"no chapters {unknown}; choose from {sorted({s.stem for s in sources()})}")
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for source in chosen:
            name = source.relative_to(TUTORIALS).with_suffix("").as_posix()
            target = source.with_suffix(".ipynb")
            if not (options.all or options.fast) and stored_hash(target) == source_hash(source):
                print(f"{name}: unchanged")
                continue
            if options.fast:
                target = Path(scratch) / f"{name}.ipynb"
            try:
                seconds = build(source, target, options.fast)
            except ChapterError as error:
                failed += 1
                print(f"{name}: FAILED in {error}\n", file=sys.stderr, flush=True)
            else:
                print(f"{name}: {seconds:.0f} s", flush=True)
                if source.parent == TUTORIALS and not options.fast:
                    notebook = nbformat.read(target, as_version=4)
                    thumbnail(notebook).save(thumbnail_path(source), optimize=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
