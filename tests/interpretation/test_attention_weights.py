import keras
import numpy as np
import pytest
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk


def test_queries_of_zeros_attend_to_all_alike():
    model = spread_weights(gk.GPT(tiny_config(attention_windows=(None, 2))))
    for variable in model.variables:
        if "/query/" in variable.path:
            variable.assign(np.zeros(variable.shape))
    weights = gk.interpretation.attention_weights(model, np.array([[5, 6, 7, 8]]))
    assert weights.shape == (2, 1, 2, 4, 4)
    everything = np.tri(4) / np.arange(1, 5)[:, None]
    band = np.array([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0.5, 0.5]])
    for head in range(2):
        np.testing.assert_allclose(weights[0, 0, head], everything, atol=1e-6)
        np.testing.assert_allclose(weights[1, 0, head], band, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm_position": "post"},
        {"num_key_value_heads": 1, "position_embedding": "rotary", "norm": "rms_norm"},
        {"use_qk_norm": True, "attention_windows": (3,)},
    ],
)
def test_values_mixed_with_the_weights_are_what_the_layer_gives(changes):
    model = spread_weights(gk.GPT(tiny_config(**changes)))
    block = model.blocks[0]
    ids = np.random.default_rng(0).integers(32, size=(2, 9))
    weights = gk.interpretation.attention_weights(gk.CausalLM(model), ids)[0]
    x = keras.Model(model.inputs[0], block.input)(ids)
    x = block.attention_norm(x) if model.config.norm_position == "pre" else x
    attention = block.attention
    value = np.array(attention.value(x)).reshape(2, 9, -1, attention.head_dim)
    value = np.repeat(value, 2 // value.shape[2], axis=2)
    mixed = np.einsum("bhqk,bkhd->bqhd", weights, value).reshape(2, 9, -1)
    np.testing.assert_allclose(
        attention.output_projection(mixed), attention(x), rtol=1e-4, atol=1e-5
    )


def test_without_causality_padding_gets_nothing():
    model = gk.GPT(tiny_config(causal=False))
    inputs = {
        "token_ids": np.array([[1, 2, 3]]),
        "padding_mask": np.array([[True, True, False]]),
    }
    weights = gk.interpretation.attention_weights(model, inputs)
    assert weights[..., 2].max() == 0
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-6)
    assert weights[..., 0, 1].min() > 0


def test_layers_come_in_their_order():
    config = tiny_config(num_layers=12, attention_windows=tuple(range(1, 13)))
    weights = gk.interpretation.attention_weights(gk.GPT(config), [range(13)])
    seen = (weights[:, 0, 0, -1] > 0).sum(axis=-1)  # by the last token
    assert seen.tolist() == list(range(1, 13))


def test_a_functional_model_of_blocks():
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(10, 8)(ids)
    x = gk.layers.TransformerBlock(2)(x)
    model = keras.Model(ids, keras.layers.Dense(10)(x))
    assert gk.interpretation.attention_weights(model, [[1, 2, 3]]).shape == (1, 1, 2, 3, 3)


def test_a_model_without_blocks_is_an_error():
    model = gk.CausalLM(gk.LSTMBackbone(vocabulary_size=8, num_layers=1, hidden_dim=4))
    with pytest.raises(ValueError, match="TransformerBlocks"):
        gk.interpretation.attention_weights(model, [[1, 2]])


def test_heads_that_look_one_period_back_less_one():
    # The positions alone decide: the query of each is the key of the one `length - 1` before it.
    length = 6
    model = gk.GPT(tiny_config(hidden_dim=48, num_heads=4, num_layers=1))
    attention = model.blocks[0].attention
    shift = np.eye(48, k=-(length - 1))[:, :12] * 1e4
    for variable in model.variables:
        if "embedding" in variable.path or "/query/" in variable.path or "/key/" in variable.path:
            variable.assign(np.zeros(variable.shape))
    model.position_embedding.weights[0].assign(np.eye(48))
    keys, queries = np.zeros((48, 48)), np.zeros((48, 48))
    keys[:, :12] = np.eye(48)[:, :12]
    queries[:, :12] = shift
    attention.key.kernel.assign(keys)
    attention.query.kernel.assign(queries)
    scores = gk.interpretation.induction_scores(model, length=length)
    assert scores.shape == (1, 4)
    np.testing.assert_allclose(scores[0, 0], 1, atol=1e-3)
    # The others attend to all tokens alike.
    alike = np.mean([1 / n for n in range(length + 1, 2 * length + 1)])
    np.testing.assert_allclose(scores[0, 1:], alike, rtol=1e-5)


def test_bad_arguments_for_induction():
    model = gk.GPT(tiny_config())
    for name in ("length", "batch_size", "vocabulary_size"):
        with pytest.raises(ValueError, match=f"`{name}`"):
            gk.interpretation.induction_scores(model, **{name: 0})


def test_induction_scores_of_a_subclassed_network():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding = keras.layers.ReversibleEmbedding(9, 8)
            self.block = gk.layers.TransformerBlock(num_heads=2)

        def call(self, token_ids):
            return self.embedding(self.block(self.embedding(token_ids)), reverse=True)

    assert gk.interpretation.induction_scores(Subclassed(), length=3).shape == (1, 2)
