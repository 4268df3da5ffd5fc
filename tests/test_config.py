import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_config

import gpt_keras as gk
from gpt_keras.config import ACTIVATIONS, NORM_POSITIONS, NORMS, POSITION_EMBEDDINGS


@pytest.mark.parametrize(
    ("activation", "norm", "norm_position", "use_bias"),
    itertools.product(ACTIVATIONS, NORMS, NORM_POSITIONS, (True, False)),
)
def test_num_parameters_is_that_of_the_built_model(activation, norm, norm_position, use_bias):
    config = tiny_config(
        activation=activation, norm=norm, norm_position=norm_position, use_bias=use_bias
    )
    assert gk.GPT(config).count_params() == config.num_parameters


@pytest.mark.parametrize("position_embedding", POSITION_EMBEDDINGS)
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_num_parameters_with_each_kind_of_embedding(position_embedding, tie_embeddings):
    config = tiny_config(
        position_embedding=position_embedding,
        tie_embeddings=tie_embeddings,
        num_heads=4,
        num_key_value_heads=2,
        head_dim=6,
        intermediate_dim=20,
    )
    assert gk.GPT(config).count_params() == config.num_parameters


def test_published_parameter_counts():
    # The released checkpoints, without the mask buffers that some counts include.
    published = {
        "gpt2_small": 124_439_808,
        "gpt2_medium": 354_823_168,
        "gpt2_large": 774_030_080,
        "gpt2_xl": 1_557_611_200,
    }
    assert {name: gk.presets.get(name).num_parameters for name in published} == published


def test_flops_per_token_of_gpt2_small():
    # By hand: 2 x (12 x 12 x 768^2 + 50257 x 768) + 4 x 12 x 768 x 1024.
    expected = 2 * (12 * 12 * 768**2 + 50257 * 768) + 4 * 12 * 768 * 1024
    assert gk.presets.get("gpt2_small").flops_per_token(1024) == expected


def test_kv_cache_bytes_is_the_size_of_the_cache():
    config = tiny_config(num_heads=4, num_key_value_heads=2)
    cache = gk.GPT(config).initial_cache(3, 10)
    size = sum(tensor.numpy().nbytes for pair in cache for tensor in pair)
    assert config.kv_cache_bytes(batch_size=3, length=10) == size
    assert config.kv_cache_bytes(batch_size=3, length=10, dtype="bfloat16") == size // 2


LINEAR = {"rope_type": "linear", "factor": 2}
FACTORS = {"rope_type": "factors", "factors": [1.0, 2.0]}


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 5),
    st.sampled_from(ACTIVATIONS),
    st.floats(0, 0.99),
    st.sampled_from(POSITION_EMBEDDINGS),
)
def test_json_and_dict_round_trips(num_layers, activation, dropout, position_embedding):
    config = tiny_config(
        num_layers=num_layers,
        activation=activation,
        dropout=dropout,
        position_embedding=position_embedding,
    )
    assert gk.GPTConfig.from_json(config.to_json()) == config
    assert gk.GPTConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary_size": 0}, "vocabulary_size.*0"),
        ({"num_layers": 2.5}, "num_layers.*2.5"),
        ({"num_layers": True}, "num_layers.*True"),
        ({"max_sequence_length": -1}, "max_sequence_length.*-1"),
        ({"num_heads": 3}, "hidden_dim=16 and num_heads=3"),
        ({"num_heads": 4, "num_key_value_heads": 3}, "num_heads=4 and num_key_value_heads=3"),
        ({"dropout": 1.0}, r"dropout.*\[0, 1\).*1.0"),
        ({"dropout": "a lot"}, "dropout.*a lot"),
        ({"activation": "tanh"}, "activation.*gelu_tanh.*'tanh'"),
        ({"norm": "batch"}, "norm.*rms_norm.*'batch'"),
        ({"norm_position": "middle"}, "norm_position"),
        ({"position_embedding": "alibi"}, "position_embedding.*rotary.*'alibi'"),
        ({"norm_epsilon": 0}, "norm_epsilon"),
        ({"rotary_base": float("nan")}, "rotary_base"),
        ({"use_bias": 1}, "use_bias"),
        ({"head_dim": 3, "position_embedding": "rotary"}, "head_dim.*even.*3"),
        ({"use_feed_forward_bias": "no"}, "use_feed_forward_bias.*'no'"),
        ({"rotary_scaling": LINEAR}, "rotary_scaling.*None unless.*'learned'"),
        ({"rotary_scaling": {"factor": 2.0}, "position_embedding": "rotary"}, "rope_type.*None"),
        (
            {"rotary_scaling": FACTORS, "position_embedding": "rotary", "head_dim": 8},
            "factors.*4 entries, got 2",
        ),
        (
            {"hidden_dim": 15, "num_heads": 3, "position_embedding": "sinusoidal"},
            "hidden_dim.*even.*15",
        ),
    ],
)
def test_bad_fields_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**changes)


def test_unknown_and_missing_fields_are_listed():
    fields = tiny_config().to_dict() | {"widht": 3}
    del fields["num_heads"]
    with pytest.raises(ValueError, match=r"unknown \['widht'\], missing \['num_heads'\]"):
        gk.GPTConfig.from_dict(fields)
    with pytest.raises(ValueError, match="not JSON"):
        gk.GPTConfig.from_json("{")
    with pytest.raises(ValueError, match="mapping"):
        gk.GPTConfig.from_json("[]")


def test_numbers_of_numpy_become_those_of_python():
    config = tiny_config(vocabulary_size=np.int64(32), dropout=np.float32(0.5))
    assert gk.GPTConfig.from_json(config.to_json()) == config
    assert gk.GPT(config).count_params() == config.num_parameters


def test_replace_keeps_a_head_dim_that_is_no_quotient():
    config = gk.presets.get("gpt3_13b")
    assert config.hidden_dim % config.num_heads
    assert config.replace(dropout=0.1).head_dim == config.head_dim == 128


def test_replace_lets_defaults_follow_and_keeps_what_was_chosen():
    config = tiny_config().replace(hidden_dim=32)
    assert (config.head_dim, config.intermediate_dim) == (16, 128)
    config = tiny_config(intermediate_dim=50, num_heads=4, num_key_value_heads=2)
    variant = config.replace(hidden_dim=32, dropout=0.1)
    assert (variant.intermediate_dim, variant.num_key_value_heads) == (50, 2)
    assert (variant.head_dim, variant.dropout) == (8, 0.1)
    with pytest.raises(ValueError, match=r"unknown \['width'\]"):
        config.replace(width=3)


def test_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny_config().num_layers = 3


def test_rotary_scaling_is_plain_and_comes_back(tmp_path):
    config = tiny_config(position_embedding="rotary", head_dim=4, rotary_scaling=FACTORS)
    assert config.rotary_scaling.factors == (1.0, 2.0)
    assert gk.GPTConfig.from_json(config.to_json()) == config
    assert gk.GPTConfig.from_dict(config.to_dict()) == config
    assert config.replace(num_layers=1).rotary_scaling == config.rotary_scaling
    assert len({config, config.replace(rotary_scaling=LINEAR)}) == 2  # can be hashed
    model = gk.GPTCausalLM(config)
    model.save_to_preset(tmp_path / "preset")
    model.save(tmp_path / "model.keras")
    for path in ("preset", "model.keras"):
        back = gk.GPTCausalLM.from_preset(tmp_path / path)
        assert back.config == config
        np.testing.assert_array_equal(back(np.arange(20)[None]), model(np.arange(20)[None]))


def test_biases_follow_use_bias_unless_given():
    names = ("use_bias", "use_qkv_bias", "use_feed_forward_bias")
    for fields, wanted in (
        ({}, [True, True, True]),
        ({"use_bias": False}, [False, False, False]),
        ({"use_feed_forward_bias": False}, [True, True, False]),
        ({"use_bias": False, "use_qkv_bias": True}, [False, True, False]),
    ):
        config = tiny_config(**fields)
        assert [getattr(config, name) for name in names] == wanted
        assert [getattr(config.replace(num_layers=1), name) for name in names] == wanted
    assert not tiny_config().replace(use_bias=False).use_feed_forward_bias
