"""Any network generates: by the protocol of a backbone, or by running whole sequences."""

import random
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights

import gpt_keras as gk
from gpt_keras.generation.backbone import missing, require


@keras.saving.register_keras_serializable("test")
class Inheriting(gk.Backbone, keras.Model):
    """What a user writes: two methods beside `call`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.token_embedding = keras.layers.ReversibleEmbedding(32, 16)
        self.positions = gk.layers.PositionalEmbedding(40)
        self.block = gk.layers.TransformerBlock(num_heads=2)

    def call(self, token_ids, training=None):
        x = self.positions(self.token_embedding(token_ids))
        return self.unembed(self.block(x, training=training))

    def initial_cache(self, batch_size, length):
        return [self.block.initial_cache(batch_size, length)]

    def extend(self, token_ids, cache, index, starts):
        positions = index + tf.range(tf.shape(token_ids)[1])
        positions = tf.clip_by_value(positions[None] - starts[:, None], 0, 39)
        x = self.positions(self.token_embedding(token_ids), positions=positions)
        x, update = self.block.extend(x, cache[0], index, starts)
        return self.unembed(x), [update]


def functional(length=None):
    """The README's first example: layers, `keras.Input`, `keras.Model`."""
    token_ids = keras.Input((length,), dtype="int32")
    embedding = keras.layers.ReversibleEmbedding(32, 16)
    x = gk.layers.PositionalEmbedding(length or 40)(embedding(token_ids))
    x = gk.layers.TransformerBlock(num_heads=2)(x)
    return keras.Model(token_ids, embedding(keras.layers.LayerNormalization()(x), reverse=True))


@pytest.fixture(scope="module")
def inheriting(character_tokenizer):
    random.seed(0)
    return spread_weights(gk.CausalLM(Inheriting(), tokenizer=character_tokenizer))


@pytest.fixture(scope="module")
def wrapped(character_tokenizer):
    random.seed(0)
    return spread_weights(gk.CausalLM(functional(), tokenizer=character_tokenizer))


def greedy_by_hand(model, row, count):
    row = list(row)
    size = model.tokenizer.vocabulary_size
    for _ in range(count):
        row.append(int(np.argmax(model(np.array([row]))[0, -1, :size])))
    return row


@pytest.mark.xla
def test_two_methods_are_enough_to_generate(inheriting, monkeypatch):
    monkeypatch.setattr(inheriting, "_generators", None)  # which are compiled again
    prompts = [[1, 2, 3, 4, 5], [7]]
    rows = inheriting.generate(prompts, max_new_tokens=10, temperature=0)
    assert rows == [greedy_by_hand(inheriting, prompt, 10) for prompt in prompts]


def test_two_methods_are_enough_to_cache_a_prompt_and_to_search(inheriting):
    cache = inheriting.cache_prompt([1, 2, 3])
    assert cache.token_ids
    beams = gk.generation.BeamSearch(2)
    assert inheriting.generate([1, 2], max_new_tokens=3, strategy=beams)


@pytest.mark.filterwarnings("ignore:.*no KV cache")
def test_the_limit_follows_from_the_positions_inside(inheriting, wrapped):
    for model in (inheriting, wrapped):
        assert model.max_sequence_length == 40
        assert len(model.generate([1] * 35, temperature=0)) == 40
        with pytest.raises(ValueError, match="max_sequence_length"):
            model.generate([1] * 40)
    assert inheriting.backbone.has_learned_positions
    with pytest.raises(ValueError, match="`window`"):
        inheriting.generate([1], sliding_window=True)


@pytest.mark.xla
@pytest.mark.filterwarnings("ignore:.*no KV cache")
def test_a_functional_network_generates_by_whole_passes(wrapped, monkeypatch):
    monkeypatch.setattr(wrapped, "_generators", None)  # which are compiled again
    prompts = ["hello", "a"]
    texts = wrapped.generate(prompts, max_new_tokens=10, temperature=0)
    for prompt, text in zip(prompts, texts, strict=True):
        row = greedy_by_hand(wrapped, wrapped.tokenizer.encode(prompt), 10)
        assert text == wrapped.tokenizer.decode(row)


@pytest.mark.filterwarnings("ignore:.*no KV cache")
def test_a_functional_network_streams_and_scores(wrapped):
    text = wrapped.generate("hello", max_new_tokens=10, temperature=0)
    assert "".join(wrapped.stream("hello", max_new_tokens=10, temperature=0)) == text[5:]
    [found] = wrapped.generate_with_scores("hello", max_new_tokens=4, temperature=0)
    scores = wrapped.score(found.token_ids, prompts=wrapped.tokenizer.encode("hello"))
    np.testing.assert_allclose(found.log_probs, scores, atol=1e-5)


def test_whole_passes_are_told_once(character_tokenizer):
    model = gk.CausalLM(functional(), tokenizer=character_tokenizer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            model.generate("a", max_new_tokens=2)
    messages = [str(warning.message) for warning in caught if "KV cache" in str(warning.message)]
    assert len(messages) == 1
    assert "gk.Backbone" in messages[0]


@pytest.mark.filterwarnings("ignore:.*no KV cache")
def test_a_network_of_one_fixed_length_generates(character_tokenizer):
    model = spread_weights(gk.CausalLM(functional(24), tokenizer=character_tokenizer))
    assert model.max_sequence_length == 24
    row = model.generate([1, 2, 3], max_new_tokens=3, temperature=0)
    padded = np.zeros((1, 24), int)
    for column in range(3, 6):
        padded[0, : len(row)] = row
        logits = np.array(model(padded))[0, column - 1, : character_tokenizer.vocabulary_size]
        assert row[column] == np.argmax(logits)
    assert model.score([1, 2, 3], prompts=[4]).shape == (3,)


@pytest.mark.filterwarnings("ignore:.*no KV cache")
@pytest.mark.slow
def test_both_export(inheriting, wrapped, tmp_path):
    wrapped.export(tmp_path / wrapped.backbone.name)
    gk.export.saved_model(inheriting, tmp_path / inheriting.backbone.name, jit_compile=False)
    for model in (inheriting, wrapped):
        served = tf.saved_model.load(tmp_path / model.backbone.name)
        text = served.generate(text=["hello"], max_new_tokens=5, seed=3)["text"].numpy()[0]
        assert text.decode() == model.generate("hello", max_new_tokens=5, seed=3)


@pytest.mark.filterwarnings("ignore:.*no KV cache")
def test_what_is_missing_is_named(wrapped, character_tokenizer):
    with pytest.raises(ValueError, match="lacks `initial_cache`, `extend`, `write`, `move`"):
        wrapped.generate("a", prompt_cache=gk.generation.PromptCache())
    with pytest.raises(ValueError, match="`hidden_states`, `unembed`"):
        gk.GPTClassifier(wrapped, 2)
    lstm = gk.LSTMBackbone(vocabulary_size=40, num_layers=1, hidden_dim=4)
    assert missing(lstm, "move", "write", "extend") == ["move"]
    require(lstm, "hidden_states", "unembed", "hidden_dim", what="a test")


def test_a_method_without_a_body_is_missing():
    class Half(gk.Backbone, keras.Model):
        pass

    assert missing(Half(), "initial_cache", "extend", "write", "move") == [
        "initial_cache",
        "extend",
    ]


def test_all_of_ours_are_backbones(spread_model):
    assert isinstance(spread_model.backbone, gk.Backbone)
    assert isinstance(gk.LSTMBackbone(10, 1, 4), gk.Backbone)


def test_a_backbone_without_logits_is_refused():
    token_ids = keras.Input((None,), dtype="int32")
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(9, 4)(token_ids))
    with pytest.raises(ValueError, match=r"logits \(batch, length, vocabulary_size\)"):
        gk.CausalLM(keras.Model(token_ids, pooled))
