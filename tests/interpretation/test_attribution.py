import numpy as np
import pytest
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk

IDS = np.array([3, 1, 4, 1, 5, 9])


@pytest.fixture(scope="module")
def model():
    return spread_weights(gk.GPTCausalLM(tiny_config()))


def logit_of(model, ids, target):
    return float(np.array(model(np.array([ids])))[0, -1, target])


def test_the_gradient_is_the_slope_of_the_logit(model):
    found = gk.interpretation.gradient_times_input(model, IDS, target=7)
    stream = gk.interpretation.residual_stream(model, IDS[None])[0]
    for position in range(len(IDS)):

        def logit(share, position=position):
            scaled = stream.copy()
            scaled[0, position] *= 1 + share

            def begin(point, layer, value):
                return scaled if (point, layer) == ("input", 0) else None

            return float(gk.interpretation.run(model, IDS[None], begin)[0, -1, 7])

        slope = (logit(1e-2) - logit(-1e-2)) / 2e-2
        np.testing.assert_allclose(found[position], slope, rtol=2e-2, atol=2e-3)


def test_integrated_gradients_add_up(model):
    target = int(np.argmax(np.array(model(IDS[None]))[0, -1]))
    found = gk.interpretation.integrated_gradients(model, IDS, baseline=2)
    difference = logit_of(model, IDS, target) - logit_of(model, [2] * len(IDS), target)
    np.testing.assert_allclose(found.sum(), difference, rtol=0.02)
    like_baseline = [2, *IDS[1:]]
    found = gk.interpretation.integrated_gradients(model, like_baseline, target=7, baseline=2)
    assert found[0] == 0  # what is as in the baseline has no part


def test_parts_that_do_not_add_up_are_an_error(model):
    with pytest.raises(ValueError, match="`max_steps` must be above 1"):
        gk.interpretation.integrated_gradients(model, IDS, baseline=2, max_steps=1, tolerance=1e-3)


def test_occlusion_is_a_difference_of_two_logits(model):
    found = gk.interpretation.occlusion(model, IDS, target=7, baseline=2)
    for position in range(len(IDS)):
        other = IDS.copy()
        other[position] = 2
        expected = logit_of(model, IDS, 7) - logit_of(model, other, 7)
        np.testing.assert_allclose(found[position], expected, rtol=1e-3, atol=1e-5)


def test_a_model_that_sees_the_last_token_only():
    config = tiny_config(attention_windows=(1,))
    model = spread_weights(gk.GPTCausalLM(config))
    interpretation = gk.interpretation
    for found in (
        interpretation.gradient_times_input(model, IDS, target=7),
        interpretation.integrated_gradients(model, IDS, target=7, baseline=2),
        interpretation.occlusion(model, IDS, target=7, baseline=2),
    ):
        np.testing.assert_allclose(found[:-1], 0, atol=1e-6)
        assert abs(found[-1]) > 1e-2


def test_the_baseline_is_the_end_of_text():
    tokenizer = gk.tokenizers.CharacterTokenizer.train(["abcdef"], end_of_text=True)
    model = gk.GPTCausalLM(
        tiny_config(vocabulary_size=tokenizer.vocabulary_size), tokenizer=tokenizer
    )
    spread_weights(model)
    ids = tokenizer.encode("abc")
    np.testing.assert_array_equal(
        gk.interpretation.occlusion(model, ids),
        gk.interpretation.occlusion(model, ids, baseline=tokenizer.end_of_text_id),
    )


def test_bad_arguments(model):
    with pytest.raises(ValueError, match="`token_ids` must be the ids of one text"):
        gk.interpretation.gradient_times_input(model, [IDS])
    with pytest.raises(ValueError, match="`target` must be an id from 0 to 31"):
        gk.interpretation.occlusion(model, IDS, target=32, baseline=0)
    with pytest.raises(ValueError, match="`baseline` must be given"):
        gk.interpretation.occlusion(model, IDS)
    with pytest.raises(ValueError, match="`max_steps`"):
        gk.interpretation.integrated_gradients(model, IDS, baseline=0, max_steps=0)
