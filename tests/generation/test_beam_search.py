"""Beam search against Hugging Face's, against every continuation there is, and against NumPy."""

import itertools
import json
import pathlib

import numpy as np
import pytest
from tiny_models import tiny_config

import gpt_keras as gk
from gpt_keras.generation.arguments import read_call

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
CASES = json.loads((FIXTURES / "beam_search.json").read_text(encoding="utf-8"))["cases"]
BeamSearch = gk.generation.BeamSearch


# Against Hugging Face


@pytest.fixture(scope="module")
def huggingface_model():
    """A function from a case to its model; what one compiles, all its cases use."""
    models = {}

    def model_of(case):
        name, ends = case["model"], case["end_token_ids"]
        if name not in models:
            models[name] = gk.GPTCausalLM.from_preset(FIXTURES / "huggingface" / name)
        model = models[name]
        if list(model.end_token_ids) != ends:
            model.end_token_ids = ends
        return model

    return model_of


def assert_equal_to_hugging_face(model, case):
    renamed = {"bad_words_ids": "bad_words"}
    settings = {renamed.get(name, name): value for name, value in case["settings"].items()}
    strategy = BeamSearch(**case["strategy"])
    found = model.generate_with_scores(
        case["prompts"], max_new_tokens=10, strategy=strategy, **settings
    )
    for ours, theirs in zip(found, case["found"], strict=True):
        assert [beam.token_ids for beam in ours] == [beam["new_ids"] for beam in theirs]
        if strategy.num_beams > 1:
            scores = [beam["score"] for beam in theirs]
            np.testing.assert_allclose([beam.score for beam in ours], scores, atol=1e-4)


def cases_with(model, **strategy):
    ends, strategy = [3, 27, 37], {"num_beams": 3, **strategy}
    return [
        case
        for case in CASES
        if (case["model"], case["end_token_ids"], case["strategy"]) == (model, ends, strategy)
    ]


def cases_of(model, with_settings):
    cases = [case for case in CASES if case["model"] == model]
    # Those of the same end tokens together: other ones are compiled anew.
    cases.sort(key=lambda case: case["end_token_ids"])
    return [case for case in cases if bool(case["settings"]) == with_settings]


def name_of(case):
    ends, values = len(case["end_token_ids"]), case["strategy"].values()
    return "-".join(map(str, (case["model"], ends, *values, *case["settings"])))


@pytest.mark.xla
def test_equals_hugging_face():
    plain = {"num_beams": 3, "length_penalty": 1.0, "early_stopping": False}
    cases = [case for case in cases_of("gpt2", True) if case["strategy"] == plain]
    assert len(cases) == 5
    model = gk.GPTCausalLM.from_preset(FIXTURES / "huggingface" / "gpt2")
    for case in cases:
        if list(model.end_token_ids) != case["end_token_ids"]:
            model.end_token_ids = case["end_token_ids"]  # all is compiled anew
        assert_equal_to_hugging_face(model, case)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [*cases_of("gpt2", False), *cases_of("llama", False), *cases_of("llama", True)],
    ids=name_of,
)
def test_every_way_of_stopping_equals_hugging_face(huggingface_model, case):
    assert_equal_to_hugging_face(huggingface_model(case), case)


# Against NumPy


def log_softmax(logits):
    logits = np.float64(logits)
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def next_log_probs(model, prompt, rows):
    """Of the token after each of `rows`, new tokens that are equally many."""
    token_ids = np.array([[*prompt, *row] for row in rows])
    return log_softmax(model(token_ids)[:, -1])


def search_in_numpy(model, prompt, limit, strategy, is_end):
    """The same search, one prompt and one list at a time: the rows found, and its steps."""
    num_beams, penalty = strategy.num_beams, strategy.length_penalty
    running, ended = [(0.0, ())], []
    for step in range(1, limit + 1):
        log_probs = next_log_probs(model, prompt, [tokens for _, tokens in running])
        candidates = sorted(
            (
                (total + log_prob, (*tokens, token))
                for (total, tokens), row in zip(running, log_probs, strict=True)
                for token, log_prob in enumerate(row)
            ),
            reverse=True,
        )
        ends = {tokens for _, tokens in candidates if step == limit or is_end(tokens)}
        best = candidates[:num_beams]
        ended += [(total / step**penalty, tokens) for total, tokens in best if tokens in ends]
        ended = sorted(ended, reverse=True)[:num_beams]
        candidates = candidates[: 2 * num_beams]
        running = [beam for beam in candidates if beam[1] not in ends][:num_beams]
        if not running:
            break
        length = limit if strategy.early_stopping == "never" and penalty > 0 else step
        is_hopeless = running[0][0] / length**penalty <= ended[-1][0] if ended else False
        if len(ended) == num_beams and (strategy.early_stopping is True or is_hopeless):
            break
    return ended, step


def assert_found(found, expected, end=None):
    """The continuations are those expected, of `(score, tokens)`, without the end."""
    tokens = [[token for token in tokens if token != end] for _, tokens in expected]
    assert [beam.token_ids for beam in found] == tokens
    scores = [score for score, _ in expected]
    np.testing.assert_allclose([beam.score for beam in found], scores, rtol=1e-4)


def num_steps(model, prompts, **settings):
    """How many steps a search takes, and how far it might have gone."""
    call = read_call(model, prompts, **settings)
    generator = model._generator(call, keep_log_probs=True)
    state = generator.start(call.request)
    after = generator.advance(state, 1000, call.settings)
    return int(after.index - state.index)


def all_but(model, letters):
    """Everything that is neither one of the letters nor the end of the text, as `bad_words`."""
    kept = {*model.tokenizer.encode(letters), model.tokenizer.end_of_text_id}
    return [[token_id] for token_id in range(model.vocabulary_size) if token_id not in kept]


MANY = BeamSearch(50, length_penalty=0.5, early_stopping="never")
THREE = BeamSearch(3)


def test_equals_an_exhaustive_search(spread_model):
    end, prompts = spread_model.tokenizer.end_of_text_id, ["so", "then, "]
    letters = spread_model.tokenizer.encode("eat")
    settings = {"max_new_tokens": 3, "strategy": MANY, "bad_words": all_but(spread_model, "eat")}
    results = spread_model.generate_with_scores(prompts, **settings)
    for prompt, found in zip(prompts, results, strict=True):
        prompt = spread_model.tokenizer.encode(prompt)
        everything = []
        for length in (1, 2, 3):
            beginnings = list(itertools.product(letters, repeat=length - 1))
            totals = np.zeros(len(beginnings))
            for i in range(length - 1):
                log_probs = next_log_probs(spread_model, prompt, [row[:i] for row in beginnings])
                totals += log_probs[range(len(beginnings)), [row[i] for row in beginnings]]
            log_probs = next_log_probs(spread_model, prompt, beginnings)
            for last in (end, *letters) if length == 3 else [end]:
                everything += [
                    ((total + row[last]) / length**0.5, (*beginning, last))
                    for total, row, beginning in zip(totals, log_probs, beginnings, strict=True)
                ]
        assert len(everything) == 1 + 3 + 9 + 27  # fewer than beams
        assert_found(found, sorted(everything, reverse=True), end)


def test_choices_are_found_all_and_nothing_else(spread_model):
    tokenizer = spread_model.tokenizer
    prompt, end = tokenizer.encode("yes or "), tokenizer.end_of_text_id
    choices, expected = ["no", "not", "o"], []
    for choice in choices:
        # "no" has to be told from "not" by an end of the text; nothing comes after the others.
        row = tokenizer.encode(choice) + [end] * (choice == "no")
        logits = spread_model(np.array([[*prompt, *row]]))[0, len(prompt) - 1 : -1]
        log_probs = log_softmax(logits)[range(len(row)), row]
        expected.append((log_probs.sum() / len(row) ** 0.5, row))
    settings = {"choices": choices, "strategy": MANY, "max_new_tokens": 16}
    prompts = [prompt, [*prompt, *prompt]]
    found = spread_model.generate_with_scores(prompts, **settings)[0]
    assert_found(found, sorted(expected, reverse=True), end)
    assert num_steps(spread_model, prompts, **settings) == 3  # then there is nothing to go on with


@pytest.mark.parametrize("stop", [[], ["a", "th"]], ids=["", "stop"])
def test_equals_the_search_in_numpy(spread_model, stop):
    tokenizer = spread_model.tokenizer
    end = tokenizer.end_of_text_id

    def is_end(tokens):
        return tokens[-1] == end or any(text in tokenizer.decode(tokens) for text in stop)

    # The second one has no more room than for 4 tokens.
    texts = ["hello, ", "what is this thing, and why is it? so so so "]
    prompts = [tokenizer.encode(text) for text in texts]
    assert len(prompts[1]) == 44
    settings = {"strategy": THREE, "max_new_tokens": 14, "stop": stop}
    results = spread_model.generate_with_scores(prompts, **settings)
    steps = []
    for prompt, found, limit in zip(prompts, results, (14, 4), strict=True):
        expected, num = search_in_numpy(spread_model, prompt, limit, THREE, is_end)
        assert_found(found, expected, end)
        steps.append(num)
    assert num_steps(spread_model, prompts, **settings) == max(steps)


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy",
    [
        pytest.param(BeamSearch(4, 2.0, "never"), marks=pytest.mark.graph),
        BeamSearch(4, 1.0, True),
        BeamSearch(4, -8.0, "never"),  # a score of less than -1e9 is one, too
        BeamSearch(4, 8.0),
    ],
    ids=str,
)
def test_ragged_batches_equal_single_runs_and_numpy(spread_model, strategy):
    end = spread_model.tokenizer.end_of_text_id
    draw = np.random.default_rng(0)
    prompts = [draw.integers(31, size=size).tolist() for size in (1, 5, 13, 34)]
    settings = {"max_length": 36, "strategy": strategy, "bad_words": all_but(spread_model, "abcde")}
    together = spread_model.generate_with_scores(prompts, **settings)
    for prompt, found in zip(prompts, together, strict=True):
        alone = spread_model.generate_with_scores(prompt, **settings)
        assert [beam.token_ids for beam in alone] == [beam.token_ids for beam in found]
        np.testing.assert_allclose(
            [beam.score for beam in alone], [beam.score for beam in found], rtol=1e-4
        )
    del settings["bad_words"]
    together = spread_model.generate_with_scores(prompts, **settings)
    for prompt, found in zip(prompts, together, strict=True):
        expected, _ = search_in_numpy(
            spread_model, prompt, 36 - len(prompt), strategy, lambda tokens: tokens[-1] == end
        )
        assert_found(found, expected, end)


def test_one_beam_is_greedy(spread_model):
    # As many rows as in the tests of three beams, and nothing to run before them: all is compiled.
    prompts = list("abcdef")
    settings = {"max_new_tokens": 14, "no_repeat_ngram_size": 1, "cache_length": 48}
    greedy = spread_model.generate(prompts, temperature=0, **settings)
    found = spread_model.generate_with_scores(prompts, strategy=BeamSearch(1), **settings)
    assert [[beam.text for beam in beams] for beams in found] == [[text] for text in greedy]
    assert max(map(len, greedy)) > 10


def test_without_time_the_best_tokens_come_back(spread_model):
    prompts = ["hello, ", "then "]
    settings = {"strategy": THREE, "max_new_tokens": 14, "time_limit": 1e-6}
    found = spread_model.generate_with_scores(prompts, **settings)
    for prompt, beams in zip(prompts, found, strict=True):
        log_probs = next_log_probs(spread_model, spread_model.tokenizer.encode(prompt), [()])[0]
        best = np.argsort(-log_probs)[:3]
        expected = [(log_probs[token], (token,)) for token in best]
        assert_found(beams, expected, spread_model.tokenizer.end_of_text_id)


def test_one_continuation_for_three_beams(spread_model):
    banned = [*all_but(spread_model, "a"), [spread_model.tokenizer.end_of_text_id]]
    prompts = ["hello, ", "then "]
    settings = {"strategy": THREE, "max_new_tokens": 4, "bad_words": banned}
    found = spread_model.generate_with_scores(prompts, **settings)
    assert [[beam.text for beam in beams] for beams in found] == [["hello, aaaa"], ["then aaaa"]]


def test_log_probs_are_the_models_own(spread_model):
    tokenizer = spread_model.tokenizer
    prompts = ["hello, ", "then "]
    settings = {"strategy": THREE, "max_new_tokens": 14, "repetition_penalty": 1.7}
    for prompt, beams in zip(
        prompts, spread_model.generate_with_scores(prompts, **settings), strict=True
    ):
        for beam in beams:
            assert beam.text == prompt + tokenizer.decode(beam.token_ids)
            row = [*tokenizer.encode(prompt), *beam.token_ids]
            logits = spread_model(np.array([row[:-1]]))[0, -len(beam.token_ids) :]
            expected = log_softmax(logits)[range(len(beam.token_ids)), beam.token_ids]
            np.testing.assert_allclose(beam.log_probs, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_beams": 0}, "`num_beams` must be an integer of at least 1, got 0"),
        ({"num_beams": 2.0}, "`num_beams`"),
        ({"num_beams": True}, "`num_beams`"),
        (
            {"num_beams": 2, "length_penalty": float("nan")},
            "`length_penalty` must be a number.*nan",
        ),
        ({"num_beams": 2, "length_penalty": float("inf")}, "`length_penalty` .*inf"),
        ({"num_beams": 2, "length_penalty": None}, "`length_penalty` .*None"),
        ({"num_beams": 2, "early_stopping": "maybe"}, "`early_stopping` .*'never', got 'maybe'"),
        ({"num_beams": 2, "early_stopping": 1}, "`early_stopping` .*got 1"),
        ({"num_beams": 2, "early_stopping": None}, "`early_stopping` .*got None"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        BeamSearch(**arguments)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.7}, "`temperature` must be left out with BeamSearch.*0.7"),
        ({"top_k": 5}, "`top_k` must be left out with BeamSearch.*5"),
        ({"top_p": 0.9}, "`top_p` must be left out"),
        ({"min_p": 0.1}, "`min_p` must be left out"),
        ({"typical_p": 0.1}, "`typical_p` must be left out"),
        ({"callback": lambda rows: True}, "`callback` must be None with BeamSearch"),
        ({"strategy": BeamSearch}, "`strategy` must be a gk.generation.Strategy.*BeamSearch"),
        ({"strategy": "beam"}, "`strategy` .*'beam'"),
    ],
)
def test_bad_requests_fail_before_anything_is_compiled(character_tokenizer, settings, message):
    model = gk.GPTCausalLM(tiny_config(num_layers=1), tokenizer=character_tokenizer)
    settings = {"strategy": BeamSearch(2), **settings}
    for verb in (model.generate, model.generate_with_scores, model.stream):
        with pytest.raises(ValueError, match=message):
            verb("hello", **settings)
    with pytest.raises(ValueError, match="`strategy` must be one whose tokens are final"):
        model.stream("hello", strategy=BeamSearch(2))
    assert model._generators is None
