"""The solutions of the course's exercises run in their fast setting; see run_cells.py."""

import pytest
from run_cells import SOLUTIONS, of_each, run_source


@pytest.mark.slow
@of_each(SOLUTIONS)
def test_runs_in_the_fast_setting(source, tmp_path, monkeypatch):
    run_source(source, tmp_path, monkeypatch)
