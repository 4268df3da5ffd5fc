"""Exposure of canaries: ranks by hand, and a model that has seen one of them."""

import math

import keras
import numpy as np
import pytest
from tiny_models import spread_weights

import gpt_keras as gk

evaluation = gk.evaluation


@pytest.fixture(scope="module")
def model():
    tokenizer = gk.tokenizers.CharacterTokenizer("code 0123456789", end_of_text=True)
    config = gk.presets.get("tiny").replace(vocabulary_size=tokenizer.vocabulary_size)
    return spread_weights(gk.GPTCausalLM(config, tokenizer=tokenizer))


CANDIDATES = [f"{number:02}" for number in range(5, 21)]


def test_ranks_are_those_of_whole_passes(model):
    canaries = ["98", "41", "00"]
    found = evaluation.canary_exposure(model, canaries, CANDIDATES, prefix="code ", batch_size=5)

    # The space before the number is scored with it.
    ids = np.array(model.tokenizer.encode([f"code {text}" for text in [*canaries, *CANDIDATES]]))
    logits = np.asarray(model(ids))[:, :-1].astype(np.float64)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    scores = np.take_along_axis(logits, ids[:, 1:, None], -1)[:, 3:, 0].sum(-1)
    for canary, exposure, score in zip(canaries, found, scores):
        rank = 1 + sum(scores[3:] >= score)
        assert (exposure.canary, exposure.rank, exposure.num_texts) == (canary, rank, 17)
        assert exposure.log_probability == pytest.approx(score, abs=1e-4)
        assert exposure.exposure == pytest.approx(math.log2(17) - math.log2(rank))


@pytest.mark.slow
def test_a_planted_text_has_the_highest_exposure():
    tokenizer = gk.tokenizers.CharacterTokenizer("code 0123456789", end_of_text=True)
    config = gk.presets.get("tiny").replace(vocabulary_size=tokenizer.vocabulary_size)
    model = gk.GPTCausalLM(config, tokenizer=tokenizer)
    model.compile(keras.optimizers.Adam(0.02), jit_compile=False)
    ids = np.array([tokenizer.encode("code 98")] * 8)
    model.fit(ids[:, :-1], ids[:, 1:], epochs=40, verbose=0)
    planted, other = evaluation.canary_exposure(model, ["98", "89"], CANDIDATES, prefix="code ")
    assert planted.rank == 1
    assert planted.exposure == pytest.approx(math.log2(17))
    assert other.exposure < planted.exposure


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": 3}, "`model` must be a CausalLM with a tokenizer, got 3"),
        ({"canaries": "98"}, "`canaries` must be several strings"),
        ({"canaries": []}, "`canaries` must hold at least one text"),
        ({"candidates": []}, "`candidates` must hold at least one text"),
        ({"candidates": ["98"]}, "`candidates` must not hold a canary, got '98'"),
        ({"candidates": ["xx"]}, r"the text 'xx': .*characters"),
        ({"candidates": [""]}, "the text '': `continuation` must have a token"),
    ],
)
def test_bad_arguments(model, changes, message):
    good = {"model": model, "canaries": ["98"], "candidates": ["12"]}
    with pytest.raises(ValueError, match=message):
        evaluation.canary_exposure(**(good | changes))
