import numpy as np
import pytest
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk

IDS = np.random.default_rng(0).integers(32, size=(3, 9))


@pytest.fixture(scope="module")
def model():
    return spread_weights(gk.GPTCausalLM(tiny_config()))


def loss_of(model, ids):
    logits = np.array(model(ids[:, :-1]), dtype=float)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(logits, ids[:, 1:, None], axis=-1).mean()


def copy_of(model):
    copy = gk.GPTCausalLM(model.backbone.config)
    copy.set_weights(model.get_weights())
    return copy


def test_a_head_whose_projection_is_zero_is_a_head_removed(model):
    found = gk.interpretation.head_ablation(model, IDS, replacement="zero")
    assert found.shape == (2, 2)
    for layer in range(2):
        for head in range(2):
            without = copy_of(model)
            kernel = without.backbone.blocks[layer].attention.output_projection.kernel
            weights = np.array(kernel)
            weights[8 * head : 8 * head + 8] = 0
            kernel.assign(weights)
            expected = loss_of(without, IDS) - loss_of(model, IDS)
            np.testing.assert_allclose(found[layer, head], expected, rtol=1e-3, atol=1e-5)


def test_a_head_that_always_gives_the_same_can_be_replaced_by_its_mean(model):
    same = copy_of(model)
    value = same.backbone.blocks[1].attention.value
    kernel = np.array(value.kernel)
    kernel[:, :8] = 0  # of the first head only the bias remains
    value.kernel.assign(kernel)
    found = gk.interpretation.head_ablation(same, IDS)
    assert abs(found[1, 0]) < 1e-5
    assert np.abs(found[0]).min() > 1e-3
    assert abs(gk.interpretation.head_ablation(same, IDS, replacement="zero")[1, 0]) > 1e-3


@pytest.mark.parametrize("part", ["attention", "feed_forward", "block"])
def test_a_layer_that_adds_nothing_is_not_missed(model, part):
    idle = copy_of(model)
    for variable in idle.backbone.blocks[0].variables:
        names = {"attention": ["/output/"], "feed_forward": ["/down/"]}
        if any(name in variable.path for name in names.get(part, ["/output/", "/down/"])):
            variable.assign(np.zeros(variable.shape))
    removed = gk.interpretation.layer_ablation(model, IDS, part)
    np.testing.assert_allclose(
        removed[0], loss_of(idle, IDS) - loss_of(model, IDS), rtol=1e-3, atol=1e-5
    )
    assert abs(gk.interpretation.layer_ablation(idle, IDS, part)[0]) < 1e-6


def test_a_layer_that_always_adds_the_same_can_be_replaced_by_its_mean(model):
    same = copy_of(model)
    for variable in same.backbone.blocks[1].variables:
        if variable.path.endswith(("output/kernel", "down/kernel")):
            variable.assign(np.zeros(variable.shape))  # the biases remain
    for part in ("attention", "feed_forward", "block"):
        found = gk.interpretation.layer_ablation(same, IDS, part, replacement="mean")
        assert abs(found[1]) < 1e-5
        assert abs(gk.interpretation.layer_ablation(same, IDS, part)[1]) > 1e-3


def loss_after(model, ids, target):
    logits = np.array(model(ids[None]), dtype=float)[0, -1]
    return np.log(np.exp(logits).sum()) - logits[target]


def test_patching_the_last_stream_brings_the_other_prediction(model):
    text, source = np.array([1, 2, 3, 4, 5]), np.array([1, 9, 3, 4, 5])
    change = loss_after(model, source, 7) - loss_after(model, text, 7)
    found = gk.interpretation.layer_patching(model, text, source, target=7)
    assert found.shape == (2, 5)
    np.testing.assert_allclose(found[1, -1], change, rtol=1e-3, atol=1e-5)
    # After the last block the other tokens can say nothing any more.
    np.testing.assert_allclose(found[1, :-1], 0, atol=1e-6)
    assert abs(found[0, 0]) < 1e-5  # the token is the same in both, and sees nothing else
    before = gk.interpretation.layer_patching(model, text, source, target=7, point="input")
    np.testing.assert_allclose(before[0, 1], change, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(before[0, [0, 2, 3, 4]], 0, atol=1e-6)


def test_only_heads_that_see_the_difference_matter(model):
    text, source = np.array([1, 2, 3, 4, 5]), np.array([1, 9, 3, 4, 5])
    blind = copy_of(model)
    kernel = blind.backbone.blocks[0].attention.value.kernel
    weights = np.array(kernel)
    weights[:, 8:] = 0  # the second head gives the same for all tokens
    kernel.assign(weights)
    found = gk.interpretation.head_patching(blind, text, source, target=7)
    assert found.shape == (2, 2)
    assert abs(found[0, 1]) < 1e-6
    assert abs(found[0, 0]) > 1e-3
    same = gk.interpretation.head_patching(blind, text, text, target=7)
    np.testing.assert_allclose(same, 0, atol=1e-6)


def test_bad_arguments(model):
    interpretation = gk.interpretation
    with pytest.raises(ValueError, match="`replacement` must be one of"):
        interpretation.head_ablation(model, IDS, replacement="noise")
    with pytest.raises(ValueError, match="`part` must be one of"):
        interpretation.layer_ablation(model, IDS, part="head")
    with pytest.raises(ValueError, match="`token_ids` must be"):
        interpretation.head_ablation(model, [1, 2, 3])
    with pytest.raises(ValueError, match="of one length"):
        interpretation.head_patching(model, [1, 2, 3], [1, 2], target=0)
    with pytest.raises(ValueError, match="`point` must be one of"):
        interpretation.layer_patching(model, [1, 2], [1, 3], target=0, point="heads")
