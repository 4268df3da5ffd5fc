"""Scaling laws: the loss as a power law of the model size."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Candidate exponents. Kaplan et al. found 0.076 for parameters, Hoffmann et al. 0.34; the grid
# leaves room on both sides.
_EXPONENTS = np.geomspace(0.005, 2.0, 4001)


class PowerLaw(NamedTuple):
    """Scaling law `loss = floor + scale * size ** -exponent`.

    Call it with sizes to get the predicted losses.

    Attributes:
        floor: Irreducible loss in nats per token, the limit for an infinite size.
        scale: Reducible loss at size 1, in nats per token.
        exponent: Rate of decay. Ten times the size divides the reducible loss by
            `10 ** exponent`.

    Example:
        >>> import gpt_keras as gk
        >>> law = gk.evaluation.PowerLaw(floor=1.5, scale=20.0, exponent=0.5)
        >>> law([100, 10000]).tolist()
        [3.5, 1.7]
    """

    floor: float
    scale: float
    exponent: float

    def __call__(self, size):
        return self.floor + self.scale * np.asarray(size, dtype=float) ** -self.exponent


def fit_power_law(sizes: Sequence[float], losses: Sequence[float]) -> PowerLaw:
    """Fit a power law with a constant term (a floor) to losses by least squares.

    The method is a grid search over exponents. For each exponent, a linear fit gives the floor and
    the scale; the best fit wins. The law is the one of Hoffmann et al. 2022 ("Training
    Compute-Optimal Large Language Models", section 3.3) in one variable.

    Args:
        sizes: `(number,)`, numbers of parameters, tokens or floating-point operations. At least
            three must be different.
        losses: `(number,)`, one loss for each size, in nats per token.

    Returns:
        A `PowerLaw`. Its floor is at least 0.

    Raises:
        ValueError: `sizes` has fewer than three different values or a value that is not positive,
            or `losses` does not have one finite number for each size.

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
