"""Log-probabilities of texts that are given and that are generated, and the best of these."""

import keras
import numpy as np
import pytest
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk

BestOf = gk.generation.BestOf


def expected_log_probs(model, before, new, vocabulary_size=None):
    """Of the tokens `new` after `before`, from one call of the model, in NumPy."""
    row = [*before, *new]
    logits = np.float64(model(np.array([row[:-1]])))[0, -len(new) :, :vocabulary_size]
    logits -= logits.max(-1, keepdims=True)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return log_probs[range(len(new)), new]


@pytest.mark.xla
def test_the_best_of_several_seeded_runs(compiled_model):
    tokenizer, end = compiled_model.tokenizer, compiled_model.tokenizer.end_of_text_id
    prompts = ["what is", "the cat"]
    settings = {"max_new_tokens": 14, "temperature": 1.2, "top_k": 20}
    found = compiled_model.generate_with_scores(prompts, seed=5, strategy=BestOf(3), **settings)
    fold_in = gk.generation.fold_in
    seeds = [int(fold_in(fold_in(5, row), j)) for row in range(2) for j in range(3)]
    runs = compiled_model.generate(np.repeat(prompts, 3).tolist(), seed=seeds, **settings)
    num_ended = 0
    for i, prompt in enumerate(prompts):
        token_ids = tokenizer.encode(prompt)
        expected = []
        for text in runs[3 * i : 3 * i + 3]:
            new = tokenizer.encode(text)[len(token_ids) :]
            is_ended = len(new) < 14
            num_ended += is_ended
            log_probs = expected_log_probs(compiled_model, token_ids, new + [end] * is_ended)
            expected.append((log_probs.mean(), text, new, log_probs[: len(new)]))
        expected.sort(reverse=True, key=lambda run: run[0])
        assert [run.text for run in found[i]] == [text for _, text, _, _ in expected]
        for run, (score, _, new, log_probs) in zip(found[i], expected, strict=True):
            assert run.score == pytest.approx(score, abs=1e-4)
            assert run.token_ids == new
            np.testing.assert_allclose(run.log_probs, log_probs, atol=1e-4)
    assert 0 < num_ended < 6
    best = compiled_model.generate(prompts, seed=5, strategy=BestOf(3), **settings)
    assert best == [runs[0].text for runs in found]


@pytest.mark.parametrize("num_samples", [0, -1, 1.5, True, None])
def test_a_wrong_number_of_samples(num_samples):
    with pytest.raises(ValueError, match="`num_samples` must be an integer of at least 1"):
        BestOf(num_samples)


def test_generated_texts_score_what_score_says(spread_model):
    tokenizer = spread_model.tokenizer
    prompts = ["what is", "the cat"]
    settings = {"max_new_tokens": 14, "seed": 3, "top_p": 0.9, "repetition_penalty": 1.3}
    (first,), (second,) = spread_model.generate_with_scores(prompts, **settings)
    token_ids = [first.token_ids, second.token_ids]
    scores = spread_model.score(token_ids, prompts=prompts)
    for run, prompt, log_probs in zip((first, second), prompts, scores, strict=True):
        assert run.text == prompt + tokenizer.decode(run.token_ids)
        np.testing.assert_allclose(run.log_probs, log_probs, atol=1e-4)
    # Ids come back as ids, one prompt as one list.
    rows = tokenizer.encode(prompts)
    (again,), _ = spread_model.generate_with_scores(rows, **settings)
    assert again.text == [*rows[0], *first.token_ids]
    assert again[1:] == first[1:]
    (alone,) = spread_model.generate_with_scores(rows[0], **settings)
    assert alone.text == again.text
    np.testing.assert_allclose(alone.log_probs, first.log_probs, atol=1e-4)
    (alone,) = spread_model.generate_with_scores(prompts[0], **settings)
    assert alone.text == first.text
    assert isinstance(alone.log_probs[0], float)
    assert isinstance(alone.token_ids[0], int)


def test_ids_that_the_tokenizer_does_not_have_are_impossible_in_all_scores():
    tokenizer = gk.tokenizers.CharacterTokenizer("abc ")
    config = tiny_config(num_layers=1)
    model = spread_weights(gk.GPTCausalLM(config, tokenizer=tokenizer))
    (found,) = model.generate_with_scores("b", max_new_tokens=10, seed=0)
    expected = expected_log_probs(model, [1], found.token_ids, 4)
    np.testing.assert_allclose(found.log_probs, expected, atol=1e-4)
    np.testing.assert_allclose(model.score(found.token_ids, prompts="b"), expected, atol=1e-4)
    assert model.score([1, 9, 2]).tolist()[0] == -np.inf


def test_texts_are_scored_after_an_end_of_text(spread_model):
    tokenizer, end = spread_model.tokenizer, spread_model.tokenizer.end_of_text_id
    # More rows than are computed at once, of many lengths, the longest as long as may be.
    texts = ["hello there"[: i % 11 + 1] for i in range(17)] + ["so " * 16]
    scores = spread_model.score(texts)
    for text, log_probs in zip(texts, scores, strict=True):
        expected = expected_log_probs(spread_model, [end], tokenizer.encode(text))
        assert log_probs.dtype == np.float32
        np.testing.assert_allclose(log_probs, expected, atol=1e-4)
    np.testing.assert_allclose(spread_model.score("hello"), scores[4], atol=1e-4)
    np.testing.assert_allclose(spread_model.score(tokenizer.encode("hello")), scores[4], atol=1e-4)
    result = gk.evaluation.perplexity(spread_model, ["hello"])  # which scores the end, too
    last = expected_log_probs(spread_model, [end, *tokenizer.encode("hello")], [end])
    assert result.loss == pytest.approx(-(scores[4].sum() + last[0]) / 6, abs=1e-4)


def test_texts_are_scored_after_prompts(spread_model):
    tokenizer = spread_model.tokenizer
    prompts, texts = ["what is ", "a", "so " * 10], ["this", "n elephant", "so"]
    scores = spread_model.score(texts, prompts=prompts)
    for prompt, text, log_probs in zip(prompts, texts, scores, strict=True):
        expected = expected_log_probs(
            spread_model, tokenizer.encode(prompt), tokenizer.encode(text)
        )
        np.testing.assert_allclose(log_probs, expected, atol=1e-4)
    mixed = spread_model.score(texts, prompts=tokenizer.encode(prompts))
    np.testing.assert_array_equal(np.concatenate(mixed), np.concatenate(scores))


def test_without_an_end_of_text_the_first_token_has_no_score(spread_model):
    model = gk.CausalLM(spread_model.backbone)
    one, three = model.score([[4], [1, 2, 3]])
    assert one.shape == (0,)
    np.testing.assert_allclose(three, expected_log_probs(model, [1], [2, 3]), atol=1e-4)
    assert model.score([4]).shape == (0,)
    tokenizer = gk.tokenizers.CharacterTokenizer(spread_model.tokenizer.decode(range(31)))
    model = gk.CausalLM(spread_model.backbone, tokenizer=tokenizer)
    expected = expected_log_probs(model, [0], [1, 2], 31)
    np.testing.assert_allclose(model.score("abc"), expected, atol=1e-4)


def test_scores_are_those_of_the_weights_as_they_are_and_compile_once(character_tokenizer):
    model = spread_weights(gk.GPTCausalLM(tiny_config(num_layers=1), tokenizer=character_tokenizer))
    before, *_ = [model.score("hello"[:size]) for size in (5, 4, 3, 2)]
    traces = model._generators.log_probabilities.experimental_get_tracing_count()
    assert traces <= 2
    spread_weights(model, seed=1)
    after = model.score("hello")
    assert np.abs(after - before).max() > 0.1
    end, ids = character_tokenizer.end_of_text_id, character_tokenizer.encode("hello")
    np.testing.assert_allclose(after, expected_log_probs(model, [end], ids), atol=1e-4)


@pytest.mark.filterwarnings("error")  # it needs no KV cache
def test_a_backbone_that_cannot_generate_can_score():
    inputs = keras.Input((None,), dtype="int32")
    model = gk.CausalLM(keras.Model(inputs, keras.layers.Embedding(8, 8)(inputs)))
    np.testing.assert_allclose(
        model.score([1, 2, 3]), expected_log_probs(model, [1], [2, 3]), atol=1e-5
    )


@pytest.mark.parametrize(
    ("texts", "prompts", "message"),
    [
        ("", None, "`texts` must not be empty; number 0"),
        (["a", ""], None, "`texts` must not be empty; number 1"),
        ([], None, "`texts` must hold at least one"),
        (None, None, "`texts` must be a text"),
        (["a", [1]], None, "`texts` must be all texts or all lists"),
        ([[1, 32]], None, r"\[0, 32\)"),
        ("a" * 49, None, "`texts` must have at most 49 tokens.*max_sequence_length; got 50"),
        ("a" * 40, "b" * 10, "`texts` must have at most 49 tokens .*got 50"),
        ("a", "", "`prompts` must not be empty"),
        (["a", "b"], ["a"], "`prompts` must be as many as `texts`, got 1 and 2"),
        (["a", "b"], "ab", "`prompts` must be as many as `texts`, got 1 and 2"),
    ],
)
def test_bad_texts(spread_model, texts, prompts, message):
    with pytest.raises(ValueError, match=message):
        spread_model.score(texts, prompts=prompts)


def test_texts_need_a_tokenizer(spread_model):
    with pytest.raises(ValueError, match="need a tokenizer"):
        gk.CausalLM(spread_model.backbone).score("a")
