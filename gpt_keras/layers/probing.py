"""Points inside the layers at which a value can be read, or replaced, while a model runs."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

_PROBE = contextvars.ContextVar("probe", default=None)


def probed(layer, point: str, value):
    """Return the value that goes on from a point: `value`, unless a probe is set and replaces it.

    Args:
        layer: The layer that is at this point.
        point: The name of the point.
        value: A tensor.
    """
    probe = _PROBE.get()
    return value if probe is None else probe(layer, point, value)


@contextlib.contextmanager
def probe(function: Callable) -> Iterator[None]:
    """Call `function(layer, point, value)` at all points; what it returns goes on in their place.

    For models that are called from Python: a function compiled inside keeps the probe, and one
    compiled before does not know of it.
    """
    token = _PROBE.set(function)
    try:
        yield
    finally:
        _PROBE.reset(token)
