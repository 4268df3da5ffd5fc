"""Scores of continuations equal a softmax over whole passes, in NumPy."""

import collections
import functools
from itertools import chain

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from test_custom_backbone import LearnedPositions, Mine
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.generation import continuations
from gpt_keras.generation.continuations import CachedPasses, ContinuationScore, score_continuations

VOCABULARY = 32


def plain_scores(model, requests, num_known=VOCABULARY):
    """The definition: whole passes, cut as HFLM cuts them, and a softmax in float64."""
    limit = model.max_sequence_length or 10**6
    rows = [(context + cont)[-(limit + 1) :][:-1] for context, conts in requests for cont in conts]
    passes = iter(whole_passes(model, rows))
    found = []
    for context, conts in requests:
        found.append([])
        for continuation in conts:
            logits = np.float64(next(passes))[-len(continuation) :, :num_known]
            logits -= logits.max(-1, keepdims=True)
            log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            chosen = [
                line[token_id] if token_id < num_known else -np.inf
                for line, token_id in zip(log_probs, continuation, strict=True)
            ]
            found[-1].append(
                ContinuationScore(
                    float(np.sum(chosen)),
                    len(continuation),
                    bool((logits.argmax(-1) == continuation).all()),
                    len(context) + len(continuation) > limit + 1,
                )
            )
    return found


def whole_passes(model, rows):
    """The logits of each row; padding on the right changes none of them."""
    length = getattr(model.backbone, "input_shape", (None, None))[1] or max(map(len, rows))
    padded = np.array([row + [0] * (length - len(row)) for row in rows], np.int32)
    logits = np.array(model(padded, training=False).numpy(), np.float64)
    return [line[: len(row)] for line, row in zip(logits, rows, strict=True)]


def check(model, requests, num_known=VOCABULARY, atol=1e-3, **kwargs):
    found = score_continuations(model, requests, **kwargs)
    expected = plain_scores(model, requests, num_known)
    assert [len(scores) for scores in found] == [len(scores) for scores in expected]
    for score, right in zip(chain(*found), chain(*expected), strict=True):
        assert score.log_probability == pytest.approx(right.log_probability, abs=atol)
        assert score[1:] == right[1:]
    return found


def random_requests(seed, number=12, longest_context=60, longest=20):
    """Requests that share contexts and beginnings of continuations; some are too long."""
    generator = np.random.default_rng(seed)

    def row(longest):
        return generator.integers(0, VOCABULARY, generator.integers(1, longest + 1)).tolist()

    requests = []
    for _ in range(number):
        stem = row(longest // 2)
        conts = [stem + row(longest // 2) for _ in range(generator.integers(1, 4))]
        requests.append((row(longest_context), [stem, *conts, row(1), row(1)]))
    requests.append((requests[0][0], requests[1][1]))
    requests.append((requests[0][0][:1], [[1], [2], [1], [1, 2]]))
    return requests


def gpt(**changes):
    keras.utils.set_random_seed(3)
    return spread_weights(gk.GPTCausalLM(tiny_config(**changes)))


@pytest.fixture(scope="module")
def model():
    return gpt()


KINDS = {
    "learned": lambda: gpt(),
    "llama": lambda: gpt(
        position_embedding="rotary",
        norm="rms_norm",
        activation="swiglu",
        num_key_value_heads=1,
        tie_embeddings=False,
    ),
    "long llama": lambda: gpt(
        position_embedding="rotary", norm="rms_norm", max_sequence_length=96, num_layers=1
    ),
    "window": lambda: gpt(attention_windows=(3, None), position_embedding="rotary"),
    "lstm": lambda: gk.CausalLM(gk.LSTMBackbone(VOCABULARY, 2, 16)),
    "limited lstm": lambda: gk.CausalLM(gk.LSTMBackbone(VOCABULARY, 1, 16, max_sequence_length=25)),
    "user's": lambda: spread_weights(gk.CausalLM(Mine())),
    "user's positions": lambda: spread_weights(gk.CausalLM(LearnedPositions())),
    "writes in extend": lambda: gk.CausalLM(WritesInExtend()),
    "no cache": lambda: gk.CausalLM(without_cache(None)),
    "fixed length": lambda: gk.CausalLM(without_cache(40)),
}


def without_cache(length):
    inputs = keras.Input((length,), dtype="int32")
    x = keras.layers.Embedding(VOCABULARY, 16, embeddings_initializer="normal")(inputs)
    x = keras.layers.GRU(16, return_sequences=True)(x)
    return keras.Model(inputs, keras.layers.Dense(VOCABULARY)(x))


class WritesInExtend(Mine):
    """Attends to its whole cache, so the cache must have room for the new tokens."""

    def extend(self, token_ids, cache, index, starts):
        empty = self.initial_cache(tf.shape(token_ids)[0], tf.shape(token_ids)[1])
        _, update = super().extend(token_ids, cache, index, starts)
        # Fails if the new columns are outside of the cache.
        written = self.write(cache, update, index)
        new = tf.range(tf.shape(token_ids)[1]) + index
        for part, room in zip(tf.nest.flatten(written), tf.nest.flatten(empty), strict=True):
            tf.debugging.assert_equal(tf.shape(tf.gather(part, new, axis=2)), tf.shape(room))
        return super().extend(token_ids, cache, index, starts)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_whole_passes(kind):
    model = KINDS[kind]()
    requests = random_requests(1)
    if kind == "limited lstm":
        assert model.max_sequence_length == 25
    found = check(model, requests, batch_size=3)
    is_limited = (model.max_sequence_length or 100) < 60
    assert any(score.was_cut for scores in found for score in scores) == is_limited


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 3, 8, 50]))
def test_random_groups(model, seed, batch_size):
    check(model, random_requests(seed, 6, 50, 48), batch_size=batch_size)


def test_the_batch_size_changes_only_rounding(model):
    requests = random_requests(7)
    runs = [score_continuations(model, requests, batch_size=size) for size in (1, 3, 8)]
    runs += [[score_continuations(model, [one])[0] for one in requests]]
    for run in runs[1:]:
        for score, other in zip(chain(*runs[0]), chain(*run), strict=True):
            assert score.log_probability == pytest.approx(other.log_probability, abs=1e-4)
            assert score[1:] == other[1:]
    assert score_continuations(model, requests, batch_size=3) == runs[1]


def test_the_sum_of_score(spread_model):
    tokenizer = spread_model.tokenizer
    context, conts = tokenizer.encode("the cat"), [tokenizer.encode(c) for c in (" sat", " is")]
    (found,) = score_continuations(spread_model, [(context, conts)])
    for score, continuation in zip(found, conts, strict=True):
        expected = spread_model.score([continuation], prompts=[context])[0]
        assert score.log_probability == pytest.approx(expected.sum(), abs=1e-4)


def test_greedy_continuations(spread_model):
    (row,) = spread_model.generate([[3, 4, 5]], max_new_tokens=6, temperature=0)
    (found,) = score_continuations(spread_model, [([3, 4, 5], [row[3:], row[3:5], [0, 1]])])
    assert [score.is_greedy for score in found] == [True, True, False]


def test_ids_that_the_tokenizer_lacks_have_probability_0():
    tokenizer = gk.tokenizers.CharacterTokenizer("abc ")
    model = spread_weights(gk.GPTCausalLM(tiny_config(), tokenizer=tokenizer))
    requests = [([1, 2], [[3], [3, 9, 1], [31], [0, 1, 2]])]
    (found,) = check(model, requests, num_known=tokenizer.vocabulary_size)
    assert found[1].log_probability == found[2].log_probability == -np.inf
    assert not found[1].is_greedy


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_bfloat16"])
def test_half_precision(dtype):
    keras.utils.set_random_seed(3)
    model = gk.GPTCausalLM(tiny_config(), dtype=dtype)
    found = score_continuations(model, random_requests(2))
    expected = plain_scores(model, random_requests(2))
    for score, right in zip(chain(*found), chain(*expected), strict=True):
        assert score.log_probability == pytest.approx(right.log_probability, rel=1e-2, abs=0.1)


@pytest.mark.parametrize("kind", ["learned", "limited lstm", "no cache"])
def test_little_memory(kind, monkeypatch):
    """Long continuations run in several steps, and contexts in several pools."""
    model = KINDS[kind]()
    monkeypatch.setattr(continuations, "_LOGITS_BYTES", 4 * VOCABULARY * 3 * 5)
    monkeypatch.setattr(continuations, "_POOL_BYTES", 0)
    monkeypatch.setattr(continuations, "_ROW_TOKENS", 1)
    check(model, random_requests(4), batch_size=3)


def test_long_contexts_run_in_chunks(monkeypatch):
    monkeypatch.setattr("gpt_keras.generation.continuation_passes._CHUNK", 7)
    check(KINDS["llama"](), random_requests(5), batch_size=3)


def few_shot_requests(number=10):
    """Two prompts with many tokens, each before several short questions."""
    generator = np.random.default_rng(11)

    def draw(longest):
        return generator.integers(0, 32, generator.integers(1, longest)).tolist()

    prompts = [generator.integers(0, 32, 40).tolist() for _ in range(2)]
    requests = [(prompts[i % 2] + draw(12), [draw(6), draw(6)]) for i in range(number)]
    return [*requests, *random_requests(12, 3, 20)]


@pytest.fixture
def num_run(monkeypatch):
    """The number of tokens that were run, padding included, by the name of the pass."""
    counts = collections.Counter()

    def counted(name):
        made = getattr(CachedPasses, name).func

        def wrapped(self):
            function = made(self)

            def run(token_ids, *rest):
                counts[name] += token_ids.size
                return function(token_ids, *rest)

            return run

        wrapped = functools.cached_property(wrapped)
        wrapped.__set_name__(CachedPasses, name)
        monkeypatch.setattr(CachedPasses, name, wrapped)

    counted("fill")
    counted("score")
    return counts


@pytest.mark.parametrize("kind", ["long llama", "lstm"])
def test_a_few_shot_prompt_runs_once(kind, num_run):
    model = KINDS[kind]()
    requests = few_shot_requests()
    check(model, requests, batch_size=2)
    whole = sum(len(context) + len(c) - 1 for context, conts in requests for c in conts)
    trunks = sum(len(context) for context, _ in requests)
    total = num_run.total()
    if kind == "lstm":  # its state cannot move, so each context runs, but only once
        assert trunks < total < whole
    else:
        assert total < trunks


def test_shared_tokens_run_once(num_run):
    """The context and the beginning of its continuations run once."""
    stem = [4, 5, 6, 7]
    conts = [[*stem, 8, 9, 1], [*stem, 9], stem, [*stem, 8, 9]]
    check(KINDS["llama"](), [([1, 2, 3], conts)])
    assert num_run == {"fill": 2, "score": 1 + 4 + 2}


def test_single_tokens_need_no_second_pass(num_run):
    check(KINDS["llama"](), [([1, 2, 3], [[4], [5], [6], [4]]), ([1, 2], [[9]])])
    assert num_run.total() == 2 * 3


def test_functions_are_traced_once(spread_model):
    passes = spread_model._require_generators().continuation_passes
    for seed in range(3):
        score_continuations(spread_model, random_requests(seed, 3 + seed))
    assert spread_model._require_generators().continuation_passes is passes
    for function in (passes.empty, passes.fill, passes.take, passes.score):
        assert function.experimental_get_tracing_count() == 1


def test_new_variables_are_seen():
    model = gpt()
    requests = random_requests(6, 3)
    score_continuations(model, requests)
    model.enable_lora(2)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.1)
    check(model, requests)


def test_weights_and_seeds_stay():
    model = gpt(dropout=0.5)
    before = [np.array(variable) for variable in model.variables]
    first = score_continuations(model, random_requests(8, 3))
    assert score_continuations(model, random_requests(8, 3)) == first
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_contexts_run_without_the_output_projection(model):
    """TensorFlow removes it, so logits that cannot be made are no error."""
    passes = continuations.CachedPasses(Breaks(), None)
    starts, one = np.zeros(2, np.int32), np.zeros(1, np.int32)
    cache = passes.fill(np.ones((2, 5), np.int32), passes.empty(2, 8), 0, starts)
    assert cache[0][0].shape == (2, 2, 8, 8)
    targets = continuations.Targets(one, one, one)
    with pytest.raises(tf.errors.InvalidArgumentError, match="reshape"):
        passes.score(np.ones((2, 1), np.int32), cache, 5, starts, targets)


class Breaks(Mine):
    """Its output projection fails when it runs."""

    def extend(self, token_ids, cache, index, starts):
        logits, update = super().extend(token_ids, cache, index, starts)
        return tf.reshape(logits, tf.shape(logits) + 1), update


def test_progress(model):
    finished = []
    requests = random_requests(9)
    score_continuations(model, requests, batch_size=2, progress=finished.append)
    assert sum(finished) == sum(len(conts) for _, conts in requests)
    assert len(finished) > 5


def test_nothing_to_do(model):
    assert score_continuations(model, []) == []
    assert score_continuations(model, [([1], [])]) == [[]]


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([([], [[1]])], "contexts; number 0 is empty"),
        ([([1], [[1]]), ([1], [[2], []])], "continuations; number 1 of context 1 is empty"),
        ([([1], [[32]])], r"must be in \[0, 32\)"),
        ([([-1], [[1]])], r"must be in \[0, 32\)"),
        ([([1.5], [[1]])], "must be integers"),
        ([([1], [[1] * 49])], "at most 48 tokens.*number 0 of context 0 has 49"),
    ],
)
def test_wrong_requests(model, requests, message):
    with pytest.raises(ValueError, match=message):
        score_continuations(model, requests)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True, None])
def test_wrong_batch_size(model, batch_size):
    with pytest.raises(ValueError, match="`batch_size` must be an integer of at least 1"):
        score_continuations(model, [([1], [[1]])], batch_size=batch_size)
