"""Run a chapter's cells as a notebook does, but in this process.

A kernel takes seconds to start, and `scripts/build_tutorials.py` starts one for each notebook. Here
the cells run in IPython's shell, as in a kernel: magics and `await` work, values are formatted, and
pictures drawn. What a chapter changes for the whole process is put back afterwards.
"""

import builtins
import contextlib
import importlib.util
import os
import pathlib
import sys
import warnings

import keras
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell

ROOT = pathlib.Path(__file__).parent.parent


def _build_script():
    path = ROOT / "scripts" / "build_tutorials.py"
    spec = importlib.util.spec_from_file_location("build_tutorials", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build_tutorials = _build_script()
SOURCES = build_tutorials.sources()
CHAPTERS = [source for source in SOURCES if source.parent == build_tutorials.TUTORIALS]
SOLUTIONS = [source for source in SOURCES if source not in CHAPTERS]


def of_each(sources, **marks):
    """A test of each of some sources, with the marks of some of them by name."""
    names = [source.stem for source in sources]
    assert set(marks) <= set(names)
    parameters = [
        pytest.param(source, id=name, marks=marks.get(name, ()))
        for source, name in zip(sources, names)
    ]
    return pytest.mark.parametrize("source", parameters)


class Shell(InteractiveShell):
    """IPython's shell; it keeps the errors that it would only print."""

    def __init__(self):
        super().__init__()
        self.failures = []

    def init_history(self):
        """A history that is not kept on disk."""
        self.config.HistoryManager.enabled = False
        super().init_history()

    def enable_gui(self, gui=None):
        """Pictures need no event loop."""

    def showtraceback(self, *arguments, **options):
        """Keep the error, of a cell or of drawing a picture."""
        self.failures.append(sys.exc_info()[1])

    showsyntaxerror = showtraceback


@contextlib.contextmanager
def _put_back():
    """Put back what cells may change: folder, environment, settings of Keras and pictures."""
    environment, folder, path = dict(os.environ), os.getcwd(), list(sys.path)
    main, arguments = sys.modules["__main__"], list(sys.argv)
    epsilon, floatx = keras.config.epsilon(), keras.config.floatx()
    image_format = keras.config.image_data_format()
    policy = keras.config.dtype_policy()
    backend = matplotlib.get_backend()
    # Doctests leave the last value in `builtins._`, and IPython then sets no `_` of its own.
    last = vars(builtins).pop("_", None)
    try:
        with warnings.catch_warnings(), matplotlib.rc_context(), np.printoptions():
            yield
    finally:
        plt.close("all")
        plt.switch_backend(backend)
        matplotlib.interactive(False)
        keras.utils.clear_session()
        keras.config.set_max_epochs(None)
        keras.config.set_max_steps_per_epoch(None)
        keras.config.set_epsilon(epsilon)
        keras.config.set_floatx(floatx)
        keras.config.set_image_data_format(image_format)
        keras.config.set_dtype_policy(policy)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        sys.path[:], sys.argv[:] = path, arguments
        sys.modules["__main__"] = main
        if last is not None:
            builtins._ = last


def run_cells(cells, folder):
    """Run cells in a folder, in a new namespace.

    Raises:
        AssertionError: A cell failed, or what it shows could not be formatted or drawn.
    """
    with _put_back():
        os.chdir(folder)
        shell = Shell.instance()
        try:
            shell.enable_matplotlib("inline")
            for number, source in enumerate(cells, start=1):
                result = shell.run_cell(source, store_history=True)
                failures = [result.error_before_exec, result.error_in_exec, *shell.failures]
                for failure in filter(None, failures):
                    message = f"cell {number}:\n{source}\n\n{type(failure).__name__}: {failure}"
                    raise AssertionError(message) from failure
        finally:
            shell.failures.clear()
            shell.reset()


def run_source(source, folder, monkeypatch):
    """Run a chapter or a solution in its fast setting."""
    monkeypatch.setenv(build_tutorials.FAST, "1")
    cells = build_tutorials.read_source(source).cells
    run_cells([cell.source for cell in cells if cell.cell_type == "code"], folder)
