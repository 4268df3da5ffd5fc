"""How generation runs in tests and doctests: step by step, unless a mark asks for more."""

import importlib.util
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest

# `--doctest-modules` would import these files a second time, under one name.
collect_ignore_glob = ["*/conftest.py"]
if importlib.util.find_spec("lm_eval") is None:  # the extra `harness`
    collect_ignore_glob.append("*/evaluation/harness.py")


def _whole(name):
    return property(lambda generator: getattr(generator, name))


def step_by_step(patch):
    """Run the loop of generation operation by operation; only the model's step is a graph.

    The same functions run, but none is traced and optimized for each strategy and each model.
    """
    from gpt_keras.generation.generator import Generator

    for name, method in {
        "run": "_run_in_graph",
        "run_from": "_run_in_graph",
        "start": "start_in_graph",
        "start_from": "start_in_graph",
        "advance": "advance_in_graph",
        "finish": "finish_in_graph",
    }.items():
        patch.setattr(Generator, name, _whole(method))


@pytest.fixture(scope="session", autouse=True)
def without_xla():
    """From here on no generation is compiled by XLA, but in tests marked `xla`."""
    from gpt_keras.generation.compiled import Generators

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Generators.__init__, "__defaults__", (False,))
        yield


@pytest.fixture(autouse=True)
def generation_mode(request, without_xla, monkeypatch):
    """Generation as users have it for tests marked `xla`, in a graph for those marked `graph`.

    Compiling takes longer than most tests: three steps of each model, and with each strategy a loop
    around them. What the loop does is the same in all three ways, which marked tests show.
    """
    is_marked = request.node.get_closest_marker
    if is_marked("xla") is not None:
        from gpt_keras.generation.compiled import Generators

        monkeypatch.setattr(Generators.__init__, "__defaults__", (True,))
    elif is_marked("graph") is None:
        step_by_step(monkeypatch)
