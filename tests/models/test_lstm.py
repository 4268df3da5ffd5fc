import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import spread_weights

import gpt_keras as gk


def tiny_lstm(**changes):
    arguments = {"vocabulary_size": 32, "num_layers": 2, "hidden_dim": 12} | changes
    return spread_weights(gk.LSTMBackbone(**arguments))


@pytest.fixture(scope="module")
def lstm():
    return tiny_lstm()


@pytest.fixture(scope="module")
def model(lstm, character_tokenizer):
    return gk.CausalLM(lstm, tokenizer=character_tokenizer)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_logits_are_those_of_the_formula(tie_embeddings):
    backbone = tiny_lstm(tie_embeddings=tie_embeddings)
    weights = {v.path: np.array(v) for v in backbone.variables}
    token_ids = np.array([[3, 1, 4, 1, 5, 9]])
    x = weights["token_embedding/embeddings"][token_ids[0]]
    for i in range(2):
        kernel, recurrent, bias = (
            weights[f"lstm_{i}/lstm_cell/{name}"] for name in ("kernel", "recurrent_kernel", "bias")
        )
        h, c, outputs = np.zeros(12), np.zeros(12), []
        for step in x:
            enter, forget, candidate, leave = np.split(step @ kernel + h @ recurrent + bias, 4)
            c = sigmoid(forget) * c + sigmoid(enter) * np.tanh(candidate)
            h = sigmoid(leave) * np.tanh(c)
            outputs.append(h)
        x = np.array(outputs)
    if tie_embeddings:
        expected = x @ weights["token_embedding/embeddings"].T
    else:
        expected = x @ weights["token_embedding/reverse_embeddings"]
    np.testing.assert_allclose(backbone(token_ids)[0], expected, atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_extend_in_any_split_equals_call(lstm, data):
    lengths = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=3), label="lengths")
    longest = max(lengths)
    cuts = {0, longest} | data.draw(st.sets(st.integers(1, max(1, longest - 1))), label="cuts")
    generator = np.random.default_rng(data.draw(st.integers(0, 99), label="seed"))
    rows = [generator.integers(0, 32, length) for length in lengths]
    # What stands in the padding is arbitrary.
    token_ids = generator.integers(0, 32, (len(rows), longest))
    for row, ids in enumerate(rows):
        token_ids[row, longest - len(ids) :] = ids
    starts = np.array([longest - length for length in lengths], "int32")
    cache, logits = lstm.initial_cache(len(rows), longest), []
    for first, last in itertools.pairwise(sorted(cuts)):
        piece, update = lstm.extend(token_ids[:, first:last], cache, first, starts)
        cache = lstm.write(cache, update, first)
        logits.append(piece)
    logits = np.concatenate(logits, axis=1)
    for row, ids in enumerate(rows):
        np.testing.assert_allclose(logits[row, starts[row] :], lstm(ids[None])[0], atol=1e-5)


def slowly(model, text, count):
    token_ids = model.tokenizer.encode(text)
    for _ in range(count):
        token_ids.append(int(np.argmax(model.backbone(np.array([token_ids]))[0, -1])))
    return model.tokenizer.decode(token_ids)


@pytest.mark.slow
@pytest.mark.xla
def test_it_generates_in_ragged_batches_what_it_generates_alone(model):
    prompts = ["hello", "a", "the cat sat on the mat, and more than thirty-two characters ahead"]
    prompts[2] = prompts[2].replace("-", " ")
    together = model.generate(prompts, max_new_tokens=8, temperature=0)
    assert together == [slowly(model, prompt, 8) for prompt in prompts]
    drawn = model.generate(prompts, max_new_tokens=8, seed=[3, 4, 5])
    assert drawn == [
        model.generate(prompt, max_new_tokens=8, seed=[seed])
        for prompt, seed in zip(prompts, (3, 4, 5), strict=True)
    ]


def test_no_length_is_too_long_unless_a_limit_is_named(model, character_tokenizer):
    assert model.max_sequence_length is None
    assert model.backbone(np.zeros((1, 300), "int32")).shape == (1, 300, 32)
    limited = tiny_lstm(max_sequence_length=10)
    assert gk.CausalLM(limited).max_sequence_length == 10
    with pytest.raises(ValueError, match=r"11 tokens, more than `max_sequence_length`=10"):
        limited(np.zeros((1, 11), "int32"))


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [True, False])
def test_it_learns(character_tokenizer, jit_compile):
    # Which letter follows the last one depends on what stood before both.
    text = "abcacb" * 4
    backbone = gk.LSTMBackbone(32, num_layers=1, hidden_dim=24, dropout=0.05)
    model = gk.CausalLM(backbone, tokenizer=character_tokenizer)
    optimizer = gk.training.adamw(3e-2, warmup_steps=5)
    model.compile(optimizer, weighted_metrics=[], jit_compile=jit_compile)
    model.fit([text] * 64, batch_size=4, epochs=12, verbose=0)
    assert model.generate("abc", max_length=24, temperature=0) == text


@pytest.mark.slow
def test_it_is_saved_and_exported(model, tmp_path):
    text = model.generate(["hello", "a"], max_new_tokens=10, seed=1)
    model.save(tmp_path / "lstm.keras")
    model.save_to_preset(tmp_path / "preset")
    for loaded in (
        keras.saving.load_model(tmp_path / "lstm.keras"),
        gk.CausalLM.from_preset(tmp_path / "preset"),
    ):
        assert type(loaded.backbone) is gk.LSTMBackbone
        assert loaded.generate(["hello", "a"], max_new_tokens=10, seed=1) == text
    model.export(tmp_path / "exported", jit_compile=False)
    served = tf.saved_model.load(tmp_path / "exported")
    output = served.generate(
        text=tf.constant(["hello", "a"]),
        max_new_tokens=10,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        seed=1,
    )
    assert [piece.decode() for piece in output["text"].numpy()] == text


def test_config_round_trip():
    backbone = tiny_lstm(max_sequence_length=9, dropout=0.25, tie_embeddings=False)
    clone = gk.LSTMBackbone.from_config(backbone.get_config())
    assert clone.get_config() == backbone.get_config()
    clone.set_weights(backbone.get_weights())
    token_ids = np.arange(6)[None]
    np.testing.assert_array_equal(clone(token_ids), backbone(token_ids))


@pytest.mark.parametrize("tie_embeddings", [True, False])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_it_comes_in_any_size(num_layers, tie_embeddings):
    for wanted in (50_000, 800_000):
        backbone = gk.LSTMBackbone.of_size(
            wanted, vocabulary_size=300, num_layers=num_layers, tie_embeddings=tie_embeddings
        )
        assert backbone.count_params() == backbone.num_parameters
        # The next width is further away.
        for step in (-1, 1):
            other = gk.LSTMBackbone(
                300, num_layers, backbone.hidden_dim + step, tie_embeddings=tie_embeddings
            )
            assert abs(other.num_parameters - wanted) >= abs(backbone.num_parameters - wanted)
    with pytest.raises(ValueError, match=r"`num_parameters` must be at least .* got 100"):
        gk.LSTMBackbone.of_size(100, vocabulary_size=300)


def test_mixed_precision_keeps_float32_logits():
    exact = tiny_lstm()
    backbone = gk.LSTMBackbone(32, 2, 12, dtype="mixed_bfloat16")
    backbone.set_weights(exact.get_weights())
    logits = backbone(np.arange(20)[None]).numpy()
    assert logits.dtype == np.float32
    expected = exact(np.arange(20)[None]).numpy()
    assert np.linalg.norm(logits - expected) / np.linalg.norm(expected) < 0.05
    update = backbone.extend(np.array([[1]]), backbone.initial_cache(1, 0), 0, np.array([0]))[1]
    assert update[0][0].dtype == tf.bfloat16


def test_dropout_is_on_the_way_up():
    backbone = tiny_lstm(dropout=0.25)
    rates = [layer.rate for layer in backbone.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [0.25] * 3
    token_ids = np.arange(6)[None]
    np.testing.assert_array_equal(backbone(token_ids), backbone(token_ids))
    assert not np.allclose(backbone(token_ids, training=True), backbone(token_ids, training=True))


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_more_token_ids(tie_embeddings):
    lstm = tiny_lstm(tie_embeddings=tie_embeddings)
    larger = lstm.with_vocabulary_size(35)
    token_ids = np.arange(6)[None]
    logits = larger(token_ids)
    assert logits.shape == (1, 6, 35)
    np.testing.assert_allclose(logits[..., :32], lstm(token_ids), atol=1e-6)
    assert np.any(logits[..., 32:])
    with pytest.raises(ValueError, match=r"`vocabulary_size` must be at least .* got 31"):
        lstm.with_vocabulary_size(31)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary_size": 0}, "`vocabulary_size`.*0"),
        ({"num_layers": 1.5}, r"`num_layers`.*1\.5"),
        ({"hidden_dim": -3}, "`hidden_dim`.*-3"),
        ({"max_sequence_length": 0}, "`max_sequence_length`.*0"),
        ({"dropout": 1}, r"`dropout`.*\[0, 1\), got 1"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_lstm(**changes)


def test_bad_ids(lstm):
    with pytest.raises(ValueError, match=r"\[0, 32\).*from 0 to 32"):
        lstm(np.array([[0, 32]]))
