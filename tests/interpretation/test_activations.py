import keras
import numpy as np
import pytest
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk

IDS = np.random.default_rng(0).integers(32, size=(2, 9))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm_position": "post", "position_embedding": "sinusoidal"},
        {"num_key_value_heads": 1, "position_embedding": "rotary", "norm": "rms_norm"},
        {"num_experts": 3, "num_experts_per_token": 2, "attention_windows": (3, None)},
    ],
)
def test_a_block_run_alone_takes_one_stream_to_the_next(changes):
    gpt = spread_weights(gk.GPT(tiny_config(**changes)))
    streams = gk.interpretation.residual_stream(gk.CausalLM(gpt), IDS)
    assert streams.shape == (3, 2, 9, 16)
    for block, before, after in zip(gpt.blocks, streams[:-1], streams[1:], strict=True):
        np.testing.assert_allclose(block(before), after, rtol=1e-4, atol=1e-5)
    last = streams[-1] if gpt.final_norm is None else gpt.final_norm(streams[-1])
    np.testing.assert_allclose(gpt.unembed(last), gpt(IDS), rtol=1e-4, atol=1e-5)


def test_the_parts_add_up_to_the_stream():
    gpt = spread_weights(gk.GPT(tiny_config()))
    streams = gk.interpretation.residual_stream(gpt, IDS)
    parts = {p: gk.interpretation.record(gpt, IDS, p) for p in ("attention", "feed_forward")}
    np.testing.assert_allclose(
        streams[:-1] + parts["attention"] + parts["feed_forward"], streams[1:], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(gk.interpretation.record(gpt, IDS, "output"), streams[1:])
    np.testing.assert_array_equal(gk.interpretation.record(gpt, IDS, "input"), streams[:-1])


def test_heads_projected_are_what_attention_adds():
    gpt = spread_weights(gk.GPT(tiny_config()))
    heads = gk.interpretation.record(gpt, IDS, "heads")
    added = gk.interpretation.record(gpt, IDS, "attention")
    for block, of_layer, expected in zip(gpt.blocks, heads, added, strict=True):
        joined = of_layer.reshape(2, 9, -1)
        np.testing.assert_allclose(
            block.attention.output_projection(joined), expected, rtol=1e-4, atol=1e-5
        )


def test_without_an_edit_the_model_computes_as_ever():
    model = spread_weights(gk.GPTCausalLM(tiny_config()))
    np.testing.assert_array_equal(gk.interpretation.run(model, IDS), model(IDS))
    seen = []
    gk.interpretation.run(model, IDS, lambda point, layer, value: seen.append((point, layer)))
    points = ["input", "heads", "attention", "feed_forward", "output"]
    assert seen == [(point, layer) for layer in range(2) for point in points]


def test_an_edit_ends_with_its_run():
    model = spread_weights(gk.GPTCausalLM(tiny_config()))
    expected = model(IDS)
    edited = gk.interpretation.run(model, IDS, lambda point, layer, value: 0 * value)
    assert np.abs(edited - expected).max() > 0.1
    np.testing.assert_array_equal(model(IDS), expected)
    with pytest.raises(ZeroDivisionError):
        gk.interpretation.run(model, IDS, lambda point, layer, value: 1 / 0)
    np.testing.assert_array_equal(model(IDS), expected)


def test_the_lens_of_a_model_whose_last_block_adds_nothing():
    gpt = spread_weights(gk.GPT(tiny_config()))
    for variable in gpt.blocks[1].variables:
        if "/output/" in variable.path or "/down/" in variable.path:
            variable.assign(np.zeros(variable.shape))
    lens = gk.interpretation.logit_lens(gpt, IDS)
    assert lens.shape == (3, 2, 9, 32)
    np.testing.assert_allclose(lens[1], lens[2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(lens[2], gpt(IDS), rtol=1e-4, atol=1e-5)
    first = gk.interpretation.residual_stream(gpt, IDS)[0]
    np.testing.assert_allclose(lens[0], gpt.unembed(gpt.final_norm(first)), rtol=1e-4, atol=1e-5)


def test_a_subclassed_model():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding = keras.layers.Embedding(10, 8)
            self.block = gk.layers.TransformerBlock(2)
            self.head = keras.layers.Dense(10)

        def call(self, ids):
            return self.head(self.block(self.block(self.embedding(ids))))

    model = Own()
    assert gk.interpretation.residual_stream(model, [[1, 2, 3]]).shape == (3, 1, 3, 8)
    assert gk.interpretation.logit_lens(model, [[1, 2, 3]]).shape == (3, 1, 3, 10)
    assert gk.interpretation.attention_weights(model, [[1, 2, 3]]).shape == (2, 1, 2, 3, 3)
    assert gk.interpretation.token_embeddings(model).shape == (10, 8)


def test_a_quantized_model():
    model = gk.GPTCausalLM(tiny_config())
    model.quantize("int8")
    assert gk.interpretation.residual_stream(model, IDS).shape == (3, 2, 9, 16)
    assert gk.interpretation.token_embeddings(model).shape == (32, 16)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`point` must be one of input, heads"):
        gk.interpretation.record(gk.GPT(tiny_config()), IDS, "middle")
    lstm = gk.CausalLM(gk.LSTMBackbone(vocabulary_size=8, num_layers=1, hidden_dim=4))
    for function in (gk.interpretation.residual_stream, gk.interpretation.logit_lens):
        with pytest.raises(ValueError, match="TransformerBlocks"):
            function(lstm, [[1, 2]])
