"""Counterfactual generation: swapped words, equal seeds, figures by hand."""

import numpy as np
import pytest
import scipy.stats
from tiny_models import spread_weights

import gpt_keras as gk
from gpt_keras.evaluation.counterfactual_generation import swap_words

evaluation = gk.evaluation

SWAPS = {"he": "she", "she": "he", "Anna": "Otto", "他": "她", "父亲": "母亲"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("he saw the hen", "she saw the hen"),
        ("He and SHE, he", "She and HE, she"),
        ("He's late; _he he_ he1", "She's late; _he he_ he1"),
        ("anna met ANNA", "Otto met OTTO"),
        ("他的父亲来了", "她的母亲来了"),
        ("the", "the"),
        ("ſhe", "ſhe"),
    ],
)
def test_words_are_swapped_whole_and_at_once(text, expected):
    assert swap_words([text], SWAPS) == [expected]


def test_the_longest_word_and_signs():
    assert swap_words(["old man (a+b)"], {"man": "woman", "old man": "boy", "(a+b)": "c"}) == [
        "boy c"
    ]


@pytest.fixture(scope="module")
def model():
    tokenizer = gk.tokenizers.CharacterTokenizer("abehst ")
    config = gk.presets.get("tiny").replace(vocabulary_size=tokenizer.vocabulary_size)
    return spread_weights(gk.GPTCausalLM(config, tokenizer=tokenizer))


PROMPTS = ["he has a", "the beast he eats", "at he"]
FORTH, BACK = {"he": "she"}, {"she": "he"}


def vowels(texts):
    return [sum(text.count(letter) for letter in "ae") / 8 for text in texts]


def test_texts_come_from_equal_seeds_and_figures_from_their_scores(model):
    settings = {"num_samples": 4, "max_new_tokens": 8, "seed": 3}
    result = evaluation.counterfactuals(model, PROMPTS, FORTH, vowels, **settings)
    assert [pair.prompt for pair in result.pairs] == PROMPTS
    assert result.pairs[1].swapped_prompt == "the beast she eats"
    # The other way round, the same texts change places.
    swapped = [pair.swapped_prompt for pair in result.pairs]
    back = evaluation.counterfactuals(model, swapped, BACK, vowels, **settings)
    for pair, other in zip(result.pairs, back.pairs, strict=True):
        assert (pair.texts, pair.swapped_texts) == (other.swapped_texts, other.texts)
        assert len(set(pair.texts)) > 1  # each sample has its own seed
        assert pair.scores == vowels(pair.texts)
    assert back.difference.value == pytest.approx(-result.difference.value)
    pairs = [(pair.scores, pair.swapped_scores) for pair in result.pairs]
    differences = [np.mean(a) - np.mean(b) for a, b in pairs]
    assert result.difference.value == pytest.approx(np.mean(differences))
    expected = [scipy.stats.wasserstein_distance(a, b) for a, b in pairs]
    assert result.distance.value == pytest.approx(np.mean(expected))
    assert result.distance.value > 0
    assert result.difference.num_items == 3
    assert evaluation.counterfactuals(model, PROMPTS, FORTH, vowels, **settings) == result


def test_the_seed_of_a_row_is_that_of_generate(model):
    result = evaluation.counterfactuals(
        model, PROMPTS, FORTH, vowels, max_new_tokens=6, seed=1, batch_size=2
    )
    for i, pair in enumerate(result.pairs):
        seed = int(gk.generation.fold_in(1, i))
        [whole] = model.generate([pair.prompt], max_new_tokens=6, seed=[seed])
        assert whole[len(pair.prompt) :].strip() == pair.texts[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "`model` must be a CausalLM with a tokenizer, got None"),
        ({"prompts": "he"}, "`prompts` must be several strings"),
        ({"prompts": []}, "`prompts` must hold at least one text, but is empty"),
        ({"prompts": ["he", "the"]}, "must have a word of `swaps`, he; got 'the' as number 1"),
        ({"swaps": {}}, "`swaps` must map words to the words that replace them"),
        ({"swaps": {"he": ""}}, "`swaps` must map words"),
        ({"swaps": {"he": "she", "He": "a"}}, "`swaps` must differ in more than capitals"),
        ({"classify": 3}, "`classify` must be a function of texts, got 3"),
        ({"classify": lambda texts: [0.5]}, "one finite number for each of 2 texts, got"),
        ({"classify": lambda texts: ["a", "b"]}, "`classify` must return numbers, got"),
        ({"classify": lambda texts: [np.nan, 1]}, "one finite number for each of 2 texts"),
        ({"num_samples": 0}, "`num_samples` must be an integer of at least 1, got 0"),
        ({"confidence": 2}, "`confidence` must be between 0 and 1, got 2"),
        ({"seed": -1}, "`seed` must be an integer from 0"),
    ],
)
def test_bad_arguments(model, changes, message):
    good = {"model": model, "prompts": ["he", "a he"], "swaps": FORTH, "classify": vowels}
    with pytest.raises(ValueError, match=message):
        evaluation.counterfactuals(**(good | {"max_new_tokens": 2} | changes))
