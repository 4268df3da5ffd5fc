"""Compiled models that the tests of a file share, since tracing one takes seconds."""

import contextlib

import numpy as np


@contextlib.contextmanager
def restored(model):
    """Lend a compiled model; afterwards its weights and its optimizer are as they were."""
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    before = [np.array(variable) for variable in variables]
    try:
        yield model
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
