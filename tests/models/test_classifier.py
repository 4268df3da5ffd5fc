import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.models import task_inputs

START, DELIMITER, EXTRACT = 32, 33, 34


def tiny(character_tokenizer, **changes):
    config = tiny_config(vocabulary_size=35, **changes)
    return spread_weights(gk.GPTCausalLM(config, tokenizer=character_tokenizer))


@pytest.fixture(scope="module")
def language_model(character_tokenizer):
    return tiny(character_tokenizer)


@pytest.fixture(scope="module")
def classifier(language_model):
    return spread_weights(gk.GPTClassifier(language_model, num_classes=3, pooling="extract"))


def hidden_states(backbone, token_ids):
    """What the final norm gives, by a model of Keras's own making."""
    inner = keras.Model(backbone.input, backbone.get_layer("final_norm").output)
    return np.array(inner(np.array([token_ids])))[0]


def by_hand(model, rows):
    """Logits of rows without padding, in NumPy."""
    kernel, bias = (np.array(v) for v in model.head.weights)
    last = [hidden_states(model.backbone, row)[-1] for row in rows]
    return np.array(last) @ kernel + bias


def test_logits_are_the_head_s_of_the_last_hidden_state(classifier, character_tokenizer):
    texts = ["hello there", "a", "the cat sat on the mat."]
    rows = [[START, *character_tokenizer.encode(text), EXTRACT] for text in texts]
    expected = by_hand(classifier, rows)
    np.testing.assert_allclose(classifier.predict(texts, verbose=0), expected, atol=1e-4)
    alone = [classifier.predict([text], verbose=0)[0] for text in texts]
    np.testing.assert_allclose(alone, expected, atol=1e-4)


def test_padding_changes_nothing(classifier):
    row = [START, 1, 2, 3, EXTRACT]
    expected = by_hand(classifier, [row])
    for padding in ([], [EXTRACT] * 9, [0] * 9, [5, EXTRACT, 7]):
        np.testing.assert_allclose(classifier(np.array([row + padding])), expected, atol=1e-4)
    # Without an extract token the last token is read.
    np.testing.assert_allclose(
        classifier(np.array([[START, 1, 2]])), by_hand(classifier, [[START, 1, 2]]), atol=1e-4
    )


def test_pairs(language_model, character_tokenizer):
    a, b = (character_tokenizer.encode(text) for text in ("ab", "cde"))
    forward = [START, *a, DELIMITER, *b, EXTRACT]
    backward = [START, *b, DELIMITER, *a, EXTRACT]
    entailment = spread_weights(
        gk.GPTClassifier(language_model, 3, layout="entailment", pooling="extract")
    )
    logits = entailment.predict([("ab", "cde")], verbose=0)
    np.testing.assert_allclose(logits, by_hand(entailment, [forward]), atol=1e-4)

    similarity = spread_weights(
        gk.GPTClassifier(language_model, 3, layout="similarity", pooling="extract")
    )
    pairs = [("ab", "cde"), ("cde", "ab")]
    logits = similarity.predict(pairs, verbose=0)
    kernel, bias = (np.array(v) for v in similarity.head.weights)
    state = sum(hidden_states(similarity.backbone, row)[-1] for row in (forward, backward))
    np.testing.assert_allclose(logits, [state @ kernel + bias] * 2, atol=1e-4)


def test_multiple_choice(language_model, character_tokenizer):
    model = spread_weights(gk.GPTMultipleChoice(language_model, pooling="extract"))
    examples = [("hello", ["a", "bcd", "ef"]), ("he", ["xyz", "x", "y"])]
    encode = character_tokenizer.encode
    expected = [
        by_hand(
            model,
            [[START, *encode(context), DELIMITER, *encode(a), EXTRACT] for a in answers],
        )[:, 0]
        for context, answers in examples
    ]
    np.testing.assert_allclose(model.predict(examples, verbose=0), expected, atol=1e-4)
    assert model.predict([("a", ["b"])], verbose=0).shape == (1, 1)
    with pytest.raises(ValueError, match=r"same number of sequences \(choices\), got \[1, 2\]"):
        model.predict([("a", ["b"]), ("a", ["b", "c"])])
    with pytest.raises(ValueError, match=r"\(batch, choices, length\)"):
        model(np.array([[1, 2]]))


def toy(count, seed):
    """Texts whose class is whether an x is among their letters."""
    generator = np.random.default_rng(seed)
    texts, labels = [], []
    for i in range(count):
        letters = list(generator.choice(list("abcde"), generator.integers(1, 12)))
        if i % 2:
            letters[generator.integers(len(letters))] = "x"
        texts.append("".join(letters))
        labels.append(i % 2)
    return texts, labels


def beginner(character_tokenizer, num_layers=1):
    """A language model that has learned nothing yet."""
    config = tiny_config(vocabulary_size=35, num_layers=num_layers)
    return gk.GPTCausalLM(config, tokenizer=character_tokenizer)


@pytest.mark.slow
@pytest.mark.parametrize(("language_modeling_weight", "jit_compile"), [(0.0, False), (0.5, True)])
def test_it_learns_a_toy_task(character_tokenizer, language_modeling_weight, jit_compile):
    keras.utils.set_random_seed(0)  # also the order of the batches
    model = gk.GPTClassifier(
        beginner(character_tokenizer),
        2,
        dropout=0.0,
        language_modeling_weight=language_modeling_weight,
    )
    model.compile(gk.training.adamw(1e-2, warmup_steps=10), jit_compile=jit_compile)
    texts, labels = toy(256, seed=0)
    model.fit(texts, labels, epochs=12, batch_size=32, validation_data=toy(64, 2), verbose=0)
    assert model.evaluate(*toy(256, seed=0), return_dict=True, verbose=0)["accuracy"] == 1.0
    new_texts, new_labels = toy(64, seed=1)
    answers = np.argmax(model.predict(new_texts, verbose=0), axis=-1)
    assert np.mean(answers == new_labels) > 0.95


@pytest.mark.slow
def test_multiple_choice_learns_a_toy_task(character_tokenizer):
    keras.utils.set_random_seed(0)
    # The right answer is the letter of the context.
    generator = np.random.default_rng(0)
    examples, labels = [], []
    for _ in range(256):
        answers = generator.permutation(list("abc")).tolist()
        label = int(generator.integers(3))
        examples.append((answers[label] * 3, answers))
        labels.append(label)
    model = gk.GPTMultipleChoice(beginner(character_tokenizer, num_layers=2), dropout=0.0)
    model.compile(gk.training.adamw(1e-2, warmup_steps=10))
    model.fit(examples, labels, epochs=15, verbose=0)
    assert model.evaluate(examples, labels, return_dict=True, verbose=0)["accuracy"] == 1.0


def test_the_second_loss_is_the_mean_over_the_tokens_of_the_text(language_model):
    model = gk.GPTClassifier(
        language_model, 2, dropout=0.0, language_modeling_weight=0.5, pooling="extract"
    )
    rows = [[START, 1, 2, 3, EXTRACT, EXTRACT, EXTRACT], [START, 7, 8, 9, 6, 5, EXTRACT]]
    model(np.array(rows), training=True)
    losses = []
    for row in ([*rows[0][:4], EXTRACT], rows[1]):
        logits = np.array(model.backbone(np.array([row[:-1]])), np.float64)[0]
        shifted = np.exp(logits - logits.max(-1, keepdims=True))
        probabilities = shifted / shifted.sum(-1, keepdims=True)
        losses += (-np.log(probabilities[np.arange(len(logits)), row[1:]])).tolist()
    assert float(sum(model.losses)) == pytest.approx(0.5 * np.mean(losses), rel=1e-4)
    model(np.array(rows), training=False)
    assert sum(model.losses) == 0


@pytest.mark.slow
def test_it_is_saved(character_tokenizer, tmp_path):
    language_model = beginner(character_tokenizer)
    texts = ["hello there", "a"]
    models = {
        "classifier": (gk.GPTClassifier(language_model, 3, dropout=0.2), texts),
        "similarity": (gk.GPTClassifier(language_model, 3, layout="similarity"), [texts]),
        "choice": (gk.GPTMultipleChoice(language_model), [("x", texts)]),
    }
    for name, (model, examples) in models.items():
        # A classifier is traced, as one that was loaded is below.
        traced = name == "classifier"
        model.compile(**({"jit_compile": False} if traced else {"run_eagerly": True}))
        model.fit(examples, [0] * len(examples), verbose=0)
        model.save(tmp_path / f"{name}.keras")
        loaded = keras.saving.load_model(tmp_path / f"{name}.keras")
        assert type(loaded) is type(model)
        assert loaded.get_config() == model.get_config()
        np.testing.assert_allclose(
            loaded.predict(examples, verbose=0), model.predict(examples, verbose=0), atol=1e-6
        )
    # A classifier that was loaded goes on training, as it was compiled.
    loaded = keras.saving.load_model(tmp_path / "classifier.keras")
    assert int(loaded.optimizer.iterations) == 1
    loaded.fit(texts, [0, 0], verbose=0)
    assert int(loaded.optimizer.iterations) == 2


def test_a_preset_gets_room_for_the_special_tokens(spread_model, tmp_path):
    spread_model.save_to_preset(tmp_path / "preset")
    model = gk.GPTClassifier.from_preset(
        tmp_path / "preset", num_classes=2, layout="entailment", pooling="extract"
    )
    assert model.vocabulary_size == 35
    assert model.special_ids == (START, DELIMITER, EXTRACT)
    token_ids = np.arange(9)[None]
    logits = model.backbone(token_ids)
    np.testing.assert_allclose(logits[..., :32], spread_model(token_ids), atol=1e-5)
    assert model.predict([("a", "b")], verbose=0).shape == (1, 2)
    choice = gk.GPTMultipleChoice.from_preset(tmp_path / "preset", dropout=0.0)
    assert choice.head_dropout.rate == 0.0
    assert choice.tokenizer == spread_model.tokenizer


def test_without_a_tokenizer_special_ids_are_named(tmp_path):
    # Nobody knows which ids of this model are text's: none is taken without a word.
    backbone = spread_weights(gk.GPT(tiny_config()))
    for make in (
        lambda: gk.GPTClassifier(backbone, 2, pooling="extract"),
        lambda: gk.GPTMultipleChoice(backbone, pooling="extract"),
    ):
        with pytest.raises(ValueError, match=r"`special_ids` must be given.*\(35\) makes room"):
            make()
    model = spread_weights(gk.GPTClassifier(backbone, 2, special_ids=[3, 7, 5]))
    assert model.special_ids == (3, 7, 5)
    assert model.special_ids.extract == 5
    # The last id of the vocabulary is an id like others: the extract token is read.
    row = [3, 31, 31, 5]
    np.testing.assert_allclose(model(np.array([[*row, 31]])), by_hand(model, [row]), atol=1e-4)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.special_ids == (3, 7, 5)

    gk.CausalLM(backbone).save_to_preset(tmp_path / "preset")
    loaded = gk.GPTClassifier.from_preset(tmp_path / "preset", 2, pooling="extract")
    assert (loaded.vocabulary_size, loaded.special_ids) == (35, (32, 33, 34))
    loaded = gk.GPTClassifier.from_preset(tmp_path / "preset", 2, special_ids=(3, 7, 5))
    assert (loaded.vocabulary_size, loaded.special_ids) == (32, (3, 7, 5))


def test_special_tokens_of_the_tokenizer_may_serve(language_model, character_tokenizer):
    end = character_tokenizer.end_of_text_id
    model = gk.GPTClassifier(language_model, 2, special_ids=(32, 33, end))
    assert model.encode(["abc"])[0, :6].tolist() == [32, 0, 1, 2, end, end]
    # A tokenizer that comes later must leave them free, too.
    alone = gk.GPTClassifier(language_model.backbone, 2, special_ids=(1, 2, 3))
    with pytest.raises(ValueError, match="`special_ids` must stand for no text"):
        alone.tokenizer = character_tokenizer


def test_an_lstm_serves_too(character_tokenizer):
    backbone = spread_weights(gk.LSTMBackbone(35, num_layers=1, hidden_dim=8))
    model = gk.GPTClassifier(backbone, 2, tokenizer=character_tokenizer, pooling="extract")
    row = [START, 1, 2, EXTRACT]
    np.testing.assert_allclose(
        model(np.array([row])), model(np.array([[*row, EXTRACT, 5]])), atol=1e-6
    )
    assert model.predict(["hello"], verbose=0).shape == (1, 2)


def test_arrays_and_datasets_train_it(classifier):
    special_ids = (START, DELIMITER, EXTRACT)
    model = gk.GPTClassifier(classifier.backbone, 3, special_ids=special_ids)  # no tokenizer
    model.compile(jit_compile=False)
    token_ids = classifier.encode(["hello", "a", "b", "c"])
    assert token_ids.shape == (4, 32)
    labels = np.array([0, 1, 2, 0])
    data = tf.data.Dataset.from_tensor_slices((token_ids, labels)).batch(2)
    first = model.evaluate(token_ids, labels, verbose=0, batch_size=2)
    assert model.evaluate(data, verbose=0) == pytest.approx(first)
    np.testing.assert_array_equal(classifier.encode(["hello " * 20])[0, -1:], [EXTRACT])
    assert classifier.encode(["hello " * 20]).shape == (1, 48)  # the context, not 64


def test_layouts_cut_the_longest_part():
    special = task_inputs.SpecialIds(7, 8, 9)
    assert task_inputs.classification([1, 2, 3, 4], special, 5) == [[7, 1, 2, 3, 9]]
    assert task_inputs.entailment([1, 2, 3, 4], [5], special, 6) == [[7, 1, 2, 8, 5, 9]]
    assert task_inputs.entailment([5], [1, 2, 3, 4], special, 6) == [[7, 5, 8, 1, 2, 9]]
    assert task_inputs.similarity([1, 2, 3], [4, 5, 6], special, 7) == [
        [7, 1, 2, 8, 4, 5, 9],
        [7, 4, 5, 8, 1, 2, 9],
    ]
    assert task_inputs.multiple_choice([1, 2, 3], [[4], [5, 6]], special, 6) == [
        [7, 1, 2, 8, 4, 9],
        [7, 1, 8, 5, 6, 9],
    ]
    with pytest.raises(ValueError, match=r"`max_length` must be at least 5, .* got 4"):
        task_inputs.entailment([1], [2], special, 4)
    with pytest.raises(ValueError, match="at least one answer"):
        task_inputs.multiple_choice([1], [], special)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "`num_classes`.*0"),
        ({"layout": "regression"}, "`layout` must be one of classification, .* got 'regression'"),
        ({"dropout": 1.0}, r"`dropout`.*1\.0"),
        ({"language_modeling_weight": -1}, "`language_modeling_weight`.*-1"),
        ({"tokenizer": "gpt2"}, "`tokenizer` must be"),
        ({"special_ids": (32, 33)}, r"`special_ids` must be three different ids.* got \(32, 33\)"),
        ({"special_ids": (32, 33, 33)}, "`special_ids` must be three different ids"),
        ({"special_ids": (33, 34, 35)}, r"\[0, 35\).* to 35"),
        # The tokenizer's text has ids to 30, and 31 is its special token.
        ({"special_ids": (30, 33, 34)}, r"`special_ids` must stand for no text.*from 32 on"),
    ],
)
def test_bad_arguments(language_model, arguments, message):
    with pytest.raises(ValueError, match=message):
        gk.GPTClassifier(language_model, **{"num_classes": 2, **arguments})


def test_bad_models(spread_model):
    with pytest.raises(ValueError, match=r"must have 35 token ids.*has 32.*size\(35\)"):
        gk.GPTClassifier(spread_model, 2, pooling="extract")
    with pytest.raises(ValueError, match="lacks `hidden_states`, `unembed`"):
        gk.GPTClassifier(keras.Sequential([keras.layers.Embedding(3, 3)]), 2)
    with pytest.raises(ValueError, match="`model` must be causal"):
        gk.GPTClassifier(gk.GPT(tiny_config(causal=False)), 2)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ("hello", "got one text"),
        ([], "must be texts"),
        (None, "must be texts"),
        (["a", 3], "must hold strings, got 3 of type int as number 1"),
        ([("a", "b")], "must be a text; number 0"),
        (np.array([[35]]), r"\[0, 35\)"),
        (np.zeros((1, 49), "int32"), "49 tokens are longer than .*=48"),
    ],
)
def test_bad_examples(classifier, x, message):
    with pytest.raises(ValueError, match=message):
        classifier.predict(x)


def test_bad_pairs(language_model):
    pairs = gk.GPTClassifier(language_model, 2, layout="entailment")
    choice = gk.GPTMultipleChoice(language_model)
    with pytest.raises(ValueError, match="must be a pair of texts; number 1"):
        pairs.encode([("a", "b"), ("a", "b", "c")])
    with pytest.raises(ValueError, match=r"pair \(context, list of answers\); number 0"):
        choice.encode([("a", "b")])
    with pytest.raises(ValueError, match="need a tokenizer"):
        gk.GPTClassifier(language_model.backbone, 2, special_ids=(1, 2, 3)).predict(["a"])


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [0.5, 1], ["x", "y"], np.array(["x", "y"])])
def test_labels_that_are_no_class(language_model, labels):
    model = gk.GPTClassifier(language_model, num_classes=3)
    model.compile(jit_compile=False)
    before = [np.array(weight) for weight in model.weights]
    for run in (
        lambda: model.fit(["ab", "ba"], labels, verbose=0),
        lambda: model.evaluate(["ab", "ba"], labels, verbose=0),
        lambda: model.fit(["ab"], [0], validation_data=(["ab", "ba"], labels), verbose=0),
    ):
        with pytest.raises(ValueError, match="0 to 2"):
            run()
    assert all(map(np.array_equal, before, model.weights))
    choice = gk.GPTMultipleChoice(language_model)
    choice.compile(jit_compile=False)
    with pytest.raises(ValueError, match="0 to 1"):
        choice.fit([("a", ["b", "c"])], [2], verbose=0)
