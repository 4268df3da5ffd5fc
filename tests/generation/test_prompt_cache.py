"""What a prompt cache saves is work: the text is the one without it."""

import random

import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.generation import BeamSearch, BestOf, PromptCache, PromptLookup
from gpt_keras.generation.compiled import Generators
from gpt_keras.generation.lengths import bucket_lengths

pytestmark = pytest.mark.graph  # the same model in most tests


class CountingGPT(gk.GPT):
    """Counts the columns that it has run."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.num_run = tf.Variable(0, trainable=False)

    def extend(self, token_ids, cache, index, starts, window=None):
        self.num_run.assign_add(tf.size(token_ids))
        return super().extend(token_ids, cache, index, starts, window)


def make_model(tokenizer=None, **changes):
    random.seed(0)  # Keras draws the seeds of its initializers from it
    config = tiny_config(max_sequence_length=300, attention_windows=(None, 12), **changes)
    model = spread_weights(gk.CausalLM(CountingGPT(config), tokenizer=tokenizer))
    model._generators = Generators(model, jit_compile=False)
    return model


@pytest.fixture(scope="module")
def model(character_tokenizer):
    """Rotary positions, of which a wrong one would show in every layer."""
    return make_model(character_tokenizer, position_embedding="rotary", num_key_value_heads=1)


def random_ids(count, seed=0):
    return np.random.default_rng(seed).integers(1, 32, count).tolist()


GREEDY = {"max_new_tokens": 8, "temperature": 0, "logit_bias": {31: -100.0}}  # no end of text
# None of the lengths at which a prompt takes another number or size of chunks is left out.
LENGTHS = (1, 2, 30, 33, 34, 66, 100, 161)


def test_prompts_that_begin_with_what_is_cached(model):
    text = random_ids(200)
    for cached in (2, 33, 130):
        for length in LENGTHS:  # shorter than the cache, too
            cache = model.cache_prompt(text[:cached])
            assert cache.token_ids == text[:cached]
            prompt = text[:length]
            row = model.generate(prompt, prompt_cache=cache, **GREEDY)
            assert row == model.generate(prompt, **GREEDY)
            assert cache.token_ids == row[:-1]  # the last token was drawn and not run


def test_prompts_that_differ_early_or_at_once(model):
    text = random_ids(60)
    for place in (0, 1, 20, 58, 59):
        other = [*text[:place], (text[place] + 1) % 32, *text[place + 1 :]]
        cache = model.cache_prompt(text)
        assert model.generate(other, prompt_cache=cache, **GREEDY) == model.generate(
            other, **GREEDY
        )
        assert cache.token_ids[:60] == other


def test_a_batch_of_prompts_that_share_a_beginning(model):
    text = random_ids(200)
    cache = model.cache_prompt(text[:60])
    for prompts in (
        [[*text[:60], i, i] for i in range(3)],
        [text[:100], text[:61], text[:62] + [5] * 70],
        [text[:150], text[:30]],
        [text[:150], text[:1]],
        [text[:70], random_ids(20, seed=1)],
    ):
        before = cache.token_ids, cache._cache
        settings = {"max_new_tokens": 8, "seed": 3}
        rows = model.generate(prompts, prompt_cache=cache, **settings)
        assert rows == model.generate(prompts, **settings)
        assert (cache.token_ids, cache._cache) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"position_embedding": "learned", "norm_position": "post"},
        {"position_embedding": "sinusoidal"},
    ],
    ids=lambda changes: changes["position_embedding"],
)
def test_other_positions(changes):
    model = make_model(**changes)
    text = random_ids(120)
    cache = model.cache_prompt(text[:50])
    prompts = [text[:100], text[:40]]
    rows = model.generate(prompts, prompt_cache=cache, **GREEDY)
    assert rows == model.generate(prompts, **GREEDY)
    row = model.generate(prompts[0], prompt_cache=cache, **GREEDY)
    assert row == rows[0]
    row = model.generate([*row, 5], prompt_cache=cache, **GREEDY)
    assert row == model.generate([*prompts[0], *rows[0][100:], 5], **GREEDY)


def turns(model, cache, count, **settings):
    """A conversation: the prompts, the answers, and what each turn has run."""
    text, found = random_ids(90), []
    for turn in range(count):
        before = int(model.backbone.num_run)
        row = model.generate(text, prompt_cache=cache, **settings)
        found.append((text, row, int(model.backbone.num_run) - before))
        text = row + random_ids(10, seed=turn)
    return found


def test_a_turn_of_a_conversation_runs_its_new_tokens_only(model):
    cache = PromptCache()
    settings = {**GREEDY, "temperature": 1.0, "seed": 1}
    (_, _, first), *others = turns(model, cache, 6, **settings)
    assert first == 128 + 8  # a chunk, and a step for each new token
    assert [num_run for _, _, num_run in others] == [32 + 8] * 5
    for prompt, row, _ in others:
        assert row == model.generate(prompt, **settings)
    # As large as a single call would have made it.
    longest = len(others[-1][1])
    assert cache._cache[0][0].shape[2] <= bucket_lengths(longest + 128)[-1]


def stop_after(count):
    def stop(rows):
        return len(rows[0]) >= count

    return stop


LOOKUP = PromptLookup(3)
END = {"logit_bias": {31: 100.0}, "min_new_tokens": 3}  # the end token, as soon as it may come


@pytest.mark.parametrize(
    "settings",
    [
        END,
        {"stop": ["e", "a", "o"]},
        {"callback": stop_after(4)},
        pytest.param({"strategy": LOOKUP}, marks=pytest.mark.slow),
        pytest.param({"strategy": LOOKUP, **END}, marks=pytest.mark.slow),
        pytest.param({"strategy": LOOKUP, "callback": stop_after(4)}, marks=pytest.mark.slow),
    ],
    ids=["end", "stop", "callback", "lookup", "lookup, end", "lookup, callback"],
)
def test_however_a_turn_ended(model, settings):
    cache, settings = PromptCache(), {"max_new_tokens": 12, "temperature": 0} | settings
    assert model.tokenizer.end_of_text_id == 31
    for prompt, row, _ in turns(model, cache, 3, **settings):
        assert row == model.generate(prompt, **settings)
    assert cache.token_ids == row[: len(cache.token_ids)]
    assert len(cache.token_ids) >= len(row) - 1


def test_a_stream_that_is_left_is_remembered_as_far_as_it_was_read(model):
    cache = PromptCache()
    settings = {**GREEDY, "temperature": 1.0, "seed": 1}
    pieces = model.stream("hello there", prompt_cache=cache, **settings)
    text = "hello there" + next(pieces) + next(pieces)
    pieces.close()
    assert model.tokenizer.decode(cache.token_ids) == text[:-1]
    assert model.generate(text, prompt_cache=cache, **GREEDY) == model.generate(text, **GREEDY)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [BeamSearch(2), BestOf(2)], ids=["beams", "best of"])
def test_strategies_with_several_rows_begin_with_a_cache(model, strategy):
    text = random_ids(60)
    cache = model.cache_prompt(text[:50])
    settings = {"max_new_tokens": 6, "strategy": strategy, "seed": 4}
    for prompts in (text, [text, text[:20]]):
        with_cache = model.generate(prompts, prompt_cache=cache, **settings)
        assert with_cache == model.generate(prompts, **settings)
        assert cache.token_ids == text[:50]


def test_a_cache_of_another_model_is_refused(model, monkeypatch):
    cache = model.cache_prompt([1, 2, 3])
    other = make_model(num_layers=1)
    with pytest.raises(ValueError, match=r"prompt_cache.*another model"):
        other.generate([1, 2, 3, 4], prompt_cache=cache)
    monkeypatch.setattr(cache, "_backbone", lambda: None)  # as when it is there no longer
    with pytest.raises(ValueError, match=r"prompt_cache.*another model"):
        other.generate([1, 2, 3, 4], prompt_cache=cache)


def test_what_is_no_prompt_to_cache(model):
    with pytest.raises(ValueError, match=r"prompt.*one text or its token ids"):
        model.cache_prompt(["a", "b"])
    with pytest.raises(ValueError, match="no room"):
        model.cache_prompt([1] * 300)
    with pytest.raises(ValueError, match=r"prompt_cache.*PromptCache or None"):
        model.generate([1], prompt_cache={})
    recurrent = gk.CausalLM(gk.LSTMBackbone(8, 1, 4))
    with pytest.raises(ValueError, match=r"prompt_cache.*lacks `move`"):
        recurrent.generate([1], prompt_cache=PromptCache())
