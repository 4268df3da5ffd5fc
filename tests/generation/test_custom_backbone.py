"""A model that a user builds from layers alone: it trains, generates, saves and exports."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights

import gpt_keras as gk
from gpt_keras.generation.compiled import Generators


@keras.saving.register_keras_serializable("test")
class Mine(keras.Model):
    """Two blocks that differ, sinusoids, no final norm."""

    max_sequence_length = 40

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embedding = keras.layers.ReversibleEmbedding(32, 16, name="embedding")
        self.positions = self.make_positions()
        self.blocks = [
            gk.layers.TransformerBlock(num_heads=2, activation="relu", name="first"),
            gk.layers.TransformerBlock(num_heads=4, num_key_value_heads=1, name="second"),
        ]
        self(keras.KerasTensor((None, None), dtype="int32"))

    def make_positions(self):
        return gk.layers.SinusoidalPositionalEncoding(name="positions")

    def call(self, token_ids, training=None):
        x = self.positions(self.embedding(token_ids))
        for block in self.blocks:
            x = block(x, training=training)
        return self.embedding(x, reverse=True)

    def initial_cache(self, batch_size, length):
        return [block.initial_cache(batch_size, length) for block in self.blocks]

    def extend(self, token_ids, cache, index, starts):
        positions = index + keras.ops.arange(keras.ops.shape(token_ids)[1])
        positions = keras.ops.maximum(positions[None] - starts[:, None], 0)
        x, updates = self.positions(self.embedding(token_ids), positions=positions), []
        for block, block_cache in zip(self.blocks, cache, strict=True):
            x, update = block.extend(x, block_cache, index, starts)
            updates.append(update)
        return self.embedding(x, reverse=True), updates

    def write(self, cache, update, index):
        return gk.layers.write_cache(cache, update, index)


@pytest.fixture(scope="module")
def model(character_tokenizer):
    random.seed(0)
    return spread_weights(gk.CausalLM(Mine(), tokenizer=character_tokenizer))


class LearnedPositions(Mine):
    """Looks its positions up, and so must not be asked for one past the last."""

    def make_positions(self):
        return gk.layers.PositionalEmbedding(40, name="positions")


def test_finished_rows_ask_for_no_position_past_the_last():
    model = gk.CausalLM(LearnedPositions())
    model._generators = Generators(model, jit_compile=False)
    rows = model.generate([[1] * 35, [2]], max_length=40, temperature=0)
    assert [len(row) for row in rows] == [40, 40]
    assert rows[0][:35] == [1] * 35


@pytest.mark.xla
def test_it_generates(model, monkeypatch):
    monkeypatch.setattr(model, "_generators", None)  # which are compiled again
    text = model.generate("hello", max_new_tokens=10, temperature=0)
    token_ids = model.tokenizer.encode("hello")
    while len(token_ids) < 15:
        token_ids.append(int(np.argmax(model(np.array([token_ids]))[0, -1])))
    assert text == model.tokenizer.decode(token_ids)


@pytest.mark.slow
def test_it_trains(character_tokenizer):
    model = gk.CausalLM(Mine(), tokenizer=character_tokenizer)
    model.compile(gk.training.adamw(1e-2, warmup_steps=5), jit_compile=False)
    losses = model.fit(["the cat sat on the mat."] * 8, epochs=40, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2


@pytest.mark.slow
def test_it_is_saved(model, tmp_path):
    model.save(tmp_path / "mine.keras")
    model.save_to_preset(tmp_path / "preset")
    settings = {"seed": 1, "top_k": 9, "repetition_penalty": 1.2, "bad_words": ["e"], "stop": "zz"}
    text = model.generate("hello", max_new_tokens=10, **settings)
    for loaded in (
        keras.saving.load_model(tmp_path / "mine.keras"),
        gk.CausalLM.from_preset(tmp_path / "preset"),
        keras.models.clone_model(model),
    ):
        assert type(loaded.backbone) is Mine
        loaded.set_weights(model.get_weights())
        loaded.tokenizer = model.tokenizer
        assert loaded.generate("hello", max_new_tokens=10, **settings) == text


@pytest.mark.slow
def test_it_is_exported(model, tmp_path):
    model.export(tmp_path / "exported")
    loaded = tf.saved_model.load(tmp_path / "exported")
    output = loaded.generate(text=["hello"], max_new_tokens=10, seed=1)
    text = model.generate("hello", max_new_tokens=10, seed=1)
    assert output["text"].numpy()[0].decode() == text
