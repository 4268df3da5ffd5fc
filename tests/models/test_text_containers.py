"""Texts and batches in every container that people have them in; the same data, the same result."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk

TEXTS = ["hello there", "a cat.", "what?", "no"]


class Series:
    """A pandas Series, as far as the package looks at it: one-dimensional, and iterable."""

    def __init__(self, values):
        self._array = np.array(values, object)
        self.shape, self.dtype = self._array.shape, self._array.dtype

    def __array__(self, dtype=None, copy=None):
        return self._array.astype(dtype or object)

    def __len__(self):
        return len(self._array)

    def __getitem__(self, index):  # by label, which need not begin at 0
        raise KeyError(index)

    def __iter__(self):
        return iter(self._array)


slices = tf.data.Dataset.from_tensor_slices

CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "array": np.array,
    "array of objects": lambda texts: np.array(texts, object),
    "series": Series,
    "tensor": tf.constant,
    "dataset": slices,
    "dataset of batches": lambda texts: slices(texts).batch(3),
    "generator": lambda texts: (text for text in texts),
    "iterator": iter,
    "list of tensors": lambda texts: [tf.constant(text) for text in texts],
    "generator of bytes": lambda texts: (text.encode() for text in texts),
}


def compiled(model):
    model.compile("sgd", run_eagerly=True)
    return model


class Batches(keras.utils.PyDataset):
    """One batch."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.parts


@pytest.fixture(scope="module")
def model(character_tokenizer):
    config = tiny_config(vocabulary_size=35, num_layers=1)
    return compiled(spread_weights(gk.GPTCausalLM(config, tokenizer=character_tokenizer)))


@pytest.fixture(scope="module")
def classifier(model):
    return compiled(spread_weights(gk.GPTClassifier(model, num_classes=2, pooling="extract")))


def after_fit(model, *arguments, **settings):
    """The loss of one epoch of training; the model is as before afterwards."""
    before = model.get_weights()
    history = model.fit(*arguments, shuffle=False, verbose=0, **settings).history
    model.set_weights(before)
    return {name: values[0] for name, values in history.items()}


@pytest.fixture
def given_to_keras(monkeypatch):
    """The data that `fit` and `evaluate` hand to Keras, which does nothing with it."""
    given = []

    def take(self, x=None, y=None, validation_data=None, sample_weight=None, **settings):
        datasets = (x, validation_data) if isinstance(x, tf.data.Dataset) else ()
        read = [list(data.as_numpy_iterator()) for data in datasets if data is not None]
        given.append(read or (x, y, sample_weight, validation_data))

    monkeypatch.setattr(keras.Model, "fit", take)
    monkeypatch.setattr(keras.Model, "evaluate", take)
    return given


def assert_equal(one, other):
    tf.nest.map_structure(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_a_language_model_takes_texts(model, given_to_keras, container):
    for texts in (list, container):
        model.fit(texts(TEXTS), validation_data=texts(TEXTS[:2]), shuffle=False)
        model.evaluate(texts(TEXTS))
    fitted, evaluated, fitted_too, evaluated_too = given_to_keras
    assert_equal(fitted, fitted_too)
    assert_equal(evaluated, evaluated_too)
    assert_equal(fitted[0], evaluated[0])
    data = gk.datasets.padded(
        container(TEXTS), model.tokenizer, sequence_length=None, batch_size=32
    )
    assert_equal(list(data.as_numpy_iterator()), evaluated[0])
    with pytest.raises(ValueError, match="use `generate`"):
        model.predict(container(TEXTS))


def test_validation_split_holds_out_the_last_texts(model):
    split = after_fit(model, CONTAINERS["generator"](TEXTS), validation_split=0.5)
    given = after_fit(model, TEXTS[:2], validation_data=TEXTS[2:])
    assert split == pytest.approx(given)
    # As in Keras, `validation_data` wins.
    given = after_fit(model, TEXTS[:3], validation_data=TEXTS[:1])
    assert after_fit(model, TEXTS, validation_split=0.25, validation_data=TEXTS[:1]) == (
        pytest.approx(given)
    )
    for fraction in (0.1, 1.5, -1):
        message = "`validation_split` must be" if fraction != 0.1 else "each side"
        with pytest.raises(ValueError, match=message):
            model.fit(TEXTS[:1], validation_split=fraction)


def test_ragged_and_dict_batches(model):
    ids = [model.tokenizer.encode(text) for text in TEXTS]
    ragged = tf.ragged.constant(ids)
    x, y = ragged[:, :-1], ragged[:, 1:]
    longest = max(map(len, ids)) - 1
    inputs, targets, weights = np.zeros((3, 4, longest))
    for i, row in enumerate(ids):
        inputs[i, : len(row) - 1], targets[i, : len(row) - 1] = row[:-1], row[1:]
        weights[i, : len(row) - 1] = 1
    arrays = inputs.astype(int), targets.astype(int)
    expected = after_fit(model, *arrays, sample_weight=weights)
    for inputs in (x, {"token_ids": x}):
        for source in (iter([(inputs, y)]), Batches(inputs, y)):
            assert after_fit(model, source) == pytest.approx(expected)
    for source in (ragged, slices(ragged).batch(4), iter([ragged])):  # which shift themselves
        assert after_fit(model, source) == pytest.approx(expected)
    assert after_fit(model, x, y) == pytest.approx(expected)
    assert after_fit(model, slices((x, y)).batch(4)) == pytest.approx(expected)
    data = slices(({"token_ids": x}, y)).batch(4)
    assert after_fit(model, data) == pytest.approx(expected)
    assert gk.evaluation.perplexity(model, data).loss == pytest.approx(expected["loss"], rel=1e-5)
    assert after_fit(model, {"token_ids": arrays[0]}, arrays[1], sample_weight=weights) == (
        pytest.approx(expected)
    )
    rows = np.array([1.0, 0.0, 2.0, 1.0])
    expected = after_fit(model, *arrays, sample_weight=weights * rows[:, None])
    assert after_fit(model, slices((x, y, rows)).batch(4)) == pytest.approx(expected)
    for wrong in ({"ids": arrays[0]}, slices(({"a": x, "b": x}, y)).batch(4)):
        with pytest.raises(ValueError, match=r"`x` must be texts .* under 'token_ids'; got a dict"):
            model.fit(wrong, None if isinstance(wrong, tf.data.Dataset) else arrays[1])


def test_a_later_batch_with_other_keys_is_refused_in_one_line(model):
    ids = np.ones((2, 3), int)
    batches = [(ids, ids)] * 3 + [({"ids": ids}, ids)]
    with pytest.raises(ValueError, match=r"^`x` must be texts .*; got a dict with the keys .*\.$"):
        model.fit(iter(batches), verbose=0)


@pytest.mark.parametrize(
    "x", [slices(TEXTS).batch(2).repeat(), ["a text", 3], np.array([TEXTS, TEXTS]), ["a.txt"]]
)
def test_what_holds_no_texts_is_refused(model, x):
    with pytest.raises(ValueError, match=r"`x` (must|is text)"):
        model.fit(x)


LABELS = [1, 0, 1, 1]
NAMES = [["cat", "dog"][label] for label in LABELS]


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_a_classifier_takes_texts(classifier, given_to_keras, container):
    assert_equal(classifier.encode(container(TEXTS)), classifier.encode(TEXTS))
    classifier.evaluate(container(TEXTS), LABELS)
    assert_equal(given_to_keras[0][:2], (classifier.encode(TEXTS), np.array(LABELS)))


@pytest.mark.parametrize("labels", [LABELS, NAMES])
def test_a_classifier_takes_datasets_of_texts_and_labels(model, labels):
    classifier = compiled(gk.GPTClassifier(model, 2, dropout=0))
    expected = after_fit(classifier, TEXTS, LABELS, validation_data=(TEXTS[:2], LABELS[:2]))
    data = slices((TEXTS, labels))
    for given in (data, data.batch(3)):
        for validation in (data.take(2), (TEXTS[:2], labels[:2])):
            found = after_fit(classifier, given, validation_data=validation)
            assert found == pytest.approx(expected)
    weighted = slices((TEXTS, labels, [1.0, 0.0, 0.0, 0.0]))
    loss, _ = classifier.evaluate(weighted, verbose=0)
    alone, _ = classifier.evaluate(TEXTS[:1], LABELS[:1], verbose=0)
    assert loss * 4 == pytest.approx(alone, rel=1e-5)
    with pytest.raises(ValueError, match="the dataset holds labels"):
        classifier.fit(data, labels)


def test_batches_validate_a_classifier_and_are_checked(model):
    classifier = compiled(gk.GPTClassifier(model, 2, dropout=0))
    ids, labels = classifier.encode(TEXTS), np.array(LABELS)
    expected = after_fit(classifier, TEXTS, LABELS, validation_data=(TEXTS, LABELS))
    sources = (Batches, lambda *parts: iter([parts]), lambda *parts: slices(parts).batch(4))
    for make in sources:
        found = after_fit(classifier, TEXTS, LABELS, validation_data=make(ids, labels))
        assert found["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-5)
    for make in sources:
        with pytest.raises(ValueError, match=r"^Token ids must be in \[0, 35\)"):
            classifier.fit(TEXTS, LABELS, validation_data=make(ids + 90, labels), verbose=0)


def test_ragged_and_dict_batches_of_a_classifier(classifier):
    expected = classifier.evaluate(TEXTS, LABELS, verbose=0)
    special = classifier.special_ids
    rows = [[special.start, *row, special.extract] for row in classifier.tokenizer.encode(TEXTS)]
    ids, labels = tf.ragged.constant(rows, dtype=tf.int32), np.array(LABELS)
    for x in (ids, {"token_ids": ids}, {"token_ids": classifier.encode(TEXTS)}):
        for data in (slices((x, labels)).batch(4), iter([(x, labels)]), Batches(x, labels)):
            assert classifier.evaluate(data, verbose=0) == pytest.approx(expected, rel=1e-5)
        assert classifier.evaluate(x, labels, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_pairs_of_texts(model):
    pairs = [["a", "b"], ["hello", "there"]]
    classifier = compiled(gk.GPTClassifier(model, 2, layout="entailment"))
    expected = classifier.encode(pairs)
    for make in (np.array, tf.constant, lambda pairs: np.array(pairs, object), iter, tuple):
        given = (pair for pair in pairs) if make is iter else make(pairs)
        np.testing.assert_array_equal(classifier.encode(given), expected)
    loss = classifier.evaluate(pairs, [0, 1], verbose=0)
    assert classifier.evaluate(slices((pairs, [0, 1])), verbose=0) == pytest.approx(loss)


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_labels_by_name(model, given_to_keras, container):
    classifier = compiled(gk.GPTClassifier(model, 2))
    assert classifier.class_names is None
    validation = (TEXTS[:2], container(NAMES[:2]))
    classifier.fit(TEXTS, container(NAMES), validation_data=validation)
    assert classifier.class_names == ("cat", "dog")
    ((_, labels, _, validation),) = given_to_keras
    assert_equal((labels, validation[1]), (np.array(LABELS), np.array(LABELS[:2])))


def test_names_of_classes_are_kept(model, tmp_path):
    classifier = compiled(gk.GPTClassifier(model, class_names=["dog", "cat"]))
    assert classifier.num_classes == 2
    classifier.fit(TEXTS, ["cat"] * 4, verbose=0)
    assert classifier.class_names == ("dog", "cat")
    classifier.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.class_names == ("dog", "cat")
    expected = classifier.evaluate(TEXTS, [1] * 4, verbose=0)
    assert loaded.evaluate(TEXTS, ["cat"] * 4, verbose=0) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat", "cat"], "2 different names, got 2"),
        (["cat"], "2 different names, got 1"),
        ("ab", "`class_names` must be several strings"),
        ([1, 2], "`class_names` must hold strings"),
    ],
)
def test_bad_names(model, names, message):
    with pytest.raises(ValueError, match=message):
        gk.GPTClassifier(model, 2, class_names=names)


def test_bad_labels_by_name(model):
    classifier = compiled(gk.GPTClassifier(model, 2))
    with pytest.raises(ValueError, match=r"num_classes=2 different names, .* got 3"):
        classifier.fit(TEXTS[:3], ["a", "b", "c"], verbose=0)
    with pytest.raises(ValueError, match=r"numbers of the classes, 0 to 1, .* got 'a'"):
        classifier.evaluate(TEXTS[:1], ["a"], verbose=0)
    classifier.class_names = ["a", "b"]
    with pytest.raises(ValueError, match=r"names of `class_names`, \['a', 'b'\]; got 'c'"):
        classifier.evaluate(TEXTS[:1], ["c"], verbose=0)
    with pytest.raises(ValueError, match="`num_classes`"):
        gk.GPTClassifier(model)
