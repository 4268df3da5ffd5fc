"""Texts with labels: the split, the names of classes, duplicates, and training on them."""

import warnings
from collections import Counter, defaultdict

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import gpt_keras as gk
from gpt_keras.datasets import LabeledTexts, classification, table_rows
from gpt_keras.datasets.splits import draw_splits, units_of
from gpt_keras.tokenizers import CharacterTokenizer

SPLITS = ("train", "validation", "test")


def make_rows(counts, **columns):
    """Return rows with different texts, a number of them for each label."""
    return [
        {"text": f"text {i} of {label}", "label": label, **columns}
        for label, count in counts.items()
        for i in range(count)
    ]


def read(rows, **options):
    return classification(rows, **{"text": "text", "label": "label", **options})


def parts(data):
    return {name: part for name in SPLITS if (part := getattr(data, name)) is not None}


def pairs(data):
    """Return the (text, name of the class) of each part, in order."""
    return {
        name: [(text, data.class_names[label]) for text, label in zip(*part)]
        for name, part in parts(data).items()
    }


# The split


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60),
    st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.5, 0.0), (0.2, 0.3, 0.5), (1.0, 0.0, 0.0)]),
    st.integers(0, 5),
)
def test_each_split_has_its_share_of_each_class(labels, fractions, seed):
    labels = np.unique(labels, return_inverse=True)[1]
    splits = draw_splits(labels, np.arange(len(labels)), fractions, seed)
    for number, fraction in enumerate(fractions):
        # Each of up to five classes may give one more row to the training part.
        assert abs((splits == number).sum() - fraction * len(labels)) <= 5
        for label in range(labels.max() + 1):
            share = (splits[labels == label] == number).mean()
            assert abs(share - fraction) * (labels == label).sum() <= 3
            assert fraction or not share


@settings(deadline=None)
@given(st.data())
def test_units_are_connected_components(data):
    size = data.draw(st.integers(1, 20))
    keys = [data.draw(st.lists(st.integers(0, 12), min_size=size, max_size=size)) for _ in "ab"]
    # An independent way: the closure of the relation "shares a key".
    related = np.eye(size, dtype=bool)
    for values in keys:
        related |= np.equal.outer(values, values)
    for _ in range(size):
        related = (related.astype(int) @ related.astype(int)) > 0
    units = units_of(*keys)
    assert np.array_equal(np.equal.outer(units, units), related)
    assert sorted(set(units)) == list(range(units.max() + 1))


def test_the_split_is_exact_for_large_classes():
    data = read(make_rows({"a": 700, "b": 300}), validation_fraction=0.1, test_fraction=0.2)
    assert data.report.counts == {
        "train": {"a": 490, "b": 210},
        "validation": {"a": 70, "b": 30},
        "test": {"a": 140, "b": 60},
    }


def test_many_small_classes_do_not_leave_a_part_empty():
    data = read(make_rows({str(i): 4 for i in range(50)}))
    sizes = {name: len(part.labels) for name, part in parts(data).items()}
    assert sizes == {"train": 160, "validation": 20, "test": 20}
    assert set(data.train.labels.tolist()) == set(range(50))


@pytest.mark.parametrize("seed", range(5))
def test_every_class_is_in_the_training_part(seed):
    rows = make_rows({"a": 30, "b": 2, "c": 2})
    data = read(rows, validation_fraction=0.4, test_fraction=0.4, seed=seed)
    assert set(data.train.labels.tolist()) == {0, 1, 2}


def test_every_row_is_in_one_part_with_its_label():
    rows = make_rows({"a": 33, "b": 21})
    found = [pair for part in pairs(read(rows)).values() for pair in part]
    assert Counter(found) == Counter((row["text"], row["label"]) for row in rows)


def test_the_seed_alone_decides():
    rows = make_rows({"a": 40, "b": 40})
    assert pairs(read(rows, seed=1)) == pairs(read(rows, seed=1))
    assert pairs(read(rows, seed=1))["test"] != pairs(read(rows, seed=2))["test"]
    assert set(pairs(read(rows, seed=1))["test"]) != set(pairs(read(rows, seed=2))["test"])


def test_a_part_of_fraction_0_is_none():
    data = read(make_rows({"a": 5, "b": 5}), validation_fraction=0, test_fraction=0)
    assert (data.validation, data.test) == (None, None)
    assert list(data.report.counts) == ["train"]
    assert len(data.train.labels) == 10


@pytest.mark.parametrize("seed", range(4))
def test_groups_stay_together_and_classes_keep_their_shares(seed):
    generator = np.random.default_rng(seed)
    authors = generator.integers(0, 60, 600)
    rows = [
        {"text": f"text {i}", "label": ["a", "b"][int(i % 4 == 0)], "author": int(author)}
        for i, author in enumerate(authors)
    ]
    author_of = {row["text"]: row["author"] for row in rows}
    data = read(rows, group="author", validation_fraction=0.2, test_fraction=0.2, seed=seed)
    found = {name: {author_of[text] for text in part.texts} for name, part in parts(data).items()}
    assert sum(map(len, found.values())) == len(set(author_of.values()))
    assert not found["train"] & found["test"]
    assert not found["train"] & found["validation"]
    for name, fraction in zip(SPLITS, (0.6, 0.2, 0.2)):
        counts = data.report.counts[name]
        assert abs(sum(counts.values()) / 600 - fraction) < 0.02
        assert abs(counts["b"] / sum(counts.values()) - 0.25) < 0.05


# Duplicates


def with_duplicates():
    rows = make_rows({"a": 40, "b": 40})
    rows += [dict(row) for row in rows[:10]]  # 10 with the same label
    rows += [{"text": f"  text  {i} of\nb", "label": "b"} for i in range(10)]  # other white space
    return [*rows, {"text": "text 0 of a", "label": "b"}, {"text": "text 1 of a", "label": "b"}]


@pytest.mark.filterwarnings("ignore:2 texts have several labels")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("group", [None, "author"])
def test_the_same_text_is_never_in_two_parts(seed, group):
    rows = with_duplicates()
    for i, row in enumerate(rows):
        row["author"] = i % 25
    data = read(rows, validation_fraction=0.3, test_fraction=0.3, seed=seed, group=group)
    parts_of = defaultdict(set)
    for name, part in parts(data).items():
        for text in part.texts:
            parts_of[" ".join(text.split())].add(name)
    assert len(parts_of) == 80
    assert all(len(names) == 1 for names in parts_of.values())
    assert sum(len(part.labels) for part in parts(data).values()) == 102


def test_duplicates_are_counted_and_conflicts_reported():
    with pytest.warns(
        UserWarning, match=r"2 texts have several labels, such as 'text 0 of a': 'a'"
    ):
        data = read(with_duplicates())
    report = data.report
    assert (report.num_rows, report.num_duplicates, report.num_dropped) == (102, 22, 0)
    first, second = report.conflicts
    assert (first.text, first.labels) == ("text 0 of a", ("a", "a", "b"))
    assert first.places == tuple(f"`source`, row {i}" for i in (0, 80, 100))
    assert second.text == "text 1 of a"
    assert "texts with several labels: 2" in str(report)


def test_duplicates_can_be_dropped():
    with pytest.warns(UserWarning, match="2 texts have several labels"):
        data = read(with_duplicates(), drop_duplicates=True)
    found = [pair for part in pairs(data).values() for pair in part]
    expected = make_rows({"a": 40, "b": 40})[2:]  # the two texts with two labels are gone
    assert sorted(found) == sorted((row["text"], row["label"]) for row in expected)
    assert data.report.num_dropped == 102 - 78


def test_data_without_faults_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(make_rows({"a": 10, "b": 10}))


# Labels


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["b", "a"], ("a", "b")),
        ([" b", "a "], ("a", "b")),
        ([10, 9], ("9", "10")),
        (["10", "9"], ("9", "10")),
        ([0.0, 1.0], ("0", "1")),
        ([np.int64(1), np.float32(0)], ("0", "1")),
        ([True, False], ("False", "True")),
        ([-1, 1], ("-1", "1")),
        (["1", "x"], ("1", "x")),
        (["好", "坏"], ("坏", "好")),
    ],
)
def test_names_of_classes(labels, names):
    rows = [{"text": f"text {i} {j}", "label": y} for j, y in enumerate(labels) for i in range(9)]
    data = read(rows)
    assert data.class_names == names
    for text, name in (pair for part in pairs(data).values() for pair in part):
        label = labels[int(text[-1])]
        expected = str(int(label)) if isinstance(label, float | np.generic) else str(label).strip()
        assert name == expected


def test_given_class_names_are_in_the_given_order():
    data = read(make_rows({"pos": 9, "neg": 9}), class_names=["pos", "neg"])
    assert data.class_names == ("pos", "neg")
    assert all(("pos" in text) == (label == 0) for text, label in zip(*data.train))


@pytest.mark.parametrize("labels", [(0, 1), ("0", "1")])
def test_numbers_stand_for_given_class_names(labels):
    data = read(make_rows(dict.fromkeys(labels, 9)), class_names=("neg", "pos"))
    assert data.class_names == ("neg", "pos")
    assert all(text.endswith(str(label)) for text, label in zip(*data.train))


def test_class_names_win_over_numbers():
    data = read(make_rows({"1": 9, "0": 9}), class_names=("1", "0"))
    assert all(text.endswith(data.class_names[label]) for text, label in zip(*data.train))


def test_class_weights_are_balanced():
    data = read(make_rows({"a": 30, "b": 10}), validation_fraction=0, test_fraction=0)
    # sklearn.utils.class_weight.compute_class_weight("balanced", ...)
    assert data.class_weights == {0: 40 / (2 * 30), 1: 40 / (2 * 10)}
    weights = [data.class_weights[label] for label in data.train.labels.tolist()]
    assert np.mean(weights) == pytest.approx(1)


# Sources


def test_all_parts_of_a_pair_are_kept():
    rows = [
        {"a": f"a {i}", "b": f"b {i % 3}", "y": y}
        for i in range(12)
        for y in [["no", "yes"][i % 2]]
    ]
    data = classification(rows, text=("b", "a"), label="y", validation_fraction=0)
    assert data.train.texts.shape == (len(data.train.labels), 2)
    assert {(b, a) for part in parts(data).values() for b, a in part.texts.tolist()} == {
        (row["b"], row["a"]) for row in rows
    }


def test_a_file(tmp_path):
    path = tmp_path / "a.csv"
    rows = "".join(f'"text, {i}",{i % 2},x\n' for i in range(20))
    path.write_text("text,label,other\n" + rows, encoding="utf-8")
    data = read(str(path), class_names=["even", "odd"])
    assert all(int(text[6:]) % 2 == label for text, label in zip(*data.train))


def test_a_generator_is_read_once():
    assert read(row for row in make_rows({"a": 9, "b": 9})).report.num_rows == 18


def test_a_data_frame():
    pandas = pytest.importorskip("pandas")
    rows = make_rows({"a": 9, "b": 9})
    assert pairs(read(pandas.DataFrame(rows))) == pairs(read(rows))


def test_rows_of_a_table_are_texts():
    rows = [{"age": i, "job": "x; y", "rich": i > 10} for i in range(20)]
    table = table_rows(rows, exclude=["rich"])
    data = classification(rows, text=table, label="rich")
    assert data.class_names == ("False", "True")
    for text, label in zip(*data.train):
        assert table.to_row(text)["job"] == "x; y"
        assert (table.to_row(text)["age"] > 10) == label


# Length


def test_rows_over_the_length_are_counted():
    rows = [{"text": "x" * n, "label": "ab"[n % 2]} for n in range(1, 21)]
    tokenizer = CharacterTokenizer("x")
    with pytest.warns(UserWarning, match="5 of 20 rows have more than sequence_length=15 tokens"):
        data = read(rows, tokenizer=tokenizer, sequence_length=15)
    assert data.report.num_too_long == 5
    assert "rows over the length (truncated): 5" in str(data.report)
    assert read(rows, tokenizer=tokenizer, sequence_length=20).report.num_too_long == 0
    assert read(rows).report.num_too_long is None


def test_both_texts_of_a_pair_count():
    rows = [{"a": "x" * n, "b": "x" * 5, "label": "ab"[n % 2]} for n in range(1, 21)]
    options = {"tokenizer": CharacterTokenizer("x"), "sequence_length": 20}
    with pytest.warns(UserWarning, match="5 of 20 rows"):
        classification(rows, text=["a", "b"], label="label", **options)


# Bad input


GOOD = make_rows({"a": 10, "b": 10})


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "`source` must have rows, but is empty"),
        (GOOD, {"text": "txt"}, r"row 0: there is no column 'txt'. The row has 'text', 'label'"),
        (GOOD, {"label": "y"}, r"there is no column 'y'. The row has 'text', 'label'"),
        (GOOD, {"group": "author"}, r"there is no column 'author'. The row has 'text', 'label'"),
        (GOOD, {"label": "text"}, r"`text` must not contain the column of the labels, 'text'"),
        (
            GOOD,
            {"text": 3},
            "`text` must be the name of a column, two names, or a TableRows; got 3",
        ),
        (GOOD, {"text": ["a", "b", "c"]}, "`text` must be the name of a column, two names"),
        (GOOD, {"label": None}, "`label` must be the name of a column, got None"),
        (GOOD, {"group": 3}, "`group` must be the name of a column, got 3"),
        (GOOD, {"text": gk.datasets.TableRows({"label": "str"})}, "must not contain the column"),
        (GOOD, {"validation_fraction": 1.5}, r"`validation_fraction` must be .*\[0, 1\), got 1.5"),
        (GOOD, {"test_fraction": -1}, r"`test_fraction` must be a number in \[0, 1\), got -1"),
        (GOOD, {"validation_fraction": 0.5, "test_fraction": 0.5}, "below 1, got 0.5 [+] 0.5"),
        (GOOD, {"seed": -1}, "`seed` must be"),
        (GOOD, {"tokenizer": CharacterTokenizer("a")}, "must be given together"),
        (GOOD, {"sequence_length": 5}, "must be given together"),
        (GOOD, {"tokenizer": "a", "sequence_length": 5}, "must be a gk.tokenizers.Tokenizer"),
        (GOOD, {"tokenizer": CharacterTokenizer("a"), "sequence_length": 0}, "`sequence_length`"),
        (GOOD, {"test_fraction": 0.01}, r"The test part is empty: its fraction is 0.01 of 20 rows"),
        (GOOD, {"class_names": ["a", "c"]}, r"row 10: a label must be one .*'c'\].*; got 'b'"),
        (GOOD, {"class_names": ["a", "b", "b"]}, "`class_names` must be different names"),
        (GOOD, {"class_names": "ab"}, "`class_names` must be several strings"),
        (GOOD, {"class_names": ["a", "b", "c"]}, "at least two different texts, but 'c' has 0. "),
        (make_rows({"a": 9}), {}, "at least two labels, got only 'a'"),
        (make_rows({"a": 9, "b": 1}), {}, r"'b' has 1 \(`source`, row 9\). Is it misspelled"),
        ([*make_rows({"a": 9}), *make_rows({"b": 1}) * 3], {}, r"texts, but 'b' has 1"),
        ([*GOOD, {"text": None, "label": "a"}], {}, r"row 20: the text 'text' is missing"),
        ([*GOOD, {"text": " \n", "label": "a"}], {}, r"row 20: the text 'text' is missing"),
        (
            [*GOOD, {"text": 3, "label": "a"}],
            {},
            r"row 20: the text 'text' must be a string, got 3",
        ),
        ([*GOOD, {"text": "\ud800", "label": "a"}], {}, r"row 20: the text 'text' has a lone surr"),
        ([*GOOD, {"text": "x", "label": None}], {}, r"row 20: the label 'label' is missing"),
        ([*GOOD, {"text": "x", "label": " "}], {}, r"row 20: the label 'label' is missing"),
        ([*GOOD, {"text": "x", "label": float("nan")}], {}, r"row 20: the label 'label' is miss"),
        ([*GOOD, {"text": "x", "label": 0.5}], {}, r"row 20: .* a name or an integer, got 0.5"),
        ([*GOOD, {"text": "x", "label": ["a"]}], {}, r"row 20: .* a name or an integer, got \['a"),
        ([*GOOD, {"label": "a"}], {}, r"row 20: there is no column 'text'"),
        (make_rows({"a": 5, "b": 5}, g=None), {"group": "g"}, r"row 0: the group 'g' is missing"),
        (make_rows({"a": 5, "b": 5}, g=[1]), {"group": "g"}, r"row 0: the group 'g' must be a str"),
        (make_rows({"a": 9, "b": 9}, g=1), {"group": "g"}, "The validation part is empty"),
    ],
)
def test_bad_input_is_refused(rows, options, message):
    with pytest.raises(ValueError, match=message):
        read(rows, **options)


def test_errors_of_a_file_name_the_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\nx,a\ny,\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.csv, line 3: the label 'label' is missing"):
        read(path)
    path.write_text("text,label\nx,a\ny,a\nz,b\nw,typo\nv,b\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"'typo' has 1 \(.*a\.csv, line 5\)"):
        read(path)


# Batches


EXAMPLES = LabeledTexts(
    np.array([f"text {i} 床" for i in range(10)], object), np.arange(10, dtype=np.int32)
)


def epoch(dataset):
    return [
        ([text.decode() for text in texts.tolist()], labels.tolist())
        for texts, labels in dataset.as_numpy_iterator()
    ]


def test_batches_keep_the_order():
    batches = epoch(EXAMPLES.batches(4))
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    assert [text for texts, _ in batches for text in texts] == EXAMPLES.texts.tolist()
    assert [label for _, labels in batches for label in labels] == list(range(10))


def test_shuffled_batches_hold_every_row_once_in_each_epoch():
    dataset = EXAMPLES.batches(4, seed=3)
    first, second = epoch(dataset), epoch(dataset)
    assert int(dataset.cardinality()) == 3
    assert first != second
    for batches in (first, second):
        rows = [pair for texts, labels in batches for pair in zip(texts, labels)]
        assert sorted(rows) == sorted(zip(EXAMPLES.texts, EXAMPLES.labels.tolist()))
    again = EXAMPLES.batches(4, seed=3)
    assert [epoch(again), epoch(again)] == [first, second]


def test_batches_of_pairs():
    examples = LabeledTexts(np.array([["a", "b"], ["c", "d"]], object), np.array([0, 1]))
    ((texts, labels),) = examples.batches(2).as_numpy_iterator()
    assert (texts.tolist(), labels.tolist()) == ([[b"a", b"b"], [b"c", b"d"]], [0, 1])


def test_encoded_batches_are_as_long_as_their_texts():
    def encode(texts):
        longest = max(map(len, texts))
        return np.array([[len(text)] * longest for text in texts])

    examples = LabeledTexts(np.array(["a", "bb", "ccc"], object), np.arange(3))
    dataset = examples.batches(2, encode=encode)
    assert dataset.element_spec[0].shape.as_list() == [None, None]
    ids = [ids.tolist() for ids, _ in dataset.as_numpy_iterator()]
    assert ids == [[[1, 1], [2, 2]], [[3, 3, 3]]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1, got 0"),
        ({"batch_size": 2, "seed": -1}, "`seed` must be"),
    ],
)
def test_bad_batches_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        EXAMPLES.batches(**arguments)


# Training


@pytest.fixture(scope="module")
def data():
    rows = [
        {"text": ("aa" if y == "yes" else "bb") + "c" * i, "label": y}
        for i in range(12)
        for y in ("yes", "no")
    ]
    return read(rows, validation_fraction=0.2, test_fraction=0.2)


@pytest.fixture(scope="module")
def model(data):
    keras.utils.set_random_seed(0)
    tokenizer = CharacterTokenizer("abc")
    config = gk.presets.get("tiny").replace(
        vocabulary_size=6, num_layers=1, hidden_dim=16, max_sequence_length=32, dropout=0.0
    )
    model = gk.GPTClassifier(
        gk.GPTCausalLM(config, tokenizer), class_names=data.class_names, dropout=0.0
    )
    model.compile(keras.optimizers.Adam(0.03), jit_compile=False)
    return model


def test_a_classifier_learns_and_keeps_the_names(data, model):
    model.fit(
        data.train.batches(14, seed=0, encode=model.encode),
        validation_data=data.validation,
        class_weight=data.class_weights,
        epochs=10,
        verbose=0,
    )
    arrays = model.evaluate(*data.test, verbose=0)
    assert arrays[1] == 1
    # The other forms of the same examples give the same loss and accuracy.
    strings = model.evaluate(data.test.batches(5), verbose=0)
    ids = model.evaluate(data.test.batches(5, encode=model.encode), verbose=0)
    np.testing.assert_allclose([strings, ids], [arrays, arrays], rtol=1e-5)
    assert type(model).from_config(model.get_config()).class_names == data.class_names


def test_a_model_of_keras_takes_the_batches(data):
    layer = keras.layers.TextVectorization(split="character", output_mode="multi_hot")
    layer.adapt(data.train.texts.tolist())
    network = keras.Sequential([keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(loss=loss, jit_compile=False)
    batches = data.train.batches(4, seed=0).map(lambda texts, labels: (layer(texts), labels))
    history = network.fit(batches, class_weight=data.class_weights, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    assert isinstance(batches, tf.data.Dataset)
