"""Scaling laws: the loss as a function of size."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Kaplan et al. found 0.076 for parameters, Hoffmann et al. 0.34: with room on both sides.
_EXPONENTS = np.geomspace(0.005, 2.0, 4001)


class PowerLaw(NamedTuple):
    """`loss = floor + scale * size ** -exponent`; call it with sizes to get losses.

    Attributes:
        floor: Loss, in nats per token, that no size gets below.
        scale: What a model of size 1 has above it.
        exponent: How fast that falls: ten times the size divides it by `10 ** exponent`.
    """

    floor: float
    scale: float
    exponent: float

    def __call__(self, size):
        return self.floor + self.scale * np.asarray(size, dtype=float) ** -self.exponent


def fit_power_law(sizes: Sequence[float], losses: Sequence[float]) -> PowerLaw:
    """Fit a power law with a floor by least squares (Hoffmann et al. 2022, section 3.3).

    For each of a dense row of exponents floor and scale follow from a linear fit; the exponent
    whose fit is best wins.

    Args:
        sizes: Numbers of parameters, or of tokens or operations; at least three different ones.
        losses: In nats per token.

    Returns:
        The law. Its floor is not below 0.

    Raises:
        ValueError: There are fewer than three sizes, they are not positive, or there are not as
            many losses.

    Example:
        >>> import gpt_keras as gk
        >>> law = gk.evaluation.PowerLaw(floor=1.5, scale=20.0, exponent=0.3)
        >>> sizes = [1e3, 1e4, 1e5, 1e6]
        >>> fitted = gk.evaluation.fit_power_law(sizes, law(sizes))
        >>> round(fitted.floor, 2), round(fitted.exponent, 2)
        (1.5, 0.3)
    """
    sizes, losses = np.asarray(sizes, dtype=float), np.asarray(losses, dtype=float)
    if sizes.ndim != 1 or len(np.unique(sizes)) < 3 or not np.all(sizes > 0):
        raise ValueError(f"`sizes` must be at least 3 different positive numbers, got {sizes}.")
    if losses.shape != sizes.shape or not np.all(np.isfinite(losses)):
        raise ValueError(f"`losses` must be a number for each of {len(sizes)} sizes, got {losses}.")
    best = None
    for exponent in _EXPONENTS:
        x = (sizes / sizes.min()) ** -exponent
        scale, floor = np.polyfit(x, losses, 1)
        if floor < 0:
            floor, scale = 0.0, x @ losses / (x @ x)
        error = np.sum((floor + scale * x - losses) ** 2)
        if best is None or error < best[0]:
            best = (
                error,
                PowerLaw(float(floor), float(scale * sizes.min() ** exponent), float(exponent)),
            )
    return best[1]
