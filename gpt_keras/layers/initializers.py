"""The initial weights of GPT-2, in one place for all layers."""

import keras

# Radford et al. 2018, section 4.1; GPT-2's and GPT-3's code keep it.
STANDARD_DEVIATION = 0.02


def gpt2_normal() -> keras.initializers.Initializer:
    """Return GPT-2's initializer of kernels and token embeddings, a new one for each weight."""
    return keras.initializers.RandomNormal(stddev=STANDARD_DEVIATION)
