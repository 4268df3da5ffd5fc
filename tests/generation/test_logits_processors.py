"""Logits processors against Hugging Face's, against NumPy, and what must not matter to them."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import gpt_keras as gk
from gpt_keras.generation.context import CONTEXT_SPECS, Context
from gpt_keras.generation.processors import (
    PROCESSORS,
    choices_complete,
    graph_checks,
    process,
    read_settings,
    tensor_specs,
    warp,
)

FIXTURE = np.load(pathlib.Path(__file__).parent.parent / "fixtures" / "logits_processors.npz")
HUGGING_FACE = [json.loads(str(text)) for text in FIXTURE["settings"]]
VOCABULARY_SIZE = 12
INF = float("inf")


@pytest.fixture(scope="module")
def in_graph():
    """All processors as the generator runs them: one graph for every shape and setting."""

    def run(logits, settings, context):
        complete = choices_complete(settings, context)
        processed = process(logits, settings, context)
        return processed, warp(processed, settings), complete

    logits = tf.TensorSpec([None, None], tf.float32)
    run = tf.function(run, input_signature=[logits, tensor_specs(), CONTEXT_SPECS], autograph=False)
    run.get_concrete_function()

    def call(logits, given, context, size=VOCABULARY_SIZE):
        tensors = read_settings(given, None, size, context.end_token_ids.numpy())
        return [result.numpy() for result in run(logits, tensors, context)]

    return call


def context_of(rows, num_new=0, end_token_ids=(), rubbish=0, padding=0):
    """A context in which `rows`, lists of ids, end with `num_new` new tokens each."""
    index = max(map(len, rows)) + padding
    token_ids = np.random.default_rng(0).integers(-5, 50, (len(rows), index + rubbish))
    for row, ids in zip(rows, token_ids, strict=True):
        ids[index - len(row) : index] = row
    return Context(
        tf.constant(token_ids, tf.int32),
        starts=tf.constant([index - len(row) for row in rows], tf.int32),
        first=tf.constant(index - num_new),
        index=tf.constant(index),
        end_token_ids=tf.constant(list(end_token_ids), tf.int32),
    )


def logits_of(seed, shape=(3, VOCABULARY_SIZE)):
    return np.random.default_rng(seed).normal(scale=3, size=shape).astype("float32")


def ours(given):
    """Settings of Hugging Face's `generate` in our names."""
    renamed = {"bad_words_ids": "bad_words", "sequence_bias": "logit_bias"}
    given = {renamed.get(name, name): value for name, value in given.items()}
    if "logit_bias" in given:
        pairs = given["logit_bias"]
        given["logit_bias"] = {tuple(ids) if ids[1:] else ids[0]: bias for ids, bias in pairs}
    return given


def fixture_case(case):
    length = FIXTURE["token_ids"].shape[1]
    rows, end_token_ids = FIXTURE["token_ids"].tolist(), FIXTURE["end_token_ids"]
    context = context_of(rows, length - int(FIXTURE["prompt_length"]), end_token_ids, 3, 2)
    return FIXTURE["logits"], ours(HUGGING_FACE[case]), context, FIXTURE["expected"][case]


@pytest.mark.parametrize("case", range(len(HUGGING_FACE)), ids=lambda i: str(HUGGING_FACE[i])[:60])
def test_equals_hugging_face(in_graph, case):
    logits, given, context, expected = fixture_case(case)
    if "top_p" in given:  # of equal logits, as in the last row, Hugging Face drops some
        logits, expected = logits[:-1], expected[:-1]
        context = context._replace(token_ids=context.token_ids[:-1], starts=context.starts[:-1])
    result = in_graph(logits, given, context)[1]
    np.testing.assert_allclose(result, expected, rtol=1e-6)


TOP_P_ALONE = [i for i, alone in enumerate(HUGGING_FACE) if list(alone) == ["top_p"]]


@pytest.mark.parametrize("case", TOP_P_ALONE)
def test_top_p_keeps_what_hugging_face_keeps_and_all_that_equals_it(in_graph, case):
    logits, given, context, expected = fixture_case(case)
    kept, theirs = np.isfinite(in_graph(logits, given, context)[1][-1]), np.isfinite(expected[-1])
    smallest = logits[-1][theirs].min()
    np.testing.assert_array_equal(kept, logits[-1] >= smallest)
    assert len(set(logits[-1])) < VOCABULARY_SIZE


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 0.999))
def test_top_p_keeps_the_smallest_set_that_reaches_p(seed, p):
    logits = logits_of(seed)
    result = warp(logits, read_settings({"top_p": p}, None, VOCABULARY_SIZE)).numpy()
    for row in range(3):
        probabilities = np.exp(np.float64(logits[row]))
        probabilities /= probabilities.sum()
        kept = np.flatnonzero(np.isfinite(result[row]))
        mass = probabilities[kept].sum()
        assert mass >= p - 1e-5
        assert mass - probabilities[kept].min() < p + 1e-5
        assert probabilities[kept].min() >= np.delete(probabilities, kept).max(initial=0)
        np.testing.assert_array_equal(result[row][kept], logits[row][kept])


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 11), min_size=5, max_size=8), min_size=1, max_size=4),
    st.integers(0, 5),
    st.floats(-2, 2, width=32),
    st.floats(-2, 2, width=32),
)
def test_presence_and_frequency_count_new_tokens_alone(in_graph, rows, num_new, presence, often):
    logits = logits_of(1, (len(rows), VOCABULARY_SIZE))
    given = {"presence_penalty": presence, "frequency_penalty": often}
    result = in_graph(logits, given, context_of(rows, num_new))[0]
    new = [row[len(row) - num_new :] for row in rows]
    counts = np.array([np.bincount(ids, minlength=VOCABULARY_SIZE) for ids in new])
    expected = logits - presence * (counts > 0) - often * counts
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


EVERYTHING = {
    "logit_bias": {3: 1.5, 4: -INF, (0, 1): 2.0, (0, 0, 2): -3.0},
    "repetition_penalty": 1.3,
    "presence_penalty": 0.5,
    "frequency_penalty": -0.4,
    "bad_words": [[1, 1], [2, 0, 1], [0, 2]],
    "min_new_tokens": 2,
    "no_repeat_ngram_size": 2,
    "temperature": 0.8,
    "top_k": 9,
    "top_p": 0.95,
    "min_p": 0.01,
    "typical_p": 0.95,
}


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=9), min_size=1, max_size=5),
    st.integers(0, 2),
    st.booleans(),
    st.integers(0, 4),
    st.integers(0, 4),
)
def test_padding_rubbish_and_other_rows_do_not_matter(
    in_graph, rows, num_new, with_choices, rubbish, padding
):
    choices = {"choices": [[0, 1, 2], [0, 1], [2], [1, 1, 7]]} if with_choices else {}
    logits = logits_of(2, (len(rows), VOCABULARY_SIZE))
    context = context_of(rows, num_new, [9, 11], rubbish, padding)
    together = in_graph(logits, EVERYTHING | choices, context)
    for i, row in enumerate(rows):
        context = context_of([row], num_new, [9, 11])
        alone = in_graph(logits[i : i + 1], EVERYTHING | choices, context)
        for result, expected in zip(together, alone, strict=True):
            np.testing.assert_array_equal(result[i], expected[0])


def test_settings_that_are_off_change_nothing_and_fit_their_specs(in_graph):
    logits = logits_of(4)
    logits[0, 3], logits[1] = -INF, 0.0
    context = context_of([[1, 2, 1], [3], [4, 4]], 1, [1])
    off = dict.fromkeys(PROCESSORS) | {"bad_words": [], "logit_bias": {}}
    for nothing in ({}, off):
        processed, warped, complete = in_graph(logits, nothing, context)
        np.testing.assert_array_equal(processed, logits)
        np.testing.assert_array_equal(warped, logits)
        assert complete.tolist() == [False] * 3
    tensors, specs = read_settings({}, None, 5), tensor_specs()
    assert list(tensors) == list(specs)
    assert all(specs[name].is_compatible_with(tensor) for name, tensor in tensors.items())
    assert all(spec.name == name for name, spec in specs.items())


def test_a_setting_of_hugging_face_that_is_a_ban_stays_one(in_graph):
    logits = logits_of(5)
    logits[:, 3] = -INF
    given = {"logit_bias": {3: 50.0}, "repetition_penalty": 0.1, "frequency_penalty": -2.0}
    result = in_graph(logits, given, context_of([[3, 3]] * 3, 2))[0]
    assert (result[:, 3] == -INF).all()
    assert np.isfinite(np.delete(result, 3, axis=1)).all()


def test_ids_beyond_the_logits_are_left_out(in_graph):
    logits = logits_of(6, (2, 4))
    context = context_of([[3, 4, 5, 9], [4, 0, 7, 4]], 2, [8])
    given = {"repetition_penalty": 2.0, "no_repeat_ngram_size": 1, "min_new_tokens": 9}
    result = in_graph(logits, given, context, size=4)[0]
    assert np.isfinite(result).tolist() == [[True] * 3 + [False], [False] + [True] * 3]
    np.testing.assert_array_equal(result[0, :3], logits[0, :3])


# What would be left where two bans together leave nothing.
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"no_repeat_ngram_size": 1}, [0, 1, 2, 3]),
        ({"bad_words": [[0], [1], [2], [3]]}, [0, 1, 2, 3]),
        ({"logit_bias": dict.fromkeys(range(4), -INF)}, [0, 1, 2, 3]),
        ({"logit_bias": {0: -INF}, "bad_words": [[1], [2], [3]]}, [1, 2, 3]),
        ({"bad_words": [[0]], "no_repeat_ngram_size": 1}, [1, 2, 3]),
        ({"min_new_tokens": 9, "no_repeat_ngram_size": 1}, [0, 1]),
        ({"min_new_tokens": 9, "bad_words": [[0], [1]]}, [2, 3]),
        ({"choices": [[1]], "bad_words": [[1]], "logit_bias": {1: -INF}}, [1]),
        ({"choices": [[2]], "min_new_tokens": 9}, [2]),
    ],
)
def test_a_row_always_keeps_a_token(in_graph, given, kept):
    logits = logits_of(7, (2, 4))
    context = context_of([[0, 1, 2, 3], [0, 1, 2, 3]], 0, [2, 3])
    result = in_graph(logits, given, context, size=4)[0]
    assert [np.flatnonzero(np.isfinite(row)).tolist() for row in result] == [kept] * 2


def test_only_the_row_without_tokens_is_left_alone(in_graph):
    logits = logits_of(8, (2, 3))
    context = context_of([[0, 1, 2], [0, 1, 1]])
    result = in_graph(logits, {"no_repeat_ngram_size": 1}, context, size=3)[0]
    np.testing.assert_array_equal(result[0], logits[0])
    np.testing.assert_array_equal(np.isfinite(result[1]), [False, False, True])


@pytest.mark.parametrize("penalty", [1e-38, 3e38])
def test_extreme_penalties_leave_numbers(in_graph, penalty):
    logits = logits_of(9) * 100
    result = in_graph(logits, {"repetition_penalty": penalty}, context_of([[0, 1, 2]] * 3))[0]
    assert np.isfinite(result.max(axis=1)).all()
    assert not np.isnan(tf.nn.softmax(result)).any()


CHOICES = st.lists(
    st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple), min_size=1, max_size=6
)


@settings(max_examples=40, deadline=None)
@given(CHOICES, st.lists(st.integers(0, 3), max_size=7))
def test_choices_allow_what_continues_them(in_graph, choices, new):
    context = context_of([[1, *new], [2, *new[::-1]]], len(new), [4])
    logits = logits_of(10, (2, 6))
    processed, _, complete = in_graph(logits, {"choices": choices}, context, size=6)
    for row, tokens in enumerate((tuple(new), tuple(new[::-1]))):
        begun = [choice for choice in choices if choice[: len(tokens)] == tokens]
        allowed = {choice[len(tokens)] for choice in begun if len(choice) > len(tokens)}
        assert complete[row] == (tokens in choices and not allowed)
        allowed |= {4} if tokens in choices else set()
        allowed = allowed or set(range(6))  # a row that has left the choices is not touched
        assert set(np.flatnonzero(np.isfinite(processed[row]))) == allowed
        np.testing.assert_array_equal(processed[row, list(allowed)], logits[row, list(allowed)])


@settings(max_examples=15, deadline=None)
@given(CHOICES, st.integers(0, 1000))
def test_walking_always_ends_in_a_choice(in_graph, choices, seed):
    new, rng = [], np.random.default_rng(seed)
    while True:
        logits = rng.normal(size=(1, 6)).astype("float32")
        logits[0, rng.integers(6, size=3)] = -INF  # a model may take a choice for impossible
        context = context_of([[0, *new]], len(new), [4])
        processed, _, complete = in_graph(logits, {"choices": choices}, context, size=6)
        token = int(processed[0].argmax())
        if complete[0] or token == 4:
            break
        new.append(token)
    assert tuple(new) in choices


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": -0.1}, r"`temperature` must be a number of at least 0.*-0\.1"),
        ({"temperature": INF}, "`temperature` .*inf"),
        ({"temperature": float("nan")}, "`temperature` .*nan"),
        ({"temperature": "1"}, "`temperature` .*'1'"),
        ({"temperature": True}, "`temperature` .*True"),
        ({"temperature": 10**400}, "`temperature`"),
        ({"top_k": 0}, "`top_k` must be an integer of at least 1, or None for off; got 0"),
        ({"top_k": 2.0}, r"`top_k` .*2\.0"),
        ({"top_p": 0}, r"`top_p` must be a number in \(0, 1\].*got 0"),
        ({"top_p": 1.01}, r"`top_p` .*1\.01"),
        ({"top_p": 1e-60}, "`top_p` .*float32.*1e-60"),
        ({"min_p": -0.01}, r"`min_p` must be a number in \[0, 1\]"),
        ({"min_p": 1 + 1e-12}, r"`min_p` must be a number in \[0, 1\]"),
        ({"typical_p": 0.0}, r"`typical_p` must be a number in \(0, 1\]"),
        ({"repetition_penalty": 0}, "`repetition_penalty` must be a number above 0"),
        ({"presence_penalty": 2.1}, r"`presence_penalty` must be a number in \[-2, 2\]"),
        ({"frequency_penalty": -2.1}, r"`frequency_penalty` must be a number in \[-2, 2\]"),
        ({"no_repeat_ngram_size": 0}, "`no_repeat_ngram_size` must be an integer of at least 1"),
        ({"min_new_tokens": -1}, "`min_new_tokens` must be an integer of at least 0"),
        ({"bad_words": "bad"}, "`bad_words` must be a list .*'bad'"),
        ({"bad_words": [3]}, "`bad_words` must hold .*got 3"),
        ({"bad_words": [[]]}, r"`bad_words` must hold .*got \[\]"),
        ({"bad_words": [[1, 12]]}, r"`bad_words` must hold .*\[0, 12\).*got \[1, 12\]"),
        ({"bad_words": [[-1]]}, "`bad_words` must hold"),
        ({"bad_words": [[1.0]]}, "`bad_words` must hold"),
        ({"bad_words": ["bad"]}, "`bad_words` holds a text, 'bad', which needs a tokenizer"),
        ({"choices": []}, "`choices` must hold at least one"),
        ({"choices": [[1, 2], [5], [1, 2, 3]]}, r"`choices` .*\[1, 2, 3\] begin with \[1, 2\]"),
        ({"logit_bias": [1.0]}, r"`logit_bias` must be a mapping.*\[1\.0\]"),
        ({"logit_bias": {12: 1.0}}, "`logit_bias` must hold .*got 12"),
        ({"logit_bias": {"1": 1.0}}, "`logit_bias` must hold .*got '1'"),
        ({"logit_bias": {(): 1.0}}, r"`logit_bias` must hold .*got \(\)"),
        ({"logit_bias": {1: INF}}, "`logit_bias` .*got inf for 1"),
        ({"logit_bias": {1: "x"}}, "`logit_bias` .*got 'x' for 1"),
    ],
)
def test_a_wrong_setting_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        read_settings(given, None, VOCABULARY_SIZE)


def test_an_unknown_setting_lists_those_there_are():
    with pytest.raises(TypeError, match=r"`top_q`.*temperature, top_k"):
        read_settings({"top_q": 1}, None, VOCABULARY_SIZE)


def test_bad_words_are_banned_at_the_beginning_and_after_a_space():
    tokenizer = gk.tokenizers.BytePairTokenizer.gpt2()
    given = {"bad_words": ["lamp", " Vase", [7]]}
    rows = read_settings(given, tokenizer, tokenizer.vocabulary_size)["bad_words"].numpy()
    expected = [*tokenizer.encode(["lamp", " lamp", " Vase"]), [7]]
    assert [row[row >= 0].tolist() for row in rows] == expected
    assert (rows[:, -1] >= 0).all()


def test_bad_words_need_no_space_that_the_tokenizer_does_not_know():
    tokenizer = gk.tokenizers.CharacterTokenizer("abc")
    settings = read_settings({"bad_words": ["ab"]}, tokenizer, 3)
    assert settings["bad_words"].numpy().tolist() == [[0, 1]]
    with pytest.raises(ValueError, match=r"`bad_words` holds 'ax'.*\['x'\]"):
        read_settings({"bad_words": ["ax"]}, tokenizer, 3)


def test_choices_are_encoded_as_they_stand():
    tokenizer = gk.tokenizers.CharacterTokenizer("abc ")
    given = {"choices": ["ab", " c", "ab", [3, 0, 0]]}
    rows = read_settings(given, tokenizer, 4)["choices"].numpy()
    assert rows.tolist() == [[0, 1, -1], [3, 2, -1], [3, 0, 0]]
    beginning = {"choices": ["ab", "abc"]}
    read_settings(beginning, tokenizer, 4, end_token_ids=[3])
    with pytest.raises(ValueError, match="`choices`"):
        read_settings(beginning, tokenizer, 4)


def test_the_graph_checks_tensors_that_nobody_read():
    fine = read_settings({"choices": [[1], [2, 3]], "logit_bias": {1: 2.0}}, None, 5)
    graph_checks(fine)
    wrong = {
        "top_p": tf.constant(0.0),
        "top_k": tf.constant(-1),
        "temperature": tf.constant(float("nan")),
        "presence_penalty": tf.constant(3.0),
        "bad_words": tf.constant([[1, -1]]),
        "choices": tf.constant([[-1, 1]]),
        "logit_bias": tf.constant([1.0, 2.0]),
    }
    for name, tensor in [*wrong.items(), ("bad_words", tf.zeros((1, 0), tf.int32))]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=name):
            graph_checks(fine | {name: tensor})
