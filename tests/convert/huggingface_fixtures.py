"""Random models that Hugging Face's transformers wrote, and its logits."""

import pathlib
import shutil

import numpy as np

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures" / "huggingface"
NAMES = sorted(path.name for path in FIXTURES.iterdir())


def expected(name):
    """The stored token ids and what transformers computed from them."""
    with np.load(FIXTURES / name / "expected.npz") as stored:
        return dict(stored)


def copy(name, folder):
    """A copy of a fixture that a test may damage."""
    return pathlib.Path(shutil.copytree(FIXTURES / name, folder / name))
