"""Logits processors of the user's own, and models that cannot go on."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import tiny_config

import gpt_keras as gk


def only_b(logits, context):
    del context
    is_b = tf.range(tf.shape(logits)[1]) == 1
    return tf.where(is_b[None, :], logits, -float("inf"))


class Alternate:
    """Allow id 2 after an even number of new tokens and id 3 after an odd one."""

    def __init__(self):
        self.num_traces = 0

    def __call__(self, logits, context):
        self.num_traces += 1
        wanted = 2 + (context.index - context.first) % 2
        return logits + 1e4 * tf.one_hot(wanted, tf.shape(logits)[1])


@pytest.mark.graph
def test_it_decides_and_sees_the_context(spread_model):
    alternate = Alternate()
    for seed in (0, 1):
        row = spread_model.generate(
            [[5, 6, 7], [8]], max_new_tokens=4, seed=seed, logits_processors=[alternate]
        )
        assert [ids[-4:] for ids in row] == [[2, 3, 2, 3]] * 2
    assert alternate.num_traces == 1  # the same function is compiled once


def test_it_works_with_every_strategy(spread_model):
    for strategy in (
        gk.generation.BeamSearch(2),
        gk.generation.BestOf(2),
        gk.generation.PromptLookup(2),
    ):
        settings = {"max_new_tokens": 3, "logits_processors": [only_b], "strategy": strategy}
        assert spread_model.generate([4], **settings) == [4, 1, 1, 1]
    assert "".join(spread_model.stream("a", max_new_tokens=3, logits_processors=[only_b])) == "bbb"


def test_they_come_in_order_after_the_bans_and_before_temperature(spread_model):
    seen = []

    def look(logits, context):
        seen.append(logits.shape)
        return tf.where(logits > -float("inf"), 0.0, logits)  # all that is allowed is as likely

    settings = {"bad_words": [[i] for i in range(1, 20)], "temperature": 1e-3}
    rows = spread_model.generate(
        [[0]] * 40, max_new_tokens=8, seed=0, logits_processors=[look], **settings
    )
    ids = {token_id for row in rows for token_id in row[1:]}
    assert ids <= set(range(20, 32)) | {0}
    assert len(ids) > 9


def test_a_ban_of_everything_is_skipped(spread_model):
    def ban_all(logits, context):
        return tf.fill(tf.shape(logits), -float("inf"))

    settings = {"max_new_tokens": 5, "temperature": 0}
    banned = spread_model.generate([3], logits_processors=[ban_all], **settings)
    assert banned == spread_model.generate([3], **settings)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (only_b, "must be a list of functions"),
        (["top_k"], "must be a list of functions"),
        ([lambda logits, context: logits[:, :3]], "of the shape that they get"),
        ([lambda logits, context: None], "must return logits; .* returned None"),
    ],
)
def test_what_is_none_is_refused(spread_model, given, message):
    with pytest.raises(ValueError, match=message):
        spread_model.generate([1], max_new_tokens=2, logits_processors=given)


@pytest.mark.slow
def test_it_is_exported(spread_model, tmp_path):
    offset = tf.Variable(0.0)  # is saved, too
    processors = [Alternate(), lambda logits, context: logits + offset]
    gk.export.saved_model(
        spread_model, tmp_path / "served", jit_compile=False, logits_processors=processors
    )
    served = tf.saved_model.load(tmp_path / "served")
    assert served.generate(text=["a"], max_new_tokens=4)["text"].numpy() == [b"acdcd"]


@pytest.mark.parametrize(
    "strategy", [pytest.param(None, marks=pytest.mark.graph), gk.generation.BeamSearch(2)]
)
def test_a_model_that_became_nan_says_so(strategy):
    model = gk.GPTCausalLM(tiny_config())
    model.set_weights([weight * np.nan for weight in model.get_weights()])
    with pytest.raises(ValueError, match="logits are NaN"):
        model.generate([1, 2], max_new_tokens=2, strategy=strategy)


@pytest.mark.graph
def test_a_model_that_became_nan_says_so_while_streaming(character_tokenizer):
    model = gk.GPTCausalLM(tiny_config(), tokenizer=character_tokenizer)
    model.set_weights([weight * np.nan for weight in model.get_weights()])
    with pytest.raises(ValueError, match="logits are NaN"):
        list(model.stream("abc", max_new_tokens=2))


def test_set_random_seed_governs_generate_without_a_seed(spread_model):
    texts = []
    for seed in (5, 5, 6):
        keras.utils.set_random_seed(seed)
        texts.append([spread_model.generate("a", max_new_tokens=12) for _ in range(2)])
    assert texts[0] == texts[1] != texts[2]
    assert texts[0][0] != texts[0][1]
