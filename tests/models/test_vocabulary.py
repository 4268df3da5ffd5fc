import keras
import numpy as np
import pytest
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk


@pytest.mark.parametrize(
    "changes",
    [{}, {"tie_embeddings": False}, {"norm_position": "post"}, {"num_experts": 2}],
    ids=str,
)
def test_more_token_ids_leave_the_others_as_they_were(changes):
    gpt = spread_weights(gk.GPT(tiny_config(**changes)))
    larger = gpt.with_vocabulary_size(40)
    assert larger.config == gpt.config.replace(vocabulary_size=40)
    token_ids = np.arange(12)[None]
    logits = larger(token_ids)
    assert logits.shape == (1, 12, 40)
    np.testing.assert_allclose(logits[..., :32], gpt(token_ids), atol=1e-5)
    new = np.array(larger.token_embedding.embeddings)[32:]
    assert np.std(new) == pytest.approx(0.02, rel=0.3)  # as in a new model
    with pytest.raises(ValueError, match="at least the model's own, got 31"):
        gpt.with_vocabulary_size(31)


@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_hidden_states_are_what_the_logits_are_made_of(norm_position):
    gpt = spread_weights(gk.GPT(tiny_config(norm_position=norm_position)))
    last = "final_norm" if norm_position == "pre" else "block_1"
    inner = keras.Model(gpt.input, gpt.get_layer(last).output)
    token_ids = np.arange(12)[None]
    hidden = gpt.hidden_states(token_ids)
    np.testing.assert_allclose(hidden, inner(token_ids), atol=1e-5)
    expected = np.array(hidden) @ np.array(gpt.token_embedding.embeddings).T
    np.testing.assert_allclose(gpt.unembed(hidden), expected, atol=1e-4)
    np.testing.assert_allclose(gpt(token_ids), expected, atol=1e-4)


def test_an_encoder_has_hidden_states_too():
    gpt = spread_weights(gk.GPT(tiny_config(causal=False)))
    inputs = {"token_ids": np.arange(6)[None], "padding_mask": np.array([[True] * 4 + [False] * 2])}
    np.testing.assert_allclose(gpt.unembed(gpt.hidden_states(inputs)), gpt(inputs), atol=1e-5)
