"""Small models that the tests build."""

import numpy as np

import gpt_keras as gk


def tiny_config(**changes):
    """Two layers, two heads, width 16, vocabulary 32, 48 positions."""
    fields = {
        "vocabulary_size": 32,
        "max_sequence_length": 48,
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 16,
    }
    return gk.GPTConfig(**{**fields, **changes})


def with_a_bad_token(model, token_id):
    """Make all losses of sequences with a token, and their gradients, no numbers.

    The model must not have tied its embeddings, in which the others would be bad, too.
    """
    embeddings = np.array(model.backbone.token_embedding.embeddings)
    embeddings[token_id] = np.nan
    model.backbone.token_embedding.embeddings.assign(embeddings)
    return model


def spread_weights(model, seed=0, stddev=0.3):
    """Replace all weights by larger random ones, so that wrong biases and norms would show."""
    generator = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(variable + generator.normal(0, stddev, variable.shape).astype("float32"))
    return model
