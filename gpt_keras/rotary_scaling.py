"""Rotary scaling: slower rotary angles, for contexts longer than those of pretraining.

Names and formulas are those of transformers, so that the `rope_scaling` of a model's `config.json`
can be pasted: `{"rope_type": "llama3", "factor": 32.0, ...}`. The classes below say which keys each
`rope_type` has.
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
    """Return `base**(-2i / dim)` for each pair of components `i`, `(dim / 2,)` in float64."""
    return float(base) ** (-np.arange(0, dim, 2) / dim)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RotaryScaling:
    """Base of the scalings: a change of the frequencies, and of the size of what is rotated.

    Attributes:
        rope_type: Name of the scaling, as transformers has it.
    """

    rope_type: str = dataclasses.field(init=False)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if field.init and not (value is None and field.default is None):
                object.__setattr__(self, name, _CHECKED.get(name, _positive)(name, value))

    def frequencies(self, base: float, head_dim: int) -> np.ndarray:
        """Return the angle by which each pair of components turns from one position to the next.

        Args:
            base: Base of the unscaled angles.
            head_dim: Width of a head.

        Returns:
            `(head_dim / 2,)`, float64.
        """
        raise NotImplementedError

    @property
    def amplitude(self) -> float:
        """Factor by which rotated queries and keys are multiplied."""
        return 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearScaling(RotaryScaling):
    """Position interpolation: all angles are divided by `factor` (Chen et al. 2023).

    Args:
        factor: How many times longer the context is.
    """

    rope_type: str = dataclasses.field(init=False, default="linear")
    factor: float

    def frequencies(self, base, head_dim):
        return wave_frequencies(base, head_dim) / self.factor


@dataclasses.dataclass(frozen=True, kw_only=True)
class DynamicScaling(RotaryScaling):
    """NTK-aware scaling: a larger base, chosen for one length of sequence (bloc97, emozilla 2023).

    Transformers chooses the base anew whenever a sequence outgrows the longest so far. A cache then
    holds keys that were rotated with an older base, and one sequence changes the logits of its
    whole batch. Here the base is fixed: it is the one that transformers uses for sequences of
    `sequence_length` tokens. So the cache gives the same logits as a whole pass. By default that is
    the original length, where nothing is scaled.

    Args:
        factor: How fast the base grows with the length.
        original_max_position_embeddings: Longest sequence of pretraining.
        sequence_length: Length of sequence that the base is for. Default:
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
    """YaRN: slow angles are divided by `factor`, fast ones stay (Peng et al. 2023, section 3).

    Args:
        factor: How many times longer the context is.
        original_max_position_embeddings: Longest sequence of pretraining.
        beta_fast: Pairs that turn more often than this in the original context stay as they are.
        beta_slow: Pairs that turn less often than this are divided by `factor`.
        attention_factor: What queries and keys are multiplied by. Default: `0.1 ln(factor) + 1`, or
            a quotient of two numbers of this form if `mscale` and `mscale_all_dim` are given.
        mscale: Takes the place of 0.1 in the numerator, in tenths.
        mscale_all_dim: Takes the place of 0.1 in the denominator, in tenths.
        truncate: Whether the pairs at the two limits are rounded to whole ones.
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
        """The pair, not rounded, that turns `num_turns` times in the original context."""
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
    """Llama 3.1's: long waves are divided by `factor`, short ones stay (Grattafiori et al. 2024).

    Args:
        factor: Divisor of the long waves' frequencies.
        low_freq_factor: Waves longer than the original context over this are the long ones.
        high_freq_factor: Waves shorter than the original context over this are the short ones; the
            ones between are interpolated.
        original_max_position_embeddings: Longest sequence of pretraining.
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
    """Each frequency is divided by a factor of its own, as a GGUF file may have them.

    Args:
        factors: The divisors, `head_dim / 2` of them, that of the fastest pair first.
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
    """Return a `RotaryScaling` from a mapping with the keys of transformers' `rope_scaling`.

    Args:
        scaling: A mapping with `rope_type` and the keys that go with it, see this module; or a
            `RotaryScaling` or None, which are returned as they are.

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


# How each field is checked, and made a number of Python; the others must be above 0.
_CHECKED = {
    "original_max_position_embeddings": _positive_int,
    "sequence_length": _positive_int,
    "truncate": _bool,
    "factors": _several_positive,
}
