"""Metrics of generated texts against the libraries, and against SQuAD's definition."""

import builtins
import collections
import math
import re
import string

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

import gpt_keras as gk

evaluation = gk.evaluation

PREDICTIONS = [
    "The cat sat on the mat.",
    "He said: it's 3.5 dollars, not 4!",
    "a quick brown fox",
    "",
    "Completely different words here",
]
REFERENCES = [
    "A cat was sitting on the mat.",
    "She said it's 3.50 dollars, not four.",
    "The quick brown fox jumps over the lazy dog.",
    "Nothing was written",
    "something else",
]
CHINESE_PREDICTIONS = [
    "单击「格式」菜单中的字体。",
    "打开文件",
    "选择 Calc 单元格，然后按 Enter 键。",
]
CHINESE_REFERENCES = ["选择「格式」菜单的字体。", "关闭所有文件。", "选择单元格然后按 Enter。"]
LISTS = [["A cat was sitting on the mat.", "The cat sat on a mat."], *REFERENCES[1:]]


def as_words(text):
    """Write each Chinese character as a Latin word, so that any tokenizer keeps it."""
    return re.sub("[\u4e00-\u9fff]", lambda match: f" u{ord(match[0]):x} ", text)


# SQuAD, by its definition: lower, punctuation, articles, white space


def squad_tokens(text):
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    return [word for word in re.split(r"\s+", re.sub(r"\b(a|an|the)\b", " ", text)) if word]


def squad_f1(prediction, reference):
    predicted, right = squad_tokens(prediction), squad_tokens(reference)
    if not predicted or not right:
        return float(predicted == right)
    common = 0
    left = list(right)
    for token in predicted:
        if token in left:
            left.remove(token)
            common += 1
    return 2 * common / (len(predicted) + len(right))


def test_short_answers_follow_squads_definition():
    expected = np.mean([squad_f1(*pair) for pair in zip(PREDICTIONS, REFERENCES)])
    assert 0 < expected < 1
    assert evaluation.token_f1(PREDICTIONS, REFERENCES) == pytest.approx(expected)
    # Counted by hand: 3 of 4 right, after normalization.
    predictions = ["The Rhine", "an apple!", "42", "Paris  France"]
    assert evaluation.exact_match(predictions, ["rhine", "Apple", "41", "paris france."]) == 0.75


@given(st.text("ab the,.!'", max_size=12), st.text("ab the,.!'", min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_short_answers_of_random_texts(prediction, reference):
    if not reference.strip():
        return
    assert evaluation.token_f1([prediction], [reference]) == pytest.approx(
        squad_f1(prediction, reference)
    )
    is_equal = squad_tokens(prediction) == squad_tokens(reference)
    assert evaluation.exact_match([prediction], [reference]) == is_equal


def test_the_best_of_several_references_counts():
    references = [["a dog", "the big cat"], ["Bonn", "Berlin"]]
    assert evaluation.token_f1(["big cat", "Berlin, Germany"], references) == pytest.approx(
        (1 + 2 / 3) / 2
    )
    assert evaluation.exact_match(["big cat", "Berlin, Germany"], references) == 0.5


def test_chinese_characters_are_tokens():
    ours = evaluation.token_f1(CHINESE_PREDICTIONS, CHINESE_REFERENCES)
    texts = [
        [re.sub("[「」，。]", "", as_words(text)) for text in texts]
        for texts in (CHINESE_PREDICTIONS, CHINESE_REFERENCES)
    ]
    assert ours == pytest.approx(np.mean([squad_f1(*pair) for pair in zip(*texts)]))
    assert evaluation.exact_match(["北京 市。"], ["北京市"]) == 1
    assert evaluation.exact_match(["南京市"], ["北京市"]) == 0
    # English quotation marks stay, as in SQuAD; beside Chinese all punctuation goes.
    assert evaluation.exact_match(["“yes”"], ["yes"]) == 0
    assert evaluation.exact_match(["“对”"], ["对"]) == 1


def test_cmrc_never_gives_more():
    """CMRC 2018 counts the longest run of common tokens instead of all common tokens."""
    for prediction, reference in zip(CHINESE_PREDICTIONS, CHINESE_REFERENCES):
        predicted, right = (
            re.findall("[\u4e00-\u9fff]|[a-z]+", text.lower()) for text in (prediction, reference)
        )
        run = max(
            n
            for n in range(len(predicted) + 1)
            for i in range(len(predicted) - n + 1)
            if any(predicted[i : i + n] == right[j : j + n] for j in range(len(right) - n + 1))
        )
        f1 = 2 * run / (len(predicted) + len(right))
        assert 0 < f1 <= evaluation.token_f1([prediction], [reference]) + 1e-9


# BLEU and chrF


def test_bleu_is_that_of_sacrebleu():
    ours = evaluation.bleu(PREDICTIONS, REFERENCES)
    theirs = sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES])
    assert ours.score == theirs.score > 0
    assert ours.precisions == tuple(theirs.precisions)
    assert ours.brevity_penalty == theirs.bp < 1
    assert "tok:13a" in ours.signature
    several = evaluation.bleu(PREDICTIONS, LISTS)
    assert several.score > ours.score
    second = [LISTS[0][1], *REFERENCES[1:]]  # the second reference equals the first elsewhere
    assert several.score == sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES, second]).score
    assert "nrefs:var" in several.signature


def test_bleu_by_hand():
    # 4 of 5 words, 2 of 4 pairs, 1 of 3 triples; of 2 quadruples none, smoothed to 1 / (2 * 2).
    found = evaluation.bleu(["a b c x e"], ["a b c d e"]).score
    assert found == pytest.approx(100 * (4 / 5 * 2 / 4 * 1 / 3 * 1 / 4) ** 0.25)
    shorter = evaluation.bleu(["a b c d e"], ["a b c d e f g"])
    assert shorter.score == pytest.approx(100 * math.exp(1 - 7 / 5))


def test_bleu_of_chinese_counts_characters():
    found = evaluation.bleu(CHINESE_PREDICTIONS, CHINESE_REFERENCES)
    theirs = sacrebleu.corpus_bleu(CHINESE_PREDICTIONS, [CHINESE_REFERENCES], tokenize="zh")
    assert found.score == theirs.score > 20
    assert "tok:zh" in found.signature
    assert evaluation.bleu(CHINESE_PREDICTIONS, CHINESE_REFERENCES, tokenize="13a").score < 10


def test_the_tokenizer_of_bleu_follows_most_references():
    assert "tok:13a" in evaluation.bleu(["x", "y", "z"], ["It is 北京", "a b", "c d"]).signature
    assert "tok:zh" in evaluation.bleu(["x", "y", "z"], ["北京", "上海", "LibreOffice"]).signature


@pytest.mark.parametrize("word_order", [0, 2])
def test_chrf_is_that_of_sacrebleu(word_order):
    for predictions, references in (
        (PREDICTIONS, REFERENCES),
        (CHINESE_PREDICTIONS, CHINESE_REFERENCES),
    ):
        ours = evaluation.chrf(predictions, references, word_order=word_order)
        theirs = sacrebleu.corpus_chrf(predictions, [references], word_order=word_order)
        assert ours == theirs.score > 5
    assert evaluation.chrf(PREDICTIONS, LISTS) > evaluation.chrf(PREDICTIONS, REFERENCES)


# ROUGE


@pytest.mark.parametrize("use_stemmer", [False, True])
def test_rouge_is_that_of_rouge_score(use_stemmer):
    predictions = [*PREDICTIONS, "They were tired.\nTwo cats slept."]
    references = [*REFERENCES, "The cats slept well.\nThey were tired."]
    ours = evaluation.rouge(predictions, references, use_stemmer=use_stemmer)
    names = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    scorer = rouge_scorer.RougeScorer(names, use_stemmer=use_stemmer)
    rows = [scorer.score(right, text) for text, right in zip(predictions, references)]
    for name in names:
        expected = np.mean([row[name].fmeasure for row in rows])
        assert getattr(ours, name) == pytest.approx(expected)
        assert expected > 0
    assert ours.rougeL != ours.rougeLsum


def test_rouge_counts_chinese_characters():
    ours = evaluation.rouge(CHINESE_PREDICTIONS, CHINESE_REFERENCES)
    scorer = rouge_scorer.RougeScorer(list(ours._fields))
    rows = [
        scorer.score(as_words(right), as_words(text))
        for text, right in zip(CHINESE_PREDICTIONS, CHINESE_REFERENCES)
    ]
    for name, score in ours._asdict().items():
        assert score == pytest.approx(np.mean([row[name].fmeasure for row in rows]))
    # The tokenizer of rouge-score would have given 0 without a word.
    assert scorer.score("今天下雨", "今天有雨")["rouge1"].fmeasure == 0
    assert evaluation.rouge(["今天有雨"], ["今天下雨"]).rouge1 == 0.75


def test_rouge_takes_the_best_reference():
    found = evaluation.rouge(["a big cat"], [["a dog", "the big cat"]])
    assert found.rouge1 == pytest.approx(2 / 3)


# Bad input, the same for all metrics

ALL = ["exact_match", "token_f1", "bleu", "chrf", "rouge"]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ("a", ["a"], "`predictions` must be several strings"),
        (["a"], "a", "`references` must be several strings"),
        ([], [], "`predictions` must hold at least one text"),
        (["a", "b"], ["a"], "same number of entries, got 2 and 1"),
        (["a"], [["a"], ["b"]], "same number of entries, got 1 and 2"),
        (["a", "b"], ["a", ""], "not empty, got .* as number 1.*unanswerable"),
        (["a"], [["a", " "]], "not empty"),
        (["a", "b"], ["a", []], "`references` must hold a text or a list of texts.*number 1"),
        (["a", None], ["a", "b"], "`predictions` must hold strings, got None .* number 1"),
        (["a"], [3], r"`references\[0\]` must be a string"),
        (["a"], [["a", 3]], r"`references\[0\]` must hold strings, got 3"),
    ],
)
def test_bad_texts_are_refused(name, predictions, references, message):
    with pytest.raises(ValueError, match=message):
        getattr(evaluation, name)(predictions, references)


@pytest.mark.parametrize("name", ALL)
def test_an_empty_prediction_is_wrong_but_allowed(name):
    found = getattr(evaluation, name)([""], ["right"])
    scores = collections.deque(found if name == "rouge" else [getattr(found, "score", found)])
    assert set(scores) == {0}
    assert getattr(evaluation, name)(np.array(["right"]), np.array(["right"])) is not None


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="`tokenize` must be one of 13a, zh"):
        evaluation.bleu(["a"], ["a"], tokenize="flores")
    with pytest.raises(ValueError, match="`word_order` must be 0, 1 or 2, got 3"):
        evaluation.chrf(["a"], ["a"], word_order=3)
    with pytest.raises(ValueError, match="ROUGE counts; got 'привет' as number 0"):
        evaluation.rouge(["a"], ["привет"])


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge"])
def test_a_missing_package_is_named(name, monkeypatch):
    actual = builtins.__import__

    def without(module, *arguments, **settings):
        if module.split(".")[0] in ("sacrebleu", "rouge_score"):
            raise ImportError(module)
        return actual(module, *arguments, **settings)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'gpt_keras\[evaluation\]'"):
        getattr(evaluation, name)(["a"], ["a"])
