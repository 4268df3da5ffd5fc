"""Where each weight of a `GPT` stands in others' files."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

import keras
import numpy as np

# An error message lists at most this many tensors of a kind.
_MOST_LISTED = 5


class Source(NamedTuple):
    """Where the values of one of our weights stand.

    Attributes:
        name: name of the tensor in the file.
        transpose: whether its two axes are the other way round there (PyTorch's `Linear`).
        part: `(index, count)`: the weight is this one of so many equal parts of the tensor along
            its last axis (queries, keys and values side by side); None for all of it.
        factor: what the values there are multiplied by.
    """

    name: str
    transpose: bool = False
    part: tuple[int, int] | None = None
    factor: float = 1.0

    def shape_there(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape of the tensor that holds a weight of `shape`."""
        shape = shape[::-1] if self.transpose else shape
        return shape if self.part is None else (*shape[:-1], shape[-1] * self.part[1])

    def take(self, tensor: np.ndarray) -> np.ndarray:
        """Returns our weight's values out of the tensor's."""
        if self.part is not None:
            index, count = self.part
            tensor = np.split(tensor, count, axis=-1)[index]
        tensor = tensor.T if self.transpose else tensor
        return tensor if self.factor == 1.0 else tensor * np.asarray(self.factor, tensor.dtype)


class Tensors(Protocol):
    """Named tensors somewhere outside, read one at a time."""

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Returns the names and shapes of all tensors, without reading them."""

    def read(self, name: str) -> np.ndarray:
        """Returns one tensor."""


def assign(model: keras.Model, sources: Mapping[str, Source], tensors: Tensors, where: str) -> None:
    """Fills a model's weights, tensor by tensor, after all names and shapes were checked.

    Args:
        model: A built `GPT`.
        sources: For each of its weights, by `variable.path`, where the values stand.
        tensors: The tensors.
        where: Their file or folder, for the message.

    Raises:
        ValueError: Tensors are missing, not known or of another shape; the message lists them.
    """
    variables = {variable.path: variable for variable in model.variables}
    wanted: dict[str, list[tuple[Source, keras.Variable]]] = {}
    for path, source in sources.items():
        wanted.setdefault(source.name, []).append((source, variables[path]))
    shapes = tensors.shapes()
    problems = _listed("missing", [name for name in wanted if name not in shapes])
    problems += _listed("not known", [name for name in shapes if name not in wanted])
    problems += _listed(
        "of another shape",
        [
            f"{name} is {tuple(shapes[name])} and should be {expected}"
            for name, users in wanted.items()
            if name in shapes
            and tuple(shapes[name])
            != (expected := users[0][0].shape_there(tuple(users[0][1].shape)))
        ],
    )
    if problems:
        raise ValueError(f"{where!r} does not fit the model. Tensors " + "; ".join(problems) + ".")
    for name, users in wanted.items():
        tensor = tensors.read(name)
        for source, variable in users:
            variable.assign(source.take(tensor))


def _listed(what: str, entries: Iterable[str]) -> list[str]:
    entries = list(entries)
    if not entries:
        return []
    more = f" and {len(entries) - _MOST_LISTED} more" if len(entries) > _MOST_LISTED else ""
    return [f"{what}: {', '.join(entries[:_MOST_LISTED])}{more}"]
