"""The initial weights of GPT-2, shared by all layers."""

import keras

# GPT-1 (Radford et al. 2018, section 4.1); the code of GPT-2 and GPT-3 keeps this value.
STANDARD_DEVIATION = 0.02


def gpt2_normal() -> keras.initializers.Initializer:
    """Return a new initializer with GPT-2's normal distribution.

    GPT-2 uses it for kernels and token embeddings. Each weight needs an initializer of its own:
    Keras draws the same numbers again from a shared one.
    """
    return keras.initializers.RandomNormal(stddev=STANDARD_DEVIATION)
