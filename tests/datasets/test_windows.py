from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from gpt_keras.datasets import language_modeling
from gpt_keras.tokenizers import CharacterTokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKENIZER = CharacterTokenizer(LETTERS, end_of_text=True)
PLAIN = CharacterTokenizer(LETTERS)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPT_KERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def text_of(length, seed=0):
    return "".join(np.random.default_rng(seed).choice(list(LETTERS), length))


def batches(data):
    return [tuple(array.tolist() for array in batch) for batch in data.as_numpy_iterator()]


def rows(data):
    return [row for inputs, targets in batches(data) for row in zip(inputs, targets)]


def windows_of(ids, length):
    """All windows of a stream, as numpy would cut them."""
    count = (len(ids) - 1) // length
    inputs = np.array(ids[: count * length]).reshape(count, length)
    targets = np.array(ids[1 : count * length + 1]).reshape(count, length)
    return list(zip(inputs.tolist(), targets.tolist()))


def test_one_document_is_cut_into_two_contiguous_parts():
    text = text_of(1000)
    train, validation = language_modeling(
        text, PLAIN, sequence_length=8, batch_size=4, validation_fraction=0.2
    )
    ids = PLAIN.encode(text)
    expected = windows_of(ids[:800], 8)
    assert len(expected) == 99
    assert all(row in expected for row in rows(train))
    assert len(rows(train)) == 96
    assert rows(validation) == windows_of(ids[800:], 8)


def test_windows_are_those_of_the_joined_documents():
    documents = [text_of(50, seed=i) for i in range(10)]
    train, validation = language_modeling(
        documents, TOKENIZER, sequence_length=7, batch_size=1, validation_fraction=0.3, seed=5
    )
    ids = [[*TOKENIZER.encode(document), TOKENIZER.end_of_text_id] for document in documents]
    # Which three documents are for validation is read off the result.
    validation_rows = rows(validation)
    starts = [i for i, document in enumerate(ids) if document[:7] == validation_rows[0][0]]
    chosen = [
        (i, j, k)
        for i in starts
        for j in range(i + 1, 10)
        for k in range(j + 1, 10)
        if windows_of(ids[i] + ids[j] + ids[k], 7) == validation_rows
    ]
    assert len(chosen) == 1
    others = sum((ids[i] for i in range(10) if i not in chosen[0]), [])  # noqa: RUF017
    assert sorted(rows(train)) == sorted(windows_of(others, 7))


@pytest.mark.parametrize("seed", range(5))
def test_splits_share_no_document(seed):
    # Each document is of one letter of its own.
    documents = [letter * (40 + 7 * i) for i, letter in enumerate(LETTERS)]
    train, validation = language_modeling(
        documents, TOKENIZER, sequence_length=4, batch_size=1, validation_fraction=0.25, seed=seed
    )
    end = TOKENIZER.end_of_text_id
    seen = [{i for row in rows(data) for part in row for i in part} for data in (train, validation)]
    assert seen[0] & seen[1] <= {end}
    assert seen[0] | seen[1] == {*range(26), end}
    tokens = [4 * len(rows(data)) for data in (train, validation)]
    assert abs(tokens[1] / sum(tokens) - 0.25) < 0.05


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
def test_each_side_gets_a_document(fraction):
    documents = ["a" * 50, "b" * 50, "c" * 80]
    train, validation = language_modeling(
        documents, PLAIN, sequence_length=4, batch_size=1, validation_fraction=fraction
    )
    assert rows(train)
    assert rows(validation)


def test_the_seed_decides_the_split():
    documents = [letter * 40 for letter in LETTERS]

    def validation_of(seed):
        return rows(
            language_modeling(documents, PLAIN, sequence_length=4, batch_size=1, seed=seed)[1]
        )

    assert validation_of(0) == validation_of(0)
    assert len({str(validation_of(seed)) for seed in range(4)}) > 1


def test_order_is_new_each_epoch_and_the_same_for_the_same_seed():
    def epochs(seed, global_seed):
        keras.utils.set_random_seed(global_seed)
        train, _ = language_modeling(
            text_of(600), PLAIN, sequence_length=4, batch_size=3, seed=seed, validation_fraction=0
        )
        return [rows(train) for _ in range(3)]

    first = epochs(1, 0)
    assert epochs(1, 99) == first
    assert epochs(2, 0) != first
    assert first[0] != first[1] != first[2] != first[0]
    # 149 windows make 49 batches of 3: all different, two left out.
    for epoch in first:
        assert len({str(row) for row in epoch}) == len(epoch) == 147


def test_shapes_types_and_cardinality():
    train, validation = language_modeling(text_of(1000), PLAIN, sequence_length=8, batch_size=4)
    assert train.element_spec == (tf.TensorSpec((4, 8), tf.int32),) * 2
    assert validation.element_spec == (tf.TensorSpec((None, 8), tf.int32),) * 2
    assert int(train.cardinality()) == len(batches(train)) == 112 // 4
    # 100 tokens make 12 windows; one less than fill three batches leaves a smaller one.
    assert int(validation.cardinality()) == len(batches(validation)) == 3
    _, validation = language_modeling(text_of(1000), PLAIN, sequence_length=8, batch_size=5)
    assert [len(inputs) for inputs, _ in batches(validation)] == [5, 5, 2]


def test_no_validation():
    train, validation = language_modeling(
        [text_of(100), text_of(100, 1)], PLAIN, sequence_length=9, batch_size=1,
        validation_fraction=0,
    )  # fmt: skip
    assert validation is None
    assert len(rows(train)) == 22


def test_files_directories_and_texts_are_the_same(tmp_path):
    documents = [text_of(60, i) for i in range(4)]
    folder = tmp_path / "texts"
    (folder / "inner").mkdir(parents=True)
    for name, document in zip(["a.txt", "b.txt", "inner/c.txt", "inner/d.txt"], documents):
        (folder / name).write_text(document)
    (folder / "notes.rst").write_text("not read")
    (folder / "empty.txt").write_text("")

    def data_of(corpus):
        train, validation = language_modeling(corpus, TOKENIZER, sequence_length=5, batch_size=2)
        return rows(train), rows(validation)

    expected = data_of(documents)
    files = [folder / "a.txt", folder / "b.txt", folder / "inner" / "c.txt", documents[3]]
    assert data_of(folder) == expected
    assert data_of([*files, ""]) == expected


def test_fit_and_evaluate_take_it():
    train, validation = language_modeling(text_of(500), PLAIN, sequence_length=4, batch_size=2)
    model = keras.Sequential([keras.layers.Embedding(26, 4), keras.layers.Dense(26)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(train, validation_data=validation, epochs=2, verbose=0, shuffle=False)
    assert len(history.history["val_loss"]) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus": ""}, "`corpus` holds no text"),
        ({"corpus": []}, "`corpus` holds no text"),
        ({"corpus": ["", ""]}, "`corpus` holds no text"),
        ({"corpus": ["a", 3]}, "got 3 of type int as number 1"),
        ({"corpus": 3}, "got 3 of type int"),
        ({"corpus": b"abc"}, "of type bytes"),
        ({"corpus": Path("/no/where.txt")}, r"no file or directory '/no/where\.txt'"),
        (
            {"corpus": "abc"},
            r"has 2 of its 3 tokens, but one batch of 2 windows of 4 tokens needs 9",
        ),
        ({"corpus": "a" * 20}, r"validation part of `corpus` has 2 of its 20 tokens, .* needs 5"),
        ({"batch_size": 1000}, r"one batch of 1000 windows of 4 tokens needs 4001"),
        ({"sequence_length": 0}, "`sequence_length` must be an integer of at least 1, got 0"),
        ({"batch_size": -1}, "`batch_size` must be an integer of at least 1, got -1"),
        ({"batch_size": 1.5}, r"`batch_size` must be an integer .* got 1\.5"),
        ({"validation_fraction": 1}, r"in \[0, 1\), got 1"),
        ({"validation_fraction": -0.1}, r"in \[0, 1\), got -0\.1"),
        ({"seed": -1}, "`seed` must be an integer from 0"),
    ],
)
def test_errors(changes, message):
    arguments = {"corpus": text_of(200), "sequence_length": 4, "batch_size": 2} | changes
    with pytest.raises(ValueError, match=message):
        language_modeling(tokenizer=PLAIN, **arguments)


@pytest.mark.parametrize("offset", [0, 5, 2**20 - 1, 2**20, 2**20 + 7])
def test_bytes_that_are_not_utf8_are_located(tmp_path, offset, cache):
    file = tmp_path / "bad.txt"
    file.write_bytes(b"a" * offset + b"\xff" + b"a" * 10)
    with pytest.raises(ValueError, match=rf"bad\.txt' is not UTF-8 .* offset {offset} "):
        language_modeling(file, PLAIN, sequence_length=4, batch_size=1)
    assert not list(cache.iterdir())


def test_a_character_cut_at_the_end_of_the_file(tmp_path):
    file = tmp_path / "bad.txt"
    file.write_bytes(b"aaa" + "詩".encode()[:2])
    with pytest.raises(ValueError, match="offset 3 "):
        language_modeling(file, PLAIN, sequence_length=4, batch_size=1)
