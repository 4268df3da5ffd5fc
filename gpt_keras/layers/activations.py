"""Activation functions of the feed-forward layer."""

from collections.abc import Callable

import keras
from keras import ops

from gpt_keras.config import ACTIVATIONS


def _relu_squared(x):
    return ops.square(ops.relu(x))


def _exact_gelu(x):
    # Use erf: keras.ops.gelu(approximate=False) uses erfc, which ONNX lacks.
    return 0.5 * x * (1.0 + ops.erf(x * 2**-0.5))


def _gelu_tanh(x):
    return ops.gelu(x, approximate=True)


_FUNCTIONS = {
    "relu": ops.relu,
    "relu_squared": _relu_squared,
    "gelu": _exact_gelu,
    "gelu_tanh": _gelu_tanh,
    "swiglu": ops.silu,  # FeedForward applies it to the gate
}


def activation_function(activation) -> Callable:
    """Return the function of an activation.

    Args:
        activation: A name in `gpt_keras.config.ACTIVATIONS`, a name in `keras.activations`, a
            callable, or the config of a callable.

    Raises:
        ValueError: The activation is unknown.

    Example:
        >>> activation_function("relu_squared")(3.0).numpy().tolist()
        9.0
    """
    if isinstance(activation, str) and activation in _FUNCTIONS:
        return _FUNCTIONS[activation]
    try:
        return keras.activations.get(activation)
    except ValueError as error:
        raise ValueError(
            f"`activation` must be one of {', '.join(ACTIVATIONS)}, a name of keras.activations or "
            f"a callable, got {activation!r}."
        ) from error


def serialized_activation(activation):
    """Return an activation in the form that a layer's config stores.

    Args:
        activation: As in `activation_function`.

    Returns:
        A name, or the Keras config of a callable.
    """
    if isinstance(activation, str):
        return activation
    return keras.activations.serialize(keras.activations.get(activation))
