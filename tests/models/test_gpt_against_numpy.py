"""Whole models whose positions no other implementation has, against the formulas in NumPy.

Learned and rotary positions are proven on the models of transformers in tests/convert.
"""

import numpy as np
import pytest
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk


def sinusoids(length, width):
    """ "Attention Is All You Need", section 3.5, entry by entry."""
    table = np.zeros((length, width))
    for position in range(length):
        for i in range(width // 2):
            angle = position / 10000 ** (2 * i / width)
            table[position, 2 * i] = np.sin(angle)
            table[position, 2 * i + 1] = np.cos(angle)
    return table


def reference(gpt, token_ids, positions, padding_mask=None):
    """A pre-norm GPT with ReLU for one sequence, in float64."""
    weights = {v.path: np.float64(v) for v in gpt.trainable_variables}
    config, length = gpt.config, len(token_ids)

    def dense(path, x):
        return x @ weights[f"{path}/kernel"] + weights[f"{path}/bias"]

    def norm(path, x):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + config.norm_epsilon)
        return scaled * weights[f"{path}/gamma"] + weights[f"{path}/beta"]

    seen = np.tril(np.ones((length, length), bool)) if config.causal else np.ones(length, bool)
    if padding_mask is not None:
        seen = seen & padding_mask
    # "Attention Is All You Need", section 3.4
    factor = np.sqrt(config.hidden_dim) if config.position_embedding == "sinusoidal" else 1.0
    x = factor * weights["token_embedding/embeddings"][token_ids] + positions
    for block in (f"block_{i}" for i in range(config.num_layers)):
        h = norm(f"{block}/attention_norm", x)
        query, key, value = (
            dense(f"{block}/attention/{name}", h).reshape(length, config.num_heads, -1)
            for name in ("query", "key", "value")
        )
        scores = np.einsum("qhd,khd->hqk", query, key) / np.sqrt(config.head_dim)
        scores = np.where(seen, np.exp(scores - scores.max()), 0)
        mixed = np.einsum("hqk,khd->qhd", scores / scores.sum(-1, keepdims=True), value)
        x = x + dense(f"{block}/attention/output", mixed.reshape(length, -1))
        h = np.maximum(dense(f"{block}/feed_forward/up", norm(f"{block}/feed_forward_norm", x)), 0)
        x = x + dense(f"{block}/feed_forward/down", h)
    return norm("final_norm", x) @ weights["token_embedding/embeddings"].T


@pytest.mark.parametrize(
    ("kind", "positions"), [("sinusoidal", sinusoids(12, 16)), ("none", np.zeros((12, 16)))]
)
def test_logits(kind, positions):
    gpt = spread_weights(gk.GPT(tiny_config(position_embedding=kind, activation="relu")))
    token_ids = np.arange(12) * 5 % 32
    expected = reference(gpt, token_ids, positions)
    np.testing.assert_allclose(gpt(token_ids[None])[0], expected, atol=1e-4)


def test_logits_of_an_encoder_with_padding():
    config = tiny_config(causal=False, position_embedding="sinusoidal", activation="relu")
    gpt = spread_weights(gk.GPT(config))
    token_ids = np.arange(12) * 5 % 32
    mask = np.arange(12) < 7
    expected = reference(gpt, token_ids, sinusoids(12, 16), mask)
    logits = gpt({"token_ids": token_ids[None], "padding_mask": mask[None]})
    np.testing.assert_allclose(logits[0, :7], expected[:7], atol=1e-4)
    unpadded = gpt({"token_ids": token_ids[None, :7], "padding_mask": mask[None, :7]})
    np.testing.assert_allclose(logits[:, :7], unpadded, atol=1e-4)
