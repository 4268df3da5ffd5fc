import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import spread_weights

import gpt_keras as gk
from gpt_keras.layers import attention


def sees(layer, query, key):
    """Whether a token sees another, from the definition of causal and banded attention."""
    distance = query - key if layer.causal else abs(query - key)
    return distance >= 0 and (layer.window is None or distance < layer.window)


def reference(layer, x, padding_mask=None):
    """Attention head by head and query by query, in float64."""

    def project(dense):
        return x @ np.float64(dense.kernel) + (np.float64(dense.bias) if dense.use_bias else 0)

    query, key, value = project(layer.query), project(layer.key), project(layer.value)
    dim, group = layer.head_dim, layer.num_heads // layer.num_key_value_heads
    if layer.use_qk_norm:
        query, key = _normed(layer, layer.query_norm, query), _normed(layer, layer.key_norm, key)
    mixed = np.zeros((*x.shape[:2], layer.num_heads * dim))
    for b in range(x.shape[0]):
        for head in range(layer.num_heads):
            q = query[b, :, head * dim : (head + 1) * dim]
            shared = head // group
            k = key[b, :, shared * dim : (shared + 1) * dim]
            v = value[b, :, shared * dim : (shared + 1) * dim]
            for t in range(x.shape[1]):
                seen = [s for s in range(x.shape[1]) if sees(layer, t, s)]
                if padding_mask is not None:
                    seen = [s for s in seen if padding_mask[b, s]]
                scores = q[t] @ k[seen].T / np.sqrt(dim)
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                mixed[b, t, head * dim : (head + 1) * dim] = weights @ v[seen]
    output = layer.output_projection
    return mixed @ np.float64(output.kernel) + (np.float64(output.bias) if output.use_bias else 0)


def _normed(layer, norm, x):
    heads = x.reshape(*x.shape[:2], -1, layer.head_dim)
    heads = heads / np.sqrt((heads**2).mean(axis=-1, keepdims=True) + layer.norm_epsilon)
    return (heads * np.float64(norm.scale)).reshape(x.shape)


def built(*args, width=24, **kwargs):
    layer = gk.layers.CausalMultiHeadAttention(*args, **kwargs)
    layer.build((None, None, width))
    return spread_weights(layer)


@pytest.mark.parametrize("block", [64, 3, 1])
@pytest.mark.parametrize(
    "arguments",
    [
        {"num_heads": 1},
        {"num_heads": 4},
        {"num_heads": 4, "num_key_value_heads": 2},
        {"num_heads": 6, "num_key_value_heads": 1},
        {"num_heads": 3, "head_dim": 5},
        {"num_heads": 4, "window": 3},
        {"num_heads": 2, "window": 1},
        {"num_heads": 2, "window": 7},
        {"num_heads": 4, "num_key_value_heads": 2, "causal": False},
        {"num_heads": 2, "causal": False, "window": 2},
        {"num_heads": 2, "use_bias": False},
        {"num_heads": 4, "num_key_value_heads": 2, "use_bias": False, "use_qkv_bias": True},
        {"num_heads": 2, "use_bias": True, "use_qkv_bias": False},
        {"num_heads": 4, "num_key_value_heads": 2, "use_qk_norm": True, "norm_epsilon": 0.1},
    ],
    ids=str,
)
def test_equals_the_formula(arguments, block, monkeypatch):
    monkeypatch.setattr(attention, "_BLOCK", block)
    monkeypatch.setattr(attention, "_MOST_BLOCKS", 3)
    layer = built(**arguments)
    biased = [p.use_bias for p in (layer.query, layer.key, layer.value, layer.output_projection)]
    use_bias = arguments.get("use_bias", True)
    assert biased == [arguments.get("use_qkv_bias", use_bias)] * 3 + [use_bias]
    x = np.random.default_rng(0).normal(size=(2, 7, 24)).astype("float32")
    np.testing.assert_allclose(layer(x), reference(layer, np.float64(x)), atol=1e-5)


@pytest.mark.parametrize("window", [None, 100])
def test_long_sequences_are_taken_in_blocks_and_short_ones_not(window, monkeypatch):
    layer = built(2, window=window)
    x = np.random.default_rng(0).normal(size=(1, 600, 24)).astype("float32")
    seen, mix = [], layer._mix
    monkeypatch.setattr(
        layer,
        "_mix",
        lambda q, k, *rest: seen.append((q.shape[2], k[0].shape[2])) or mix(q, k, *rest),
    )
    y = layer(x)
    if window is None:
        assert seen == [(128, 128), (128, 256), (128, 384), (128, 512), (88, 600)]
    else:
        assert seen == [(128, 128), (128, 227), (128, 227), (128, 227), (88, 187)]
    monkeypatch.setattr(attention, "_BLOCK", 600)
    np.testing.assert_allclose(layer(x), y, atol=1e-5)
    assert seen[5:] == [(600, 600)]


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_heads": 4},
        {"num_heads": 4, "num_key_value_heads": 2, "use_qk_norm": True},
        {"num_heads": 6, "num_key_value_heads": 1, "window": 3},
        {"num_heads": 4, "causal": False},
    ],
    ids=str,
)
def test_the_way_that_gpus_take_gives_the_same(arguments, monkeypatch):
    layer = built(**arguments, dropout=0.5)
    x = np.random.default_rng(0).normal(size=(2, 70, 24)).astype("float32")
    padding = {} if layer.causal else {"padding_mask": np.arange(70) < [[70], [40]]}
    expected = layer(x, **padding)
    taken = []
    monkeypatch.setattr(attention, "has_gpu", lambda: True)
    monkeypatch.setattr(
        attention, "_fused", lambda *parts, fused=attention._fused: taken.append(1) or fused(*parts)
    )
    np.testing.assert_allclose(layer(x, **padding), expected, rtol=1e-4, atol=1e-5)
    assert taken == [1]
    layer(x, **padding, training=True)  # it has no dropout
    assert taken == [1]


def test_padding_is_seen_by_nobody_without_causal():
    layer = built(4, num_key_value_heads=2, causal=False)
    x = np.random.default_rng(0).normal(size=(3, 6, 24)).astype("float32")
    mask = np.array([[True] * 6, [True] * 2 + [False] * 4, [False, True] * 3])
    y = layer(x, padding_mask=mask)
    np.testing.assert_allclose(y, reference(layer, np.float64(x), mask), atol=1e-5)
    changed = np.where(mask[..., None], x, 100.0).astype("float32")
    np.testing.assert_array_equal(np.asarray(layer(changed, padding_mask=mask))[mask], y[mask])


def test_what_only_causal_or_only_other_attention_can_do():
    x = np.zeros((1, 3, 24), "float32")
    with pytest.raises(ValueError, match=r"`padding_mask` must be None for causal attention"):
        built(4)(x, padding_mask=np.ones((1, 3), bool))
    layer = built(4, causal=False)
    with pytest.raises(ValueError, match=r"`extend` needs causal attention"):
        layer.extend(x, layer.initial_cache(1, 3), 0, np.zeros(1, "int32"))


@pytest.mark.parametrize(("rotary", "window"), [(False, None), (True, None), (True, 3), (False, 1)])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_extend_in_any_split_equals_call(rotary, window, data):
    rotary_embedding = gk.layers.RotaryEmbedding() if rotary else None
    layer = built(4, num_key_value_heads=2, rotary_embedding=rotary_embedding, window=window)
    length = data.draw(st.integers(2, 8))
    cuts = sorted(data.draw(st.sets(st.integers(1, length - 1))) | {0, length})
    x = np.random.default_rng(length).normal(size=(2, length, 24)).astype("float32")
    cache, starts, pieces = layer.initial_cache(2, length + 3), np.zeros(2, "int32"), []
    for first, last in itertools.pairwise(cuts):
        y, update = layer.extend(x[:, first:last], cache, first, starts)
        cache = gk.layers.write_cache(cache, update, first)
        pieces.append(y)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), layer(x), atol=1e-5)


def test_later_tokens_change_nothing_before_them():
    layer = built(4)
    x = np.random.default_rng(0).normal(size=(1, 6, 24)).astype("float32")
    changed = x.copy()
    changed[:, 4] += 1
    np.testing.assert_array_equal(layer(x)[:, :4], layer(changed)[:, :4])
    assert not np.allclose(layer(x)[:, 4:], layer(changed)[:, 4:])


@pytest.mark.parametrize(
    ("dtype", "precision"),
    [("mixed_bfloat16", 2**-8), ("mixed_float16", 2**-11), ("bfloat16", 2**-8)],
)
def test_half_precision_stays_near_float32_and_finite(dtype, precision):
    exact = built(4)
    half = gk.layers.CausalMultiHeadAttention(4, dtype=dtype)
    half.build((None, None, 24))
    half.set_weights(exact.get_weights())
    # Inputs whose scores overflow a float16 softmax done without subtracting the maximum.
    x = 3 * np.random.default_rng(0).normal(size=(2, 7, 24)).astype("float32")
    y = np.float32(keras.ops.convert_to_numpy(keras.ops.cast(half(x), "float32")))
    assert np.isfinite(y).all()
    error = np.linalg.norm(y - exact(x)) / np.linalg.norm(exact(x))
    assert error < 8 * precision


def test_dropout_acts_in_training_only():
    layer = built(4, dropout=0.5)
    x = np.random.default_rng(0).normal(size=(1, 6, 24)).astype("float32")
    np.testing.assert_array_equal(layer(x), layer(x))
    assert not np.allclose(layer(x, training=True), layer(x, training=True))


@pytest.mark.filterwarnings("error")
def test_one_token_is_a_case_like_any_other():
    layer = gk.layers.CausalMultiHeadAttention(2)
    layer.build((None, None, 8))
    spread_weights(layer)
    x = np.random.default_rng(0).normal(size=(2, 1, 8)).astype("float32")
    np.testing.assert_allclose(layer(x), reference(layer, np.float64(x)), atol=1e-5)
    np.testing.assert_array_equal(layer.attention_weights(x), np.ones((2, 2, 1, 1)))


def test_config_round_trip():
    layer = built(
        4,
        num_key_value_heads=2,
        rotary_embedding=gk.layers.RotaryEmbedding(50.0),
        use_bias=False,
        use_qkv_bias=True,
        window=3,
        causal=False,
    )
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.get_config() == layer.get_config()
    assert copy.rotary_embedding.base == 50.0
    copy.set_weights(layer.get_weights())
    x = np.random.default_rng(0).normal(size=(1, 6, 24)).astype("float32")
    np.testing.assert_array_equal(copy(x), layer(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 5}, "num_heads=5 and a width of 24"),
        ({"num_heads": 4, "num_key_value_heads": 3}, "num_heads=4 and num_key_value_heads=3"),
        ({"num_heads": 0}, "num_heads"),
        ({"num_heads": 4, "dropout": 1.5}, "dropout.*1.5"),
        ({"num_heads": 4, "window": 0}, "window.*got 0"),
    ],
    ids=str,
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        built(**arguments)
