import itertools
import pathlib

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"


def load_huggingface(name):
    """Build the GPT of a stored Hugging Face model, and give it that model's weights."""
    stored = dict(np.load(FIXTURES / f"{name}.npz"))
    shape = {key[7:]: int(value) for key, value in stored.items() if key.startswith("config/")}
    weight = {key[19:]: value for key, value in stored.items() if "weight/transformer." in key}
    gpt = gk.GPT(
        gk.GPTConfig(
            vocabulary_size=shape["vocab_size"],
            max_sequence_length=shape["n_positions"],
            num_layers=shape["n_layer"],
            num_heads=shape["n_head"],
            hidden_dim=shape["n_embd"],
        )
    )

    def assign(layer, *values):
        layer.set_weights(values)

    assign(gpt.token_embedding, weight["wte.weight"])
    assign(gpt.position_embedding, weight["wpe.weight"])
    for i, block in enumerate(gpt.blocks):
        prefix = f"h.{i}."
        kernels = np.split(weight[prefix + "attn.c_attn.weight"], 3, axis=1)
        biases = np.split(weight[prefix + "attn.c_attn.bias"], 3)
        attention = block.attention
        for layer, kernel, bias in zip(
            (attention.query, attention.key, attention.value), kernels, biases, strict=True
        ):
            assign(layer, kernel, bias)
        for layer, theirs in (
            (attention.output_projection, "attn.c_proj"),
            (block.feed_forward.up, "mlp.c_fc"),
            (block.feed_forward.down, "mlp.c_proj"),
            (block.attention_norm, "ln_1"),
            (block.feed_forward_norm, "ln_2"),
        ):
            names = (f"{prefix}{theirs}.weight", f"{prefix}{theirs}.bias")
            assign(layer, *(weight[name] for name in names))
    assign(gpt.final_norm, weight["ln_f.weight"], weight["ln_f.bias"])
    return gpt, stored


@pytest.mark.parametrize("name", ["gpt2_tiny", "gpt2_one_head"])
def test_logits_and_loss_equal_hugging_face(name):
    gpt, stored = load_huggingface(name)
    logits = gpt(stored["token_ids"]).numpy()
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, stored["logits"], atol=1e-4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(
        stored["token_ids"][:, 1:], logits[:, :-1]
    )
    assert float(loss) == pytest.approx(float(stored["loss"]), abs=1e-4)


VARIANTS = [
    {},
    {"position_embedding": "rotary", "norm": "rms_norm", "activation": "swiglu", "num_heads": 4}
    | {"num_key_value_heads": 2, "use_bias": False, "tie_embeddings": False},
    {"position_embedding": "sinusoidal", "norm_position": "post", "activation": "relu"},
    {"position_embedding": "none", "activation": "gelu", "head_dim": 10, "num_key_value_heads": 1},
    # GPT-3's bands, Qwen2's biases, Mixtral's experts with Mistral's window.
    {"attention_windows": (None, 3)},
    {"position_embedding": "rotary", "norm": "rms_norm", "activation": "swiglu", "num_heads": 4}
    | {"num_key_value_heads": 2, "use_bias": False, "use_qkv_bias": True},
    {"position_embedding": "rotary", "activation": "swiglu", "attention_windows": (2,)}
    | {"num_experts": 3, "num_experts_per_token": 2, "use_bias": False},
]
_MODELS = {}


def variant(i):
    if i not in _MODELS:
        _MODELS[i] = spread_weights(gk.GPT(tiny_config(**VARIANTS[i])))
    return _MODELS[i]


@pytest.mark.parametrize("i", range(len(VARIANTS)))
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_extend_in_any_split_equals_call(i, data):
    gpt = variant(i)
    lengths = data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=3), label="lengths")
    longest = max(lengths)
    cuts = {0, longest} | data.draw(st.sets(st.integers(1, max(1, longest - 1))), label="cuts")
    room = data.draw(st.integers(0, 3), label="room")
    generator = np.random.default_rng(data.draw(st.integers(0, 99), label="seed"))
    rows = [generator.integers(0, 32, length) for length in lengths]

    # Rows end together: shorter ones start later.
    token_ids = np.zeros((len(rows), longest), "int32")
    for row, ids in enumerate(rows):
        token_ids[row, longest - len(ids) :] = ids
    starts = np.array([longest - length for length in lengths], "int32")
    cache, logits = gpt.initial_cache(len(rows), longest + room), []
    for first, last in itertools.pairwise(sorted(cuts)):
        piece, update = gpt.extend(token_ids[:, first:last], cache, first, starts)
        cache = gpt.write(cache, update, first)
        logits.append(piece)
    logits = np.concatenate(logits, axis=1)
    for row, ids in enumerate(rows):
        np.testing.assert_allclose(logits[row, starts[row] :], gpt(ids[None])[0], atol=1e-4)


@pytest.mark.parametrize("i", range(len(VARIANTS)))
def test_later_tokens_leave_earlier_logits_exactly_unchanged(i):
    gpt = variant(i)
    token_ids = np.arange(10)[None] % 32
    logits = gpt(token_ids).numpy()
    for position in (1, 5, 9):
        changed = token_ids.copy()
        changed[0, position] = 31
        np.testing.assert_array_equal(gpt(changed)[:, :position], logits[:, :position])


def test_initial_weights_are_those_of_gpt2():
    gpt = gk.GPT(tiny_config(hidden_dim=128, vocabulary_size=500, num_layers=8, num_heads=4))
    deviation = {v.path: float(np.std(v)) for v in gpt.trainable_variables}

    def mean_of(end):
        return np.mean([value for path, value in deviation.items() if path.endswith(end)])

    assert mean_of("token_embedding/embeddings") == pytest.approx(0.02, rel=0.03)
    assert mean_of("position_embedding/embeddings") == pytest.approx(0.01, rel=0.05)
    assert mean_of("query/kernel") == pytest.approx(0.02, rel=0.03)
    assert mean_of("up/kernel") == pytest.approx(0.02, rel=0.03)
    residual = 0.02 / np.sqrt(2 * 8)
    assert mean_of("attention/output/kernel") == pytest.approx(residual, rel=0.03)
    assert mean_of("down/kernel") == pytest.approx(residual, rel=0.03)
    assert mean_of("bias") == 0
    # No two blocks may begin alike, which one shared seed would bring about.
    kernels = [np.asarray(block.attention.query.kernel) for block in gpt.blocks]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(kernels, 2))
    block = gpt.blocks[0]
    assert not np.array_equal(block.attention.query.kernel, block.attention.key.kernel)


def test_projections_into_the_stream_are_smaller_only_where_norms_stand_before():
    gpt = gk.GPT(tiny_config(hidden_dim=128, num_layers=8, num_heads=4, norm_position="post"))
    for block in gpt.blocks:
        for layer in (block.attention.output_projection, block.feed_forward.down):
            assert np.std(layer.kernel) == pytest.approx(0.02, rel=0.03)


def test_the_summary_names_every_layer():
    lines = []
    variant(0).summary(print_fn=lines.append)
    text = "\n".join(lines)
    for name in ("token_embedding", "position_embedding", "block_0", "block_1", "final_norm"):
        assert name in text


def test_inner_outputs_can_be_had():
    gpt = variant(0)
    inner = keras.Model(gpt.input, gpt.get_layer("block_0").output)
    assert inner(np.zeros((1, 4), "int32")).shape == (1, 4, 16)


@pytest.mark.parametrize("i", range(len(VARIANTS)))
def test_config_round_trip(i):
    gpt = variant(i)
    clone = gk.GPT.from_config(gpt.get_config())
    assert clone.config == gpt.config
    clone.set_weights(gpt.get_weights())
    token_ids = np.arange(6)[None]
    np.testing.assert_array_equal(clone(token_ids), gpt(token_ids))


def test_mixed_precision_keeps_float32_weights_and_logits():
    gpt = gk.GPT(tiny_config(), dtype="mixed_bfloat16")
    gpt.set_weights(variant(0).get_weights())
    assert {v.dtype for v in gpt.trainable_variables} == {"float32"}
    token_ids = np.arange(20)[None]
    logits = gpt(token_ids).numpy()
    assert logits.dtype == np.float32
    exact = variant(0)(token_ids).numpy()
    assert np.linalg.norm(logits - exact) / np.linalg.norm(exact) < 0.03
    assert gk.GPT.from_config(gpt.get_config()).dtype_policy.name == "mixed_bfloat16"


def test_dropout_stands_in_the_three_places_of_gpt2():
    gpt = gk.GPT(tiny_config(dropout=0.25))
    dropouts = [
        layer.path
        for layer in gpt._flatten_layers()
        if isinstance(layer, keras.layers.Dropout) and layer.rate == 0.25
    ]
    assert len(dropouts) == 1 + 2 * 2  # embeddings; in each block attention weights, residual
    token_ids = np.arange(6)[None]
    np.testing.assert_array_equal(gpt(token_ids), gpt(token_ids))
    assert not np.allclose(gpt(token_ids, training=True), gpt(token_ids, training=True))


def test_bad_input():
    gpt = variant(0)
    with pytest.raises(ValueError, match=r"49 tokens.*max_sequence_length`=48"):
        gpt(np.zeros((1, 49), "int32"))
    with pytest.raises(ValueError, match=r"\[0, 32\).*from 0 to 32"):
        gpt(np.array([[0, 32]]))
    with pytest.raises(ValueError, match=r"from -1 to 3"):
        gpt(np.array([[-1, 3]]))
    with pytest.raises(ValueError, match=r"config.*GPTConfig.*'gpt2'"):
        gk.GPT("gpt2")
