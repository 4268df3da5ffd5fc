"""The one table of weights, held against the variables that Keras builds."""

import math

import pytest
from tiny_models import tiny_config

import gpt_keras as gk
from gpt_keras.weight_shapes import weight_shapes

# A preset of each family, narrow enough to build; what makes it one of its family is kept.
FAMILIES = {
    "gpt1": {},
    "gpt2_small": {},
    "gpt3_small": {"head_dim": 6},
    "gpt4_class_moe": {"num_key_value_heads": 2, "num_experts": 3},
    "llama3_8b": {"num_key_value_heads": 2},
    "smollm2_135m": {"num_key_value_heads": 1},
    "qwen2_0.5b": {"num_key_value_heads": 2},
    "mistral_7b": {"num_key_value_heads": 2},
    "mixtral_8x7b": {"num_key_value_heads": 4, "num_experts": 2},
    "tiny": {},
    "nano": {"num_key_value_heads": 4},
}
SMALL = {"vocabulary_size": 11, "max_sequence_length": 7, "num_layers": 2, "num_heads": 4}
SMALL |= {"hidden_dim": 16, "intermediate_dim": 20}

CONFIGS = {
    name: gk.presets.get(name).replace(**SMALL, **changes) for name, changes in FAMILIES.items()
} | {
    "experts_with_biases": tiny_config(num_experts=3, use_qkv_bias=False),
    "sinusoidal": tiny_config(position_embedding="sinusoidal", use_bias=False),
    "all": tiny_config(tie_embeddings=False, use_qk_norm=True, num_heads=4, num_key_value_heads=2),
}


@pytest.fixture(scope="module", params=CONFIGS)
def built(request):
    config = CONFIGS[request.param]
    variables = gk.GPT(config).trainable_variables
    return config, {variable.path: tuple(variable.shape) for variable in variables}


def test_paths_and_shapes_are_those_of_the_built_model(built):
    config, shapes = built
    assert weight_shapes(config) == shapes


def test_the_counts_are_those_of_the_built_model(built):
    config, shapes = built
    assert config.num_parameters == sum(map(math.prod, shapes.values()))
    kernels = sum(math.prod(shapes[path]) for path in shapes if path.endswith("kernel"))
    head = config.vocabulary_size * config.hidden_dim
    scores = 2 * config.num_layers * config.num_heads * config.head_dim
    assert config.flops_per_token(1) == 2 * (kernels + head + scores)


def test_every_family_of_presets_is_here():
    assert {name[:4] for name in gk.presets.names()} == {name[:4] for name in FAMILIES}
