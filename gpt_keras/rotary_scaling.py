"""Rotary scaling (RoPE scaling), for contexts longer than in pretraining.

Names and formulas follow transformers. So you can paste the `rope_scaling` of a model's
`config.json`: `{"rope_type": "llama3", "factor": 32.0, ...}`. Each class below is one `rope_type`;
its arguments are the keys of the mapping.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpt_keras.checks import check_positive, check_positive_int


def wave_frequencies(base: float, dim: int) -> np.ndarray:
    """Return the unscaled rotary frequencies, `base**(-2i / dim)` for each pair `i`.

    Args:
        base: Base of the rotary angles.
        dim: Width of a head, even.

    Returns:
        Radians per position, `(dim / 2,)`, float64.
    """
    return float(base) ** (-np.arange(0, dim, 2) / dim)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RotaryScaling:
    """Base class of the rotary scalings: new frequencies and an amplitude.

    Attributes:
        rope_type: Name of the scaling in transformers.
    """

    rope_type: str = dataclasses.field(init=False)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if field.init and not (value is None and field.default is None):
                object.__setattr__(self, name, _CHECKED.get(name, _positive)(name, value))

    def frequencies(self, base: float, head_dim: int) -> np.ndarray:
        """Return the rotation of each pair of components from one position to the next.

        Args:
            base: Base of the unscaled angles.
            head_dim: Width of a head.

        Returns:
            Radians per position, `(head_dim / 2,)`, float64.
        """
        raise NotImplementedError

    @property
    def amplitude(self) -> float:
        """Factor on the rotated queries and keys."""
        return 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearScaling(RotaryScaling):
    """Position interpolation: `factor` divides all angles (Chen et al. 2023).

    Args:
        factor: Length of the new context divided by that of pretraining.
    """

    rope_type: str = dataclasses.field(init=False, default="linear")
    factor: float

    def frequencies(self, base, head_dim):
        return wave_frequencies(base, head_dim) / self.factor


@dataclasses.dataclass(frozen=True, kw_only=True)
class DynamicScaling(RotaryScaling):
    """NTK-aware scaling: a larger base for one length (bloc97, emozilla 2023).

    Transformers changes the base whenever a sequence is longer than every earlier one. The KV
    cache then holds keys that were rotated with an older base, and one sequence changes the logits
    of its whole batch. This class has a fixed base instead. It is the base that transformers uses
    for sequences of `sequence_length` tokens, so cached and uncached logits are equal. The default
    is the original length, for which nothing is scaled.

    Args:
        factor: Growth of the base with the length.
        original_max_position_embeddings: Length of the context in pretraining.
        sequence_length: Length of sequence for which the base is chosen. Default:
            `original_max_position_embeddings`.
    """

    rope_type: str = dataclasses.field(init=False, default="dynamic")
    factor: float
    original_max_position_embeddings: int
    sequence_length: int | None = None

    def frequencies(self, base, head_dim):
        original = self.original_max_position_embeddings
        ratio = max(self.sequence_length or original, original) / original
        if head_dim > 2:
            growth = self.factor * ratio - (self.factor - 1)
            base = base * growth ** (head_dim / (head_dim - 2))
        return wave_frequencies(base, head_dim)


@dataclasses.dataclass(frozen=True, kw_only=True)
class YarnScaling(RotaryScaling):
    """YaRN: `factor` divides the low frequencies only (Peng et al. 2023, section 3).

    Args:
        factor: Length of the new context divided by that of pretraining.
        original_max_position_embeddings: Length of the context in pretraining.
        beta_fast: Pairs with more rotations than this in the original context stay unchanged.
        beta_slow: Pairs with fewer rotations than this have their frequency divided by `factor`.
            Pairs in between are interpolated.
        attention_factor: Factor on the rotated queries and keys. Default: `0.1 ln(factor) + 1`. If
            `mscale` and `mscale_all_dim` are given, the default is
            `(0.1 mscale ln(factor) + 1) / (0.1 mscale_all_dim ln(factor) + 1)`.
        mscale: See `attention_factor`.
        mscale_all_dim: See `attention_factor`.
        truncate: Whether the two limits between pairs are rounded to whole pairs.
    """

    rope_type: str = dataclasses.field(init=False, default="yarn")
    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def frequencies(self, base, head_dim):
        first, last = (
            self._limit(self.beta_fast, base, head_dim),
            self._limit(self.beta_slow, base, head_dim),
        )
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, head_dim - 1)
        last = last + 0.001 if first == last else last
        slow = np.clip((np.arange(head_dim // 2) - first) / (last - first), 0, 1)
        unscaled = wave_frequencies(base, head_dim)
        return slow * unscaled / self.factor + (1 - slow) * unscaled

    def _limit(self, num_turns, base, head_dim):
        """Return the pair with `num_turns` rotations in the original context, unrounded."""
        wavelength = self.original_max_position_embeddings / num_turns
        return head_dim * math.log(wavelength / (2 * math.pi)) / (2 * math.log(base))

    @property
    def amplitude(self):
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return self._mscale(self.mscale) / self._mscale(self.mscale_all_dim)
        return self._mscale(1.0)

    def _mscale(self, tenths):
        return 1.0 if self.factor <= 1 else 0.1 * tenths * math.log(self.factor) + 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Llama3Scaling(RotaryScaling):
    """Llama 3.1's scaling: `factor` divides the low frequencies only.

    The wavelength of a pair is the number of positions of one rotation. `L` is the length of the
    context in pretraining (Grattafiori et al. 2024).

    Args:
        factor: Divisor of the frequencies with long wavelengths.
        low_freq_factor: Wavelengths above `L / low_freq_factor` are long.
        high_freq_factor: Wavelengths below `L / high_freq_factor` are short; their frequencies stay
            unchanged. Frequencies in between are interpolated.
        original_max_position_embeddings: The length `L`.

    Raises:
        ValueError: A value is not allowed, or `low_freq_factor` is not below `high_freq_factor`.
    """

    rope_type: str = dataclasses.field(init=False, default="llama3")
    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def __post_init__(self):
        super().__post_init__()
        if self.low_freq_factor >= self.high_freq_factor:
            raise ValueError(
                f"`low_freq_factor` must be below `high_freq_factor`={self.high_freq_factor}, "
                f"got {self.low_freq_factor}."
            )

    def frequencies(self, base, head_dim):
        unscaled = wave_frequencies(base, head_dim)
        num_turns = self.original_max_position_embeddings * unscaled / (2 * math.pi)
        low, high = self.low_freq_factor, self.high_freq_factor
        fast = np.clip((num_turns - low) / (high - low), 0, 1)
        return (1 - fast) * unscaled / self.factor + fast * unscaled


@dataclasses.dataclass(frozen=True, kw_only=True)
class FactorsScaling(RotaryScaling):
    """A separate divisor for each frequency, as GGUF files may have.

    Args:
        factors: The divisors, `(head_dim / 2,)`, from the highest frequency to the lowest.
    """

    rope_type: str = dataclasses.field(init=False, default="factors")
    factors: tuple[float, ...]

    def frequencies(self, base, head_dim):
        if len(self.factors) != head_dim // 2:
            raise ValueError(
                f"`factors` must have head_dim / 2 = {head_dim // 2} entries, "
                f"got {len(self.factors)}."
            )
        return wave_frequencies(base, head_dim) / np.asarray(self.factors)


SCALINGS: dict[str, type[RotaryScaling]] = {
    kind.rope_type: kind
    for kind in (LinearScaling, DynamicScaling, YarnScaling, Llama3Scaling, FactorsScaling)
}


def make_rotary_scaling(scaling: RotaryScaling | Mapping[str, Any] | None) -> RotaryScaling | None:
    """Return the `RotaryScaling` for a mapping like transformers' `rope_scaling`.

    Args:
        scaling: A mapping with `rope_type` and the arguments of its class in this module; or a
            `RotaryScaling` or None, which are returned unchanged.

    Returns:
        A `RotaryScaling`, or None.

    Raises:
        ValueError: The type or a key is unknown, a key is missing, or a value is not allowed.

    Example:
        >>> from gpt_keras.rotary_scaling import make_rotary_scaling
        >>> make_rotary_scaling({"rope_type": "linear", "factor": 4})
        LinearScaling(rope_type='linear', factor=4.0)
    """
    if scaling is None or isinstance(scaling, RotaryScaling):
        return scaling
    if not isinstance(scaling, Mapping):
        raise ValueError(f"`scaling` must be None or a mapping with `rope_type`, got {scaling!r}.")
    given = dict(scaling)
    rope_type = given.pop("rope_type", None)
    if rope_type not in SCALINGS:
        raise ValueError(f"`rope_type` must be one of {', '.join(SCALINGS)}, got {rope_type!r}.")
    kind = SCALINGS[rope_type]
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    unknown = sorted(given.keys() - fields.keys())
    missing = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and name not in given
    ]
    if unknown or missing:
        raise ValueError(
            f"Not the keys of the scaling {rope_type!r}: unknown {unknown}, missing {missing}; "
            f"allowed are {sorted(fields)}."
        )
    return kind(**given)


def _positive(name, value):
    check_positive(name, value)
    return float(value)


def _positive_int(name, value):
    check_positive_int(name, value)
    return operator.index(value)


def _bool(name, value):
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be True or False, got {value!r}.")
    return value


def _several_positive(name, values):
    if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str):
        raise ValueError(f"`{name}` must be a sequence of numbers above 0, got {values!r}.")
    return tuple(_positive(name, value) for value in values)


# The check of each field, which also converts it to a Python value. Other fields: `_positive`.
_CHECKED = {
    "original_max_position_embeddings": _positive_int,
    "sequence_length": _positive_int,
    "truncate": _bool,
    "factors": _several_positive,
}
