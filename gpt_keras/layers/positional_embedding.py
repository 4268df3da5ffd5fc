"""Position embeddings: learned, sinusoidal and rotary."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from gpt_keras.checks import check_positive, check_positive_int
from gpt_keras.layers.shapes import check_axes
from gpt_keras.rotary_scaling import RotaryScaling, make_rotary_scaling, wave_frequencies


@keras.saving.register_keras_serializable("gpt_keras")
class PositionalEmbedding(keras.layers.Layer):
    """Learned position embeddings, added to the input (GPT-1, GPT-2, GPT-3).

    Radford et al. 2018, section 4.1: "We used learned position embeddings instead of the
    sinusoidal version".

    Args:
        max_sequence_length: Number of positions that have a vector.
        initializer: Initializer of the vectors. Default: GPT-2's normal distribution with standard
            deviation 0.01.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: `(batch, length, hidden_dim)`.
        positions: Integer positions, `(batch, length)` or `(length,)`. Default: 0, 1, 2, ...

    Returns:
        `x` plus the vectors of the positions, `(batch, length, hidden_dim)`.

    Raises:
        ValueError: `length` is above `max_sequence_length`, or the input does not have three axes.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> gk.layers.PositionalEmbedding(max_sequence_length=16)(np.zeros((2, 5, 8))).shape
        TensorShape([2, 5, 8])
    """

    def __init__(self, max_sequence_length: int, initializer=None, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        check_positive_int("max_sequence_length", max_sequence_length)
        self.max_sequence_length = max_sequence_length
        self.initializer = keras.initializers.get(
            initializer or keras.initializers.RandomNormal(stddev=0.01)
        )

    def build(self, input_shape):
        check_axes(input_shape, "batch", "length", "hidden_dim")
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.max_sequence_length, tuple(input_shape)[-1]),
            initializer=self.initializer,
        )

    def call(self, x, positions=None):
        check_axes(x.shape, "batch", "length", "hidden_dim")
        if positions is not None:
            return x + ops.take(self.embeddings, ops.cast(positions, "int32"), axis=0)
        check_length(x, self.max_sequence_length)
        return x + self.embeddings[: ops.shape(x)[1]]  # (length, hidden_dim), broadcast

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "max_sequence_length": self.max_sequence_length,
            "initializer": keras.initializers.serialize(self.initializer),
        }


@keras.saving.register_keras_serializable("gpt_keras")
class SinusoidalPositionalEncoding(keras.layers.Layer):
    """Fixed sines and cosines of the position, added to the input.

    From "Attention Is All You Need" (Vaswani et al. 2017, section 3.5), with `d = hidden_dim`:
    `encoding[p, 2i] = sin(p / base**(2i / d))` and `encoding[p, 2i + 1] = cos(p / base**(2i / d))`.
    Each pair of columns shares one frequency, so a shift of the position rotates the pair. The
    layer has no weights and no maximum sequence length.

    Args:
        base: Base of the frequencies; the wavelengths grow from 2 pi to almost `2 pi * base`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: `(batch, length, hidden_dim)`; `hidden_dim` is even.
        positions: Integer positions, `(batch, length)` or `(length,)`. Default: 0, 1, 2, ...

    Returns:
        `x` plus the encoding, `(batch, length, hidden_dim)`.

    Raises:
        ValueError: `hidden_dim` is odd, `base` is not above 0, or the input does not have three
            axes.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> encoding = gk.layers.SinusoidalPositionalEncoding()(np.zeros((1, 3, 4)))
        >>> np.round(encoding[0, 1], 4).tolist()     # sin 1, cos 1, sin 0.01, cos 0.01
        [0.8414999842643738, 0.5403000116348267, 0.009999999776482582, 1.0]
    """

    def __init__(self, base: float = 10000.0, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        check_positive("base", base)
        self.base = base

    def build(self, input_shape):
        check_axes(input_shape, "batch", "length", "hidden_dim")
        _check_even("hidden_dim", tuple(input_shape)[-1])

    def call(self, x, positions=None):
        check_axes(x.shape, "batch", "length", "hidden_dim")
        if positions is None:
            positions = ops.arange(ops.shape(x)[1], dtype="int32")
        frequencies = wave_frequencies(self.base, x.shape[-1])
        angles = _angles(positions, frequencies)  # (..., length, hidden_dim / 2)
        pairs = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)  # (..., hidden_dim / 2, 2)
        encoding = ops.reshape(pairs, (*ops.shape(angles)[:-1], x.shape[-1]))
        return x + ops.cast(encoding, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "base": self.base}


@keras.saving.register_keras_serializable("gpt_keras")
class RotaryEmbedding(keras.layers.Layer):
    """Rotary position embedding (RoPE) of queries or keys.

    The layer rotates pairs of components by angles that grow with the position (RoFormer, Su et al.
    2021, section 3.2.2). The product of a rotated query and a rotated key then depends on their
    distance, not on their positions.

    Component `i` is paired with component `i + head_dim / 2`, as in the Llama family. The paper
    pairs neighbours, which is the same up to a fixed order of the components.

    Args:
        base: Base of the frequencies; the wavelengths grow from 2 pi to almost `2 pi * base`.
        scaling: RoPE scaling, for contexts longer than in pretraining: a mapping with the keys of
            transformers' `rope_scaling`, see `gpt_keras.rotary_scaling`. Its `rope_type` is
            `"linear"`, `"dynamic"`, `"yarn"`, `"llama3"` or `"factors"`. Default: None, no scaling.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: Queries or keys, `(batch, heads, length, head_dim)`; `head_dim` is even.
        positions: Integer positions, `(batch, length)` or `(length,)`. Default: 0, 1, 2, ...

    Returns:
        The rotated `x`, `(batch, heads, length, head_dim)`: computed in float32, returned in the
        dtype of `x`.

    Raises:
        ValueError: `head_dim` is odd, `base` is not above 0, `scaling` is invalid, or the input
            does not have four axes.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> x = np.ones((1, 1, 2, 2), "float32")
        >>> np.round(gk.layers.RotaryEmbedding()(x)[0, 0, 1], 3).tolist()   # by one radian
        [-0.3009999990463257, 1.3819999694824219]
        >>> scaling = {"rope_type": "linear", "factor": 2.0}
        >>> np.round(gk.layers.RotaryEmbedding(scaling=scaling)(x)[0, 0, 1], 3).tolist()
        [0.39800000190734863, 1.3569999933242798]
    """

    def __init__(
        self,
        base: float = 10000.0,
        scaling: RotaryScaling | Mapping[str, Any] | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        check_positive("base", base)
        self.base = base
        self.scaling = make_rotary_scaling(scaling)

    def build(self, input_shape):
        check_axes(input_shape, "batch", "heads", "length", "head_dim")
        head_dim = tuple(input_shape)[-1]
        _check_even("head_dim", head_dim)
        self._frequencies(head_dim)

    def _frequencies(self, head_dim):
        if self.scaling is None:
            return wave_frequencies(self.base, head_dim)
        return self.scaling.frequencies(self.base, head_dim)

    def call(self, x, positions=None):
        check_axes(x.shape, "batch", "heads", "length", "head_dim")
        if positions is None:
            positions = ops.arange(ops.shape(x)[2], dtype="int32")
        angles = _angles(positions, self._frequencies(x.shape[-1]))  # (..., length, head_dim / 2)
        angles = ops.expand_dims(angles, -3)  # all heads have the same angles
        cos, sin = ops.cos(angles), ops.sin(angles)
        if self.scaling is not None and self.scaling.amplitude != 1.0:
            cos, sin = cos * self.scaling.amplitude, sin * self.scaling.amplitude
        first, second = ops.split(ops.cast(x, "float32"), 2, axis=-1)
        rotated = ops.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
        return ops.cast(rotated, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        scaling = None if self.scaling is None else dataclasses.asdict(self.scaling)
        return {**super().get_config(), "base": self.base, "scaling": scaling}


def check_length(x, max_sequence_length: int) -> None:
    """Raise `ValueError` if a sequence is known to be too long.

    Args:
        x: `(batch, length, ...)`, symbolic or not.
        max_sequence_length: Largest allowed `length`.
    """
    length = x.shape[1]
    if length is not None and length > max_sequence_length:
        raise ValueError(
            f"The sequence has {length} tokens, more than "
            f"`max_sequence_length`={max_sequence_length}."
        )


def _angles(positions, frequencies):
    """Return positions times frequencies in float32: `(..., length, dim / 2)`."""
    frequencies = ops.convert_to_tensor(frequencies, "float32")
    return ops.expand_dims(ops.cast(positions, "float32"), -1) * frequencies


def _check_even(name: str, dim: int) -> None:
    if dim % 2:
        raise ValueError(f"`{name}` must be even, because its components go in pairs; got {dim}.")
