import numpy as np
import pytest
from huggingface_fixtures import FIXTURES
from hypothesis import given, settings
from hypothesis import strategies as st

import gpt_keras as gk
from gpt_keras.convert.name_map import Source, whole
from gpt_keras.layers.positional_embedding import RotaryEmbedding


@settings(max_examples=50, deadline=None)
@given(
    transpose=st.booleans(),
    part=st.sampled_from([None, (0, 3), (2, 3)]),
    entry=st.sampled_from([None, 0, 1]),
    heads=st.sampled_from([None, 1, 3]),
    factor=st.sampled_from([1.0, 4.0]),
)
def test_whole_is_the_inverse_of_take(transpose, part, entry, heads, factor):
    source = Source(
        "name",
        transpose=transpose,
        part=part,
        entry=entry,
        num_entries=None if entry is None else 2,
        interleaved_heads=heads,
        factor=factor,
    )
    values = np.random.default_rng(0).normal(size=(5, 12)).astype("float32")
    pieces = [
        (source._replace(part=part and (i, 3), entry=e), values + 100 * i + 1000 * (e or 0))
        for i in (range(3) if part else [0])
        for e in ([None] if entry is None else [0, 1])
    ]
    tensor = whole(reversed(pieces))
    assert tensor.shape == source.shape_there((5, 12))
    if entry is not None:
        tensor = tensor[entry]
    wanted = values + 100 * (part[0] if part else 0) + 1000 * (entry or 0)
    np.testing.assert_array_equal(source.take(tensor, (5, 12)), wanted.astype("float32"))


def test_another_shape_of_the_same_order():
    source = Source("name", shape=(5, 3, 4))
    values = np.arange(60).reshape(5, 12)
    assert source.shape_there((5, 12)) == source.give(values).shape == (5, 3, 4)
    np.testing.assert_array_equal(source.take(source.give(values), (5, 12)), values)


def test_interleaved_heads_turn_in_neighbouring_pairs():
    # Theirs pairs columns (0, 1), (2, 3), ...: turned as complex numbers, here in NumPy.
    theirs = np.random.default_rng(0).normal(size=(1, 7, 2 * 6)).astype("float32")
    pairs = theirs.reshape(1, 7, 2, 3, 2)
    angle = np.arange(7)[:, None, None] * 10000.0 ** (-np.arange(3) / 3)
    turned = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * angle)
    expected = np.stack([turned.real, turned.imag], axis=-1).reshape(1, 7, 12)
    source = Source("name", interleaved_heads=2)
    ours = source.take(theirs[0], (7, 12)).reshape(1, 7, 2, 6).transpose(0, 2, 1, 3)
    ours = RotaryEmbedding()(ours).numpy().transpose(0, 2, 1, 3).reshape(7, 12)
    np.testing.assert_allclose(source.give(ours), expected[0], atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2_untied", "gpt_neo", "llama_bfloat16", "mixtral"])
def test_rows_at_a_time_give_the_same_weights(name, monkeypatch):
    whole = gk.convert.load(FIXTURES / name)
    monkeypatch.setattr("gpt_keras.convert.name_map._ROWS_BYTES", 200)
    for ours, theirs in zip(
        gk.convert.load(FIXTURES / name).get_weights(), whole.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
