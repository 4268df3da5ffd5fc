import keras
import numpy as np
import pytest
from tiny_models import spread_weights

import gpt_keras as gk

X = np.random.default_rng(0).normal(size=(3, 7, 6)).astype("float32")


def built(num_experts=4, num_experts_per_token=2, intermediate_dim=5, **kwargs):
    layer = gk.layers.MixtureOfExperts(
        num_experts, num_experts_per_token, intermediate_dim, **kwargs
    )
    layer.build((None, None, 6))
    return spread_weights(layer, stddev=0.7)


def router(layer, x):
    """The router's probabilities and, token by token, the experts it chooses; float64."""
    logits = np.float64(x) @ np.float64(layer.router.kernel)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return probabilities, np.argsort(-probabilities, axis=-1)[..., : layer.num_experts_per_token]


def reference(layer, x):
    """Mixtral, section 2.1, token by token: only the chosen experts run."""

    def run(expert, token):
        def project(dense, h):
            return h @ np.float64(dense.kernel) + (np.float64(dense.bias) if dense.use_bias else 0)

        h = project(expert.up, token)
        if expert.activation == "swiglu":
            gate = project(expert.gate, token)
            h = gate / (1 + np.exp(-gate)) * h
        else:
            h = np.maximum(h, 0)
        return project(expert.down, h)

    probabilities, chosen = router(layer, x)
    y = np.zeros(x.shape)
    for place in np.ndindex(x.shape[:2]):
        weights = probabilities[place][chosen[place]]
        for weight, e in zip(weights / weights.sum(), chosen[place], strict=True):
            y[place] += weight * run(layer.experts[e], np.float64(x[place]))
    return y


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"num_experts_per_token": 1},
        {"num_experts": 3, "num_experts_per_token": 3},
        {"activation": "relu", "use_bias": True},
        {"num_experts": 1, "num_experts_per_token": 1},
    ],
    ids=str,
)
def test_equals_the_formula(arguments):
    layer = built(**arguments)
    np.testing.assert_allclose(layer(X), reference(layer, X), atol=1e-5)


def test_the_loss_is_the_formula_and_only_in_training():
    layer = built(router_loss_weight=0.5)
    layer(X)
    assert layer.losses == []
    layer(X, training=True)
    probabilities, chosen = router(layer, X)
    share = [np.mean((chosen == e).any(-1)) for e in range(4)]
    expected = 0.5 * 4 * np.sum(share * probabilities.mean((0, 1)))
    assert [float(loss) for loss in layer.losses] == pytest.approx([expected], abs=1e-6)
    silent = built(router_loss_weight=0.0)
    silent(X, training=True)
    assert silent.losses == []


def test_the_loss_is_smallest_where_the_load_is_even():
    layer = built(num_experts_per_token=1, router_loss_weight=1.0)
    # Tokens along four axes, each of them sent to an expert of its own: two thirds of 1.5.
    layer.router.kernel.assign(20 * np.eye(6, 4))
    layer(np.eye(4, 6, dtype="float32")[None], training=True)
    assert float(layer.losses[0]) == pytest.approx(1.0, abs=1e-4)
    layer(np.tile(np.eye(1, 6, dtype="float32"), (1, 4, 1)), training=True)
    assert float(layer.losses[-1]) == pytest.approx(4.0, abs=1e-4)


def test_it_trains_the_router_by_the_loss_alone():
    layer = built(num_experts_per_token=1, router_loss_weight=1.0)
    model = keras.Sequential([keras.Input((None, 6)), layer])
    model.compile(keras.optimizers.SGD(0.5), lambda y, predicted: 0 * predicted, jit_compile=False)
    before = model.evaluate(X, X, verbose=0)
    layer(X, training=True)
    first = float(layer.losses[-1])
    model.fit(X, X, epochs=30, verbose=0)
    layer(X, training=True)
    assert before == 0
    assert float(layer.losses[-1]) < first


def test_the_router_is_float32_under_mixed_precision():
    half = gk.layers.MixtureOfExperts(4, 2, 5, dtype="mixed_bfloat16")
    half.build((None, None, 6))
    exact = built()
    half.set_weights(exact.get_weights())
    y = half(X)
    assert y.dtype == "bfloat16"
    assert half.router.compute_dtype == "float32"
    error = np.linalg.norm(np.float32(keras.ops.cast(y, "float32")) - exact(X))
    assert error / np.linalg.norm(exact(X)) < 0.03


def test_config_round_trip():
    layer = built(activation="gelu", use_bias=True, router_loss_weight=0.2)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.get_config() == layer.get_config()
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(copy(X), layer(X))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 5), r"num_experts.*got 0"),
        ((2, 3, 5), r"`num_experts_per_token` must be at most `num_experts`=2, got 3"),
        ((2, 1, 0), r"intermediate_dim.*got 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        gk.layers.MixtureOfExperts(*arguments)
    with pytest.raises(ValueError, match=r"router_loss_weight.*-1"):
        gk.layers.MixtureOfExperts(2, 1, 5, router_loss_weight=-1)
