import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpt_keras as gk
from gpt_keras.config import ACTIVATIONS, NORM_POSITIONS, NORMS, POSITION_EMBEDDINGS

# Of the released checkpoints, as their publishers or their tensors' shapes give them.
PUBLISHED = {
    "gpt1": 116_534_784,
    "gpt2_small": 124_439_808,
    "gpt2_medium": 354_823_168,
    "gpt2_large": 774_030_080,
    "gpt2_xl": 1_557_611_200,
    "smollm2_135m": 134_515_008,
    "smollm2_360m": 361_821_120,
    "smollm2_1.7b": 1_711_376_384,
    "qwen2_0.5b": 494_032_768,
    "qwen2_1.5b": 1_543_714_304,
    "llama2_7b": 6_738_415_616,
    "llama3_8b": 8_030_261_248,
    "mistral_7b": 7_241_732_096,
    "mixtral_8x7b": 46_702_792_704,
}


def test_parameter_counts_are_the_published_ones():
    assert {name: gk.presets.get(name).num_parameters for name in PUBLISHED} == PUBLISHED


def test_every_preset_has_a_published_size():
    unreleased = {name for name in gk.presets.names() if name.startswith(("gpt3", "gpt4"))}
    assert set(gk.presets.names()) == PUBLISHED.keys() | unreleased | {"nano", "tiny"}


def test_tiny_has_a_few_thousand_parameters():
    assert 1_000 < gk.presets.get("tiny").num_parameters < 10_000


def test_the_old_name_of_names_says_the_new_one():
    with pytest.raises(AttributeError, match=r"`gk\.presets\.list` is now `gk\.presets\.names`"):
        _ = gk.presets.list


# Brown et al. 2020, table 2.1: parameters as printed, layers, width, heads, width of a head.
TABLE_2_1 = {
    "gpt3_small": (125e6, 12, 768, 12, 64),
    "gpt3_medium": (350e6, 24, 1024, 16, 64),
    "gpt3_large": (760e6, 24, 1536, 16, 96),
    "gpt3_xl": (1.3e9, 24, 2048, 24, 128),
    "gpt3_2.7b": (2.7e9, 32, 2560, 32, 80),
    "gpt3_6.7b": (6.7e9, 32, 4096, 32, 128),
    "gpt3_13b": (13.0e9, 40, 5140, 40, 128),
    "gpt3_175b": (175.0e9, 96, 12288, 96, 128),
}


@pytest.mark.parametrize("name", TABLE_2_1)
def test_gpt3_is_table_2_1(name):
    size, *shape = TABLE_2_1[name]
    config = gk.presets.get(name)
    assert [config.num_layers, config.hidden_dim, config.num_heads, config.head_dim] == shape
    assert config.intermediate_dim == 4 * config.hidden_dim
    assert config.max_sequence_length == 2048
    assert [config.attention_window(i) is None for i in range(4)] == [True, False, True, False]
    # The row of "XL" does not add up: 24 heads of 128 at a width of 2,048 are 1.52 billion.
    printed = 1.52e9 if name == "gpt3_xl" else size
    assert config.num_parameters == pytest.approx(printed, rel=0.02)


def test_gpt4_class_has_130_billion_parameters():
    for name in ("gpt4_class", "gpt4_class_moe"):
        assert gk.presets.get(name).num_parameters == pytest.approx(130e9, rel=0.01)


def test_unknown_preset():
    with pytest.raises(ValueError, match=r"`name` must be one of tiny, nano, gpt1, .*'gpt5'"):
        gk.presets.get("gpt5")


@st.composite
def configs(draw):
    """Any small config that can be built: every field that shapes weights is drawn."""
    key_value_heads = draw(st.integers(1, 2))
    return gk.GPTConfig(
        vocabulary_size=draw(st.integers(1, 9)),
        max_sequence_length=draw(st.integers(1, 9)),
        num_layers=draw(st.integers(1, 2)),
        num_heads=key_value_heads * draw(st.integers(1, 2)),
        num_key_value_heads=key_value_heads,
        hidden_dim=2 * draw(st.integers(1, 4)),
        head_dim=2 * draw(st.integers(1, 3)),
        intermediate_dim=draw(st.integers(1, 9)),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        dropout=draw(st.sampled_from([0.0, 0.1])),
        position_embedding=draw(st.sampled_from(POSITION_EMBEDDINGS)),
        norm=draw(st.sampled_from(NORMS)),
        norm_position=draw(st.sampled_from(NORM_POSITIONS)),
        use_bias=draw(st.booleans()),
        use_qkv_bias=draw(st.sampled_from([None, True, False])),
        use_feed_forward_bias=draw(st.sampled_from([None, True, False])),
        use_qk_norm=draw(st.booleans()),
        tie_embeddings=draw(st.booleans()),
        causal=draw(st.booleans()),
        attention_windows=draw(st.sampled_from([None, (2,), (None, 3)])),
        num_experts=draw(st.sampled_from([None, 2, 3])),
        num_experts_per_token=draw(st.integers(1, 2)),
    )


@settings(max_examples=30, deadline=None)
@given(configs())
def test_num_parameters_is_that_of_the_built_model(config):
    trainable = gk.GPT(config).trainable_variables
    assert sum(int(variable.numpy().size) for variable in trainable) == config.num_parameters
