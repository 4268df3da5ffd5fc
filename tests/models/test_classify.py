"""Labels and probabilities of task models."""

import numpy as np
import pytest
from tiny_models import spread_weights

import gpt_keras as gk

TEXTS = ["hello there", "a", "the cat sat on the mat."]


def with_head(model, seed=0):
    """Spread the weights of the head alone: the backbone is shared."""
    spread_weights(model.head, seed)
    model.compile(run_eagerly=True)
    return model


def softmax(logits):
    weights = np.exp(np.asarray(logits, np.float64))
    return weights / weights.sum(-1, keepdims=True)


def test_labels_are_names_in_the_order_of_the_logits(spread_model):
    model = with_head(gk.GPTClassifier(spread_model, class_names=["spam", "ham", "正面"]))
    expected = softmax(model.predict(TEXTS, verbose=0))
    results = model.classify(TEXTS, batch_size=2)
    assert len(results) == 3
    for (label, probabilities), row in zip(results, expected, strict=True):
        assert list(probabilities) == ["spam", "ham", "正面"]
        assert list(probabilities.values()) == pytest.approx(row, rel=1e-4)
        assert label == list(probabilities)[int(np.argmax(row))]
    (alone,) = model.classify(TEXTS[1])
    assert alone.label == results[1].label
    assert alone.probabilities == pytest.approx(results[1].probabilities, rel=1e-4)
    assert [result.label for result in model.classify(np.array(TEXTS))] == [
        result.label for result in results
    ]


def test_labels_are_numbers_without_names(spread_model):
    model = with_head(gk.GPTClassifier(spread_model, 4))
    ((label, probabilities),) = model.classify("hello")
    assert list(probabilities) == [0, 1, 2, 3]
    assert label == int(np.argmax(model.predict(["hello"], verbose=0)))
    assert sum(probabilities.values()) == pytest.approx(1)


def test_one_pair_is_one_example(spread_model):
    model = with_head(gk.GPTClassifier(spread_model, 2, "entailment"))
    pairs = [("ab", "cde"), ("he", "she")]
    results = model.classify(pairs)
    assert len(results) == 2
    for pair, expected in zip(pairs, results, strict=True):
        (result,) = model.classify(pair)
        assert result.probabilities == pytest.approx(expected.probabilities, rel=1e-4)
    choice = with_head(gk.GPTMultipleChoice(spread_model))
    (result,) = choice.classify(("ab", ["c", "d", "e"]))
    scores = softmax(choice.predict([("ab", ["c", "d", "e"])], verbose=0))[0]
    assert list(result.probabilities.values()) == pytest.approx(scores, rel=1e-4)
    assert result.label == int(np.argmax(scores))


@pytest.mark.parametrize("examples", [[], [("a", "b")], [3]])
def test_what_holds_no_texts_is_refused(spread_model, examples):
    with pytest.raises(ValueError, match="must"):
        gk.GPTClassifier(spread_model, 2).classify(examples)


def test_large_logits_do_not_overflow(spread_model):
    model = gk.GPTClassifier(spread_model, 2)
    model.head.bias.assign([1000.0, 0.0])
    ((label, probabilities),) = model.classify("a")
    assert (label, probabilities) == (0, {0: 1.0, 1: 0.0})
