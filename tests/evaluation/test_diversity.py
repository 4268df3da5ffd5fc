"""Diversity metrics against direct formulas, NLTK and sacrebleu."""

import itertools

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

import gpt_keras as gk

evaluation = gk.evaluation

ENGLISH = [
    "the cat sat on the mat and the cat sat on the mat",
    "a dog ran over the hill",
    "the cat sat on a chair, they said.",
    "it rains",
]
CHINESE = ["今天天气很好，今天天气很好。", "明天下雨", "今天天气不好，明天下雨。"]

texts_of_letters = st.lists(st.text("ab ", max_size=12), min_size=1, max_size=5)


def ngrams(tokens, n):
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


@given(texts_of_letters, st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_shares_of_ngrams_by_their_definitions(texts, n):
    rows = [ngrams(text.split(), n) for text in texts]
    every = [ngram for row in rows for ngram in row]
    if not every:
        with pytest.raises(ValueError, match=f"a text of at least n={n} tokens"):
            evaluation.distinct_n(texts, n)
        return
    assert evaluation.distinct_n(texts, n) == pytest.approx(len(set(every)) / len(every))
    expected = [1 - len(set(row)) / len(row) for row in rows if row]
    found = evaluation.repetition_rate(texts, n)
    assert found.value == pytest.approx(np.mean(expected))
    assert found.num_items == len(expected)


def test_ngrams_are_nltks():
    nltk_util = pytest.importorskip("nltk.util")
    every = [n for text in ENGLISH for n in nltk_util.ngrams(text.split(), 3)]
    assert evaluation.distinct_n(ENGLISH, 3) == len(set(every)) / len(every)


def test_chinese_characters_are_tokens():
    # 7 of the 14 characters and signs are different.
    assert evaluation.repetition_rate([CHINESE[0]], n=1).value == 0.5
    assert evaluation.repetition_rate(["今天天气"], n=2).value == 0.0
    assert evaluation.distinct_n(["好 好", "好好"], n=2) == 0.5


def test_token_ids_are_tokens():
    rows = [[1, 2, 1, 2, 1], [3, 4]]
    assert evaluation.distinct_n(rows, 2) == 3 / 5
    assert evaluation.repetition_rate(rows, 2).value == 0.25
    assert evaluation.repetition_rate(np.array([[1, 1, 1, 1, 1]]), 4).value == 0.5


def direct_self_bleu(texts, tokenize):
    metric = sacrebleu.BLEU(tokenize=tokenize, effective_order=True)
    return np.mean(
        [
            metric.sentence_score(text, [other for j, other in enumerate(texts) if j != i]).score
            for i, text in enumerate(texts)
        ]
    )


@pytest.mark.parametrize(("texts", "tokenize"), [(ENGLISH, "13a"), (CHINESE, "zh")])
def test_self_bleu_is_the_mean_of_sacrebleus_scores(texts, tokenize):
    expected = direct_self_bleu(texts, tokenize)
    assert 0 < expected < 100
    assert evaluation.self_bleu(texts) == pytest.approx(expected)


@given(st.lists(st.text("ab c", max_size=14), min_size=2, max_size=6))
@settings(max_examples=60, deadline=None)
def test_self_bleu_of_random_texts(texts):
    found = evaluation.self_bleu(texts, tokenize="none")
    assert found == pytest.approx(direct_self_bleu(texts, "none"))


def test_self_bleu_of_equal_and_of_different_texts():
    assert evaluation.self_bleu(["one and the same text"] * 3) == pytest.approx(100)
    assert evaluation.self_bleu(["a b c", "d e f"]) == 0


def test_many_texts_take_linear_time():
    # The direct way would take minutes: 2,000 texts with 1,999 references each.
    words = itertools.cycle(["cat", "dog", "sat", "on", "the", "mat", "a"])
    texts = [" ".join(next(words) for _ in range(8 + i % 3)) for i in range(2000)]
    assert evaluation.self_bleu(texts) == pytest.approx(100)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluation.distinct_n("one text"), "`texts` must be several strings"),
        (lambda: evaluation.distinct_n([]), "a text of at least n=2 tokens"),
        (lambda: evaluation.distinct_n(["a"], 0), "`n` must be an integer of at least 1, got 0"),
        (lambda: evaluation.distinct_n([[1], "a"]), "only lists of token ids, got 'a' of type str"),
        (lambda: evaluation.distinct_n([[1.5]]), "`texts` must hold strings, got"),
        (lambda: evaluation.repetition_rate(["a b"]), "a text of at least n=4 tokens"),
        (lambda: evaluation.self_bleu(["a"]), "`texts` must be at least two texts, got 1"),
        (lambda: evaluation.self_bleu(["a", "b"], tokenize="x"), "`tokenize` must be one of 13a"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
