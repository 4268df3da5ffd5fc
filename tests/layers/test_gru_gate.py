import keras
import numpy as np
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk

GENERATOR = np.random.default_rng(0)
X, Y = GENERATOR.normal(size=(2, 2, 5, 24)).astype("float32")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(gate, x, y):
    """Parisotto et al. 2019, section 3.2, in float64."""
    kernels = {
        name: np.float64(getattr(gate, name).kernel)
        for name in ("reset_y", "reset_x", "update_y", "update_x", "candidate_y", "candidate_x")
    }
    x, y = np.float64(x), np.float64(y)
    r = sigmoid(y @ kernels["reset_y"] + x @ kernels["reset_x"])
    z = sigmoid(y @ kernels["update_y"] + x @ kernels["update_x"] - np.float64(gate.update_bias))
    h = np.tanh(y @ kernels["candidate_y"] + (r * x) @ kernels["candidate_x"])
    return (1 - z) * x + z * h


def built_block(**kwargs):
    block = gk.layers.TransformerBlock(num_heads=4, **kwargs)
    block.build((None, None, 24))
    return block


def test_equals_the_formula():
    gate = gk.layers.GRUGate(bias=1.5)
    gate.build(X.shape, Y.shape)
    np.testing.assert_array_equal(gate.update_bias, np.full(24, 1.5))
    spread_weights(gate)
    np.testing.assert_allclose(gate(X, Y), reference(gate, X, Y), atol=1e-5)
    assert gate.count_params() == 6 * 24 * 24 + 24


def test_a_block_begins_near_the_identity():
    def distance(bias):
        block = built_block(residual=gk.layers.GRUGate(bias=bias))
        return float(np.linalg.norm(block(X) - X) / np.linalg.norm(X))

    # Each of the two gates lets through sigmoid(-bias) at first.
    assert distance(2.0) < 1.1 * (1 - (1 - sigmoid(-2.0)) ** 2)
    assert distance(10.0) < 2e-4
    assert distance(0.0) > 0.5


def test_a_gated_block_equals_its_equation():
    block = spread_weights(built_block(residual=gk.layers.GRUGate()))
    first, second = block.attention_residual, block.feed_forward_residual
    x = reference(first, X, block.attention(block.attention_norm(X)))
    expected = reference(second, x, block.feed_forward(block.feed_forward_norm(np.float32(x))))
    np.testing.assert_allclose(block(X), expected, atol=1e-5)
    assert not np.array_equal(first.reset_y.kernel, second.reset_y.kernel)  # not one layer twice


def test_config_round_trips():
    gate = gk.layers.GRUGate(bias=3.0, kernel_initializer="glorot_uniform")
    assert gk.layers.GRUGate.from_config(gate.get_config()).get_config() == gate.get_config()
    block = spread_weights(built_block(residual=gk.layers.GRUGate(bias=3.0)))
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(block))
    assert copy.get_config() == block.get_config()
    copy.set_weights(block.get_weights())
    np.testing.assert_array_equal(copy(X), block(X))


def test_a_gated_gpt_is_saved_and_extends(tmp_path):
    gpt = spread_weights(gk.GPT(tiny_config(), residual=gk.layers.GRUGate()))
    gates = 2 * 2 * (6 * 16 * 16 + 16)  # two in each of two blocks
    assert gpt.count_params() == gpt.config.num_parameters + gates
    token_ids = np.arange(9)[None]
    logits = gpt(token_ids).numpy()
    gpt.save(tmp_path / "gated.keras")
    loaded = keras.saving.load_model(tmp_path / "gated.keras")
    np.testing.assert_array_equal(loaded(token_ids), logits)
    cache, pieces = gpt.initial_cache(1, 9), []
    for first, last in ((0, 4), (4, 5), (5, 9)):
        piece, update = gpt.extend(token_ids[:, first:last], cache, first, np.zeros(1, "int32"))
        cache = gpt.write(cache, update, first)
        pieces.append(piece)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), logits, atol=1e-4)
    model = gk.CausalLM(gpt)
    model.save(tmp_path / "model.keras")
    loaded = gk.CausalLM.from_preset(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(token_ids), logits)
