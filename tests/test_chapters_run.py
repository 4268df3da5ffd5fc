"""The chapters of the course run in their fast setting; see run_cells.py."""

import os
import sys

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from run_cells import CHAPTERS, of_each, run_cells, run_source


@pytest.mark.slow
# Chapter 0 as it is for users. In the others generation runs in graph mode.
@of_each(CHAPTERS, **{"00_a_gpt_in_ten_lines": pytest.mark.xla})
def test_runs_in_the_fast_setting(source, tmp_path, monkeypatch):
    run_source(source, tmp_path, monkeypatch)


def test_cells_run_as_in_a_notebook(tmp_path):
    run_cells(
        [
            "import asyncio, os, pathlib, pickle, sys\nclass Local: pass\n3 + 4",
            "assert _ == 7\nsys.argv",
            "assert type(pickle.loads(pickle.dumps(Local()))) is Local",
            "await asyncio.sleep(0)\n%time 1 + 1",
            "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
            "assert not plt.get_fignums()\npathlib.Path('here').write_text('')",
        ],
        tmp_path,
    )
    assert (tmp_path / "here").exists()
    with pytest.raises(AssertionError, match="NameError"):
        run_cells(["Local"], tmp_path)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("1 +", "SyntaxError"),
        ("raise SystemExit(0)", "SystemExit"),
        ("class Bad:\n    def __repr__(self):\n        return 1 / 0\nBad()", "ZeroDivisionError"),
        (
            "import matplotlib.pyplot as plt\n_ = plt.title('$\\\\bad$')",
            "ParseFatalException|ValueError",
        ),
    ],
    ids=["error", "syntax", "exit", "representation", "picture"],
)
def test_a_cell_that_fails_is_reported(cell, message, tmp_path):
    with pytest.raises(AssertionError, match=rf"^cell 2:[\s\S]*({message})"):
        run_cells(["1", cell, "2"], tmp_path)


def test_what_cells_change_is_put_back(tmp_path):
    def state():
        return (
            keras.config.dtype_policy().name,
            keras.config.floatx(),
            keras.config.max_steps_per_epoch(),
            dict(plt.rcParams),
            plt.get_backend(),
            plt.isinteractive(),
            plt.get_fignums(),
            np.get_printoptions(),
            dict(os.environ),
            os.getcwd(),
            list(sys.path),
            sys.modules["__main__"],
            sys.displayhook,
            sys.excepthook,
        )

    before = state()
    run_cells(
        [
            "import os, sys, keras, numpy as np, matplotlib.pyplot as plt",
            "keras.config.set_dtype_policy('mixed_bfloat16')\nkeras.config.set_floatx('float64')",
            "keras.config.set_max_steps_per_epoch(3)\nplt.rcParams['figure.dpi'] = 33",
            "np.set_printoptions(precision=1)\nos.environ['A_NEW_ONE'] = '1'",
            "sys.path.append('x')\nos.mkdir('y')\nos.chdir('y')\nplt.ioff()\n_ = plt.figure()",
        ],
        tmp_path,
    )
    assert state() == before
