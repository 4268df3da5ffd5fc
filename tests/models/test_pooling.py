"""The head of a task model reads the last token of each row, however rows are padded."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.models import task_inputs

END = 31  # of the character tokenizer, the last id of the vocabulary
TEXTS = ["hello there", "a", "the cat sat on the mat.", "he"]
LABELS = np.array([0, 1, 2, 1])


def with_head(model, seed=0):
    """Spread the weights of the head alone: the backbone is shared."""
    spread_weights(model.head, seed)
    model.compile(run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def with_end(spread_model):
    """Rows are padded with the end-of-text token."""
    return with_head(gk.GPTClassifier(spread_model, num_classes=3))


@pytest.fixture(scope="module")
def without_end():
    """No token is free for padding."""
    tokenizer = gk.tokenizers.CharacterTokenizer("abcdefghijklmnopqrstuvwxyz ,.!?\n")
    model = spread_weights(gk.GPTCausalLM(tiny_config(num_layers=1), tokenizer=tokenizer))
    return with_head(gk.GPTClassifier(model, num_classes=3))


@pytest.fixture(params=["with_end", "without_end"])
def classifier(request):
    return request.getfixturevalue(request.param)


@functools.cache
def up_to_final_norm(backbone):
    return keras.Model(backbone.input, backbone.get_layer("final_norm").output)


def state_of(model, row):
    """The final hidden state of the last token of a row without padding."""
    return np.array(up_to_final_norm(model.backbone)(np.array([row])))[0, -1]


def by_hand(model, rows):
    kernel, bias = (np.array(weight) for weight in model.head.weights)
    return np.array([state_of(model, row) for row in rows]) @ kernel + bias


def encoded(model, texts=TEXTS):
    return model.tokenizer.encode(texts)


def test_no_tokens_are_added(with_end, without_end, spread_model):
    assert with_end.pooling == "last"
    assert with_end.backbone is spread_model.backbone
    assert (with_end.pad_id, without_end.pad_id) == (END, -1)
    assert with_end.special_ids is None
    ids = with_end.encode(["ab", "c"])
    np.testing.assert_array_equal(ids[:, :3], [[0, 1, END], [2, END, END]])


def test_batches_equal_single_rows_and_the_formula(classifier):
    expected = by_hand(classifier, encoded(classifier))
    np.testing.assert_allclose(classifier.predict(TEXTS, verbose=0), expected, atol=1e-4)
    alone = [classifier.predict([text], verbose=0)[0] for text in TEXTS]
    np.testing.assert_allclose(alone, expected, atol=1e-4)
    rows = [classifier(np.array([row]))[0] for row in encoded(classifier)]  # no padding at all
    np.testing.assert_allclose(rows, expected, atol=1e-4)


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.parts


def slices(parts):
    return tf.data.Dataset.from_tensor_slices(parts)


def test_every_source_of_ids_is_read_alike(classifier):
    ragged = tf.ragged.constant(encoded(classifier), dtype=tf.uint16)
    padded = classifier.encode(TEXTS)
    narrow = padded[:, : max(map(len, TEXTS))]
    expected = classifier.evaluate(TEXTS, LABELS, verbose=0)
    for x in (padded, narrow, ragged, {"token_ids": ragged}, narrow.tolist()):
        found = classifier.evaluate(x, LABELS, verbose=0)
        assert found == pytest.approx(expected, rel=1e-5)
    for x in (narrow, ragged):
        for data in (
            slices((x, LABELS)).batch(4),
            slices((x, LABELS)).batch(1),
            iter([(x, LABELS)]),
            Batches(x, LABELS),
        ):
            assert classifier.evaluate(data, verbose=0) == pytest.approx(expected, rel=1e-5)
    rows = slices(narrow).batch(3)
    np.testing.assert_allclose(
        classifier.predict(rows, verbose=0), classifier.predict(TEXTS, verbose=0), atol=1e-5
    )


def test_xla_reads_the_same_place(without_end):
    ids = without_end.encode(TEXTS)
    compiled = tf.function(lambda x: without_end(x), jit_compile=True)
    np.testing.assert_allclose(compiled(ids), without_end(ids), atol=1e-4)


@pytest.mark.parametrize("row", [[0, -1, 2], [-1, 0, 1], [-1, -1, -1]])
def test_misplaced_padding_is_refused(without_end, row):
    ids, labels = np.array([[1, 2, -1], row]), LABELS[:2]
    sources = (ids, slices((ids, labels)).batch(2), iter([(ids, labels)]), Batches(ids, labels))
    for x in sources:
        with pytest.raises(ValueError, match="padding -1 may only follow them"):
            without_end.evaluate(x, labels if x is ids else None, verbose=0)


def test_only_a_model_without_an_end_token_takes_minus_1(with_end, without_end):
    for model, low in ((with_end, -1), (without_end, -2)):
        with pytest.raises(ValueError, match=r"must be in \[0, 32\)"):
            model.predict(np.array([[1, low]]), verbose=0)


def test_an_end_token_inside_a_row_is_text(with_end):
    row = [1, END, 2]
    np.testing.assert_allclose(
        with_end(np.array([[*row, END, END]])), by_hand(with_end, [row]), atol=1e-4
    )


def test_a_text_without_tokens(with_end, without_end):
    # As from a model that has seen nothing but the end of another text.
    expected = by_hand(with_end, [[END], [0]])
    np.testing.assert_allclose(with_end.predict(["", "a"], verbose=0), expected, atol=1e-4)
    np.testing.assert_allclose(with_end.predict([""], verbose=0), expected[:1], atol=1e-4)
    with pytest.raises(ValueError, match="at least one token; number 1 is ''"):
        without_end.predict(["a", ""])


def test_the_start_of_a_prompt_begins_a_sequence():
    tokenizer = gk.tokenizers.BytePairTokenizer.train(
        "low lower", 262, special_tokens=["<s>", "</s>"]
    ).with_boundaries("<s>", "</s>", adds_start_of_text=True)
    config = tiny_config(vocabulary_size=tokenizer.vocabulary_size, num_layers=1)
    model = gk.GPTClassifier(gk.GPTCausalLM(config, tokenizer), 2)
    start, end = tokenizer.start_of_text_id, tokenizer.end_of_text_id
    ids = tokenizer.encode("low")
    assert model.encode(["low"])[0, : len(ids) + 2].tolist() == [start, *ids, end]


@pytest.mark.parametrize(("name", "delimiter"), [("with_end", [END]), ("without_end", [31])])
def test_pairs_are_separated_by_a_line_break_or_the_end_token(request, name, delimiter):
    single = request.getfixturevalue(name)
    model, tokenizer = single.backbone, single.tokenizer
    a, b, c = tokenizer.encode(["ab", "cde", "f"])
    forward, backward = [*a, *delimiter, *b], [*b, *delimiter, *a]
    entailment = with_head(gk.GPTClassifier(model, 3, "entailment", tokenizer=tokenizer), seed=3)
    logits = entailment.predict([("ab", "cde")], verbose=0)
    np.testing.assert_allclose(logits, by_hand(entailment, [forward]), atol=1e-4)

    similarity = with_head(gk.GPTClassifier(model, 3, "similarity", tokenizer=tokenizer))
    logits = similarity.predict([("ab", "cde"), ("cde", "ab")], verbose=0)
    kernel, bias = (np.array(weight) for weight in similarity.head.weights)
    state = state_of(similarity, forward) + state_of(similarity, backward)
    np.testing.assert_allclose(logits, [state @ kernel + bias] * 2, atol=1e-4)

    choice = with_head(gk.GPTMultipleChoice(model, tokenizer=tokenizer))
    logits = choice.predict([("ab", ["cde", "f"])], verbose=0)
    rows = [[*a, *delimiter, *answer] for answer in (b, c)]
    np.testing.assert_allclose(logits[0], by_hand(choice, rows)[:, 0], atol=1e-4)


def test_pairs_without_a_delimiter_are_refused():
    tokenizer = gk.tokenizers.CharacterTokenizer("abc")
    model = gk.GPTClassifier(gk.GPTCausalLM(tiny_config(), tokenizer), 2, "entailment")
    with pytest.raises(ValueError, match="can encode no line break and has no end-of-text token"):
        model.predict([("a", "b")])


def test_the_longest_part_is_cut_as_token_by_token():
    for first in range(9):
        for second in range(9):
            for room in range(2, 12):
                lengths = [first, second]
                while sum(lengths) > room:
                    lengths[int(np.argmax(lengths))] -= 1
                found = task_inputs.fitted_lengths(first, second, room, min, max)
                assert list(found) == lengths, (first, second, room)


def test_long_texts_are_cut(with_end):
    text = "abcdefgh" * 9
    rows = with_end.encode([text])
    np.testing.assert_array_equal(rows[0], with_end.tokenizer.encode(text)[:48])


def test_the_second_loss_ends_with_the_text(classifier):
    model = gk.GPTClassifier(
        classifier.backbone,
        2,
        dropout=0.0,
        language_modeling_weight=0.5,
        tokenizer=classifier.tokenizer,
    )
    model(model.encode(TEXTS), training=True)
    losses = []
    for row in encoded(model):
        logits = np.array(model.backbone(np.array([row])), np.float64)[0, :-1]
        log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        losses += (-log_probabilities[np.arange(len(row) - 1), row[1:]]).tolist()
    assert float(sum(model.losses)) == pytest.approx(0.5 * np.mean(losses), rel=1e-4)


def test_small_integers_hold_ids_too():
    backbone = gk.GPT(tiny_config(vocabulary_size=300, num_layers=1))
    model = gk.GPTClassifier(backbone, 2, pad_id=299)
    for dtype in ("uint8", "uint16", "int64"):
        ids = np.array([[43, 2, 1]], dtype)  # 299 in eight bits is 43
        np.testing.assert_allclose(model(ids), model(ids.astype("int32")), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "mean"}, "`pooling` must be one of last, extract, got 'mean'"),
        ({"pooling": "last", "special_ids": (1, 2, 3)}, "`special_ids` must be None with"),
        ({"pooling": "extract", "pad_id": 3}, "`pad_id` must be None with pooling='extract'"),
        ({"pad_id": -2}, r"`pad_id` must be an id in \[0, 32\), or -1 for no token, got -2"),
        ({"pad_id": 32}, "`pad_id`.*got 32"),
        ({"pad_id": "a"}, "`pad_id`.*got 'a'"),
        ({"pad_id": True}, "`pad_id`.*got True"),
        ({"pad_id": 3}, "`pad_id` must stand for no text"),
        ({"pooling": "extract"}, "must have 35 token ids"),
    ],
)
def test_bad_arguments(spread_model, arguments, message):
    with pytest.raises(ValueError, match=message):
        gk.GPTClassifier(spread_model, 2, **arguments)


def test_a_tokenizer_that_comes_later_must_fit(character_tokenizer):
    small = gk.GPTClassifier(gk.GPT(tiny_config(vocabulary_size=31)), 2)
    with pytest.raises(ValueError, match="`tokenizer` has 32 ids, more than the 31"):
        small.tokenizer = character_tokenizer
    padded = gk.GPTClassifier(gk.GPT(tiny_config()), 2, pad_id=5)
    with pytest.raises(ValueError, match="`pad_id` must stand for no text"):
        padded.tokenizer = character_tokenizer


def test_other_backbones_and_int8(character_tokenizer):
    lstm = gk.LSTMBackbone(32, num_layers=1, hidden_dim=8)
    model = with_head(gk.GPTClassifier(lstm, 2, tokenizer=character_tokenizer))
    expected = [model(np.array([row]))[0] for row in encoded(model)]
    np.testing.assert_allclose(model.predict(TEXTS, verbose=0), expected, atol=1e-5)
    # No new rows are needed, so a quantized backbone will do.
    backbone = gk.GPT(tiny_config(num_layers=1))
    weights_only = keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)
    backbone.quantize(config=weights_only)
    model = gk.GPTClassifier(backbone, 2, tokenizer=character_tokenizer)
    expected = [model(np.array([row]))[0] for row in encoded(model)]
    np.testing.assert_allclose(model.predict(TEXTS, verbose=0), expected, atol=1e-5)


@pytest.mark.parametrize("pooling", ["last", "extract"])
def test_a_classifier_may_read_less_than_its_backbone(character_tokenizer, pooling, tmp_path):
    backbone = gk.GPT(tiny_config(vocabulary_size=35, num_layers=1))
    arguments = {"tokenizer": character_tokenizer, "pooling": pooling}
    model = gk.GPTClassifier(backbone, 2, max_sequence_length=8, **arguments)
    whole = gk.GPTClassifier(backbone, 2, **arguments)
    whole.set_weights(model.get_weights())
    assert (model.max_sequence_length, whole.max_sequence_length) == (8, 48)
    long = "the cat sat on the mat"
    room = 8 - (2 if pooling == "extract" else 0)
    assert model.encode([long]).tolist() == [whole.encode([long[:room]])[0, :8].tolist()]
    np.testing.assert_allclose(
        model.predict([long], verbose=0), whole.predict([long[:room]], verbose=0), atol=1e-5
    )
    model.save_to_preset(tmp_path / "model")
    loaded = gk.GPTClassifier.from_preset(tmp_path / "model")
    assert loaded.max_sequence_length == 8
    assert loaded.backbone.max_sequence_length == 48
    with pytest.raises(ValueError, match="max_sequence_length=8"):
        model.predict(np.zeros((1, 9), "int32"), verbose=0)
    for limit, message in (
        (49, "at most 48, that of the backbone, got 49"),
        (0, "at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=f"`max_sequence_length` must be .*{message}"):
            gk.GPTClassifier(backbone, 2, max_sequence_length=limit, **arguments)
