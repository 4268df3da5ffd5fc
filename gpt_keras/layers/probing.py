"""Probe points: places in the layers whose values can be read or replaced."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

_PROBE = contextvars.ContextVar("probe", default=None)


def probed(layer, point: str, value):
    """Return `value`, or its replacement if a probe is set.

    Args:
        layer: The layer that has this probe point.
        point: Name of the probe point, such as `"output"`.
        value: The tensor at this point.
    """
    probe = _PROBE.get()
    return value if probe is None else probe(layer, point, value)


@contextlib.contextmanager
def probe(function: Callable) -> Iterator[None]:
    """Call a function at all probe points inside the `with` block.

    The function's result replaces the value at the point. A probe works for models that are called
    eagerly. A function that is compiled inside the block keeps the probe; a function that was
    compiled before ignores it.

    Args:
        function: Called with `(layer, point, value)`, as in `probed`; returns a tensor.
    """
    token = _PROBE.set(function)
    try:
        yield
    finally:
        _PROBE.reset(token)
