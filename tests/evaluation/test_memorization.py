"""Copied runs and n-grams against brute force."""

import builtins
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gpt_keras as gk

evaluation = gk.evaluation


def longest_run(text, documents):
    """Length of the longest run of a text that stands in one document, by trying them all."""
    return max(
        (
            end - start
            for start in range(len(text))
            for end in range(start + 1, len(text) + 1)
            if any(text[start:end] in document for document in documents)
        ),
        default=0,
    )


def check(match, text, documents):
    assert match.length == longest_run(text, documents)
    if match.length == 0:
        assert (len(match.match), match.document, match.position) == (0, None, None)
        return
    assert match.match == text[match.start : match.start + match.length]
    found = documents[match.document][match.position : match.position + match.length]
    assert found == match.match


LETTERS = "ab月明𠀀\ud800 "


@given(
    st.lists(st.text(LETTERS, max_size=30), min_size=1, max_size=4).filter(any),
    st.text(LETTERS + "x", max_size=20),
)
@example(["a", "b"], "ab")  # no run crosses from one document to the next
@example(["ab", "", "ba"], "xx")
@settings(max_examples=80, deadline=None)
def test_longest_runs_of_texts(documents, text):
    index = evaluation.TextIndex(documents)
    assert index.num_documents == len(documents)
    assert index.num_symbols == sum(map(len, documents))
    check(index.longest_matches([text])[0], text, documents)


@given(
    st.lists(st.lists(st.integers(0, 3), max_size=20), min_size=1, max_size=3).filter(any),
    st.lists(st.integers(-1, 4), max_size=15),
    st.sampled_from([1, 1000, 100_000]),
)
@settings(max_examples=50, deadline=None)
def test_longest_runs_of_ids(documents, ids, factor):
    # As strings, the rows have the same runs.
    documents = [[factor * i for i in row] for row in documents]
    ids = [factor * i for i in ids]
    index = evaluation.TextIndex(documents)
    [match] = index.longest_matches([np.array(ids, np.int64)])
    as_text = ["".join(chr(500 + i // factor) for i in row) for row in [ids, *map(list, documents)]]
    assert match.length == longest_run(as_text[0], as_text[1:])
    if match.length:
        row = documents[match.document]
        assert tuple(row[match.position : match.position + match.length]) == match.match
        assert tuple(ids[match.start : match.start + match.length]) == match.match


@pytest.mark.parametrize("num_symbols", [253, 254, 255, 256, 70_000])
def test_the_size_of_the_alphabet(num_symbols):
    # One byte, two bytes or four bytes for each symbol: the borders between them.
    generator = np.random.default_rng(0)
    row = generator.permutation(num_symbols)
    index = evaluation.TextIndex([row, row[:50][::-1]])
    [match] = index.longest_matches([[*row[-9:], num_symbols, *row[10:40]]])
    assert (match.length, match.start, match.document, match.position) == (30, 10, 0, 10)


def test_files_of_poems(tmp_path):
    poems = gk.datasets.corpora.load("tang_poems")
    (tmp_path / "poems.txt").write_bytes("".join(poems).replace("\n", "\r\n").encode())
    index = evaluation.TextIndex(tmp_path)
    verse = poems[100].splitlines()[3]
    [match] = index.longest_matches([f"他說:{verse}是一句詩"])
    assert verse in match.match
    assert index.nbytes == pytest.approx(6 * index.num_symbols, rel=0.1)
    # With their line ends, the file has other runs.
    run = "\n".join(poems[100].splitlines()[2:4])
    kept = evaluation.TextIndex(tmp_path, keep_line_ends=True)
    assert index.longest_matches([run])[0].match == run
    assert kept.longest_matches([run])[0].length < len(run)


def test_the_index_of_plays():
    plays = gk.datasets.corpora.load("shakespeare")
    index = evaluation.TextIndex(plays)
    assert index.nbytes == pytest.approx(5 * index.num_symbols, rel=0.01)
    text = "Zounds! " + plays[4][20_000:23_000] + " Zounds!"
    [match] = index.longest_matches([text])
    assert match.length >= 3000
    assert plays[match.document][match.position :].startswith(match.match)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluation.TextIndex([]), "`corpus` must hold at least one character or id"),
        (lambda: evaluation.TextIndex(["", ""]), "at least one character or id, got none"),
        (lambda: evaluation.TextIndex([3.5]), "`corpus` must hold str"),
        (lambda: evaluation.TextIndex([[1], "a"]), "`corpus` must hold only lists of token ids"),
        (lambda: evaluation.TextIndex(["a"]).longest_matches("a"), "`texts` must be several"),
        (lambda: evaluation.TextIndex(["a"]).longest_matches([[1]]), "`texts` must hold strings"),
        (lambda: evaluation.TextIndex([[1]]).longest_matches(["a"]), "must be lists of token ids"),
    ],
)
def test_bad_arguments_of_the_index(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_missing_package_is_named(monkeypatch):
    original = builtins.__import__

    def without(name, *arguments, **settings):
        if name == "pydivsufsort":
            raise ImportError(name)
        return original(name, *arguments, **settings)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pydivsufsort: pip install 'gpt_keras\[evaluation\]'"):
        evaluation.TextIndex(["a"])


# N-grams


def words(text):
    text = re.sub("['’]", "", text.lower())
    text = re.sub(r"[^\w\s]|_", " ", text)
    return re.sub("([一-鿿])", r" \1 ", text).split()


def grams(text, n):
    row = words(text)
    return [" ".join(row[i : i + n]) for i in range(len(row) - n + 1)]


@given(
    st.lists(st.text("aB,明 '", max_size=16), min_size=1, max_size=4),
    st.lists(st.text("Ab.明 \n", max_size=24), max_size=4),
    st.integers(1, 6),
)
@settings(max_examples=80, deadline=None)
def test_ngrams_by_brute_force(test, training, n):
    rows = [grams(text, n) for text in test]
    if not any(rows):
        with pytest.raises(ValueError, match=f"a document of at least n={n} tokens"):
            evaluation.ngram_overlap(test, training, n)
        return
    known = {gram for text in training for gram in grams(text, n)}
    found = evaluation.ngram_overlap(test, training, n)
    for row, document in zip(rows, found.documents, strict=True):
        hits = [gram for gram in row if gram in known]
        assert document == (len(row), len(hits), hits[0] if hits else None)
    dirty = [any(gram in known for gram in row) for row in rows if row]
    assert found.share_of_documents.value == pytest.approx(np.mean(dirty))
    every = [gram in known for row in rows for gram in row]
    assert found.share_of_ngrams.value == pytest.approx(np.mean(every))
    assert found.num_short == sum(not row for row in rows)


def test_a_file_larger_than_a_piece(tmp_path, monkeypatch):
    # The file is read in small pieces: n-grams and words on their borders are found.
    text = " ".join(f"word{i}" for i in range(500)) + "床前明月光疑是地上霜"
    path = tmp_path / "training.txt"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setattr("gpt_keras.corpus.PIECE_BYTES", 7)
    test = [" ".join(f"word{i}" for i in range(300, 330)), "明月光疑是地", "word3 word5"]
    found = evaluation.ngram_overlap(test, path, n=6)
    assert [document.num_found for document in found.documents] == [25, 1, 0]


def test_training_documents_may_be_a_generator():
    plays = gk.datasets.corpora.load("shakespeare")
    line = "To be, or not to be, that is the question: Whether 'tis nobler in the mind to suffer"
    found = evaluation.ngram_overlap([line, "Nothing of this kind " * 5], (p for p in plays))
    joined = " ".join(" ".join(words(play)) for play in plays)
    assert found.documents[0].num_found == sum(gram in joined for gram in grams(line, 13))
    assert found.documents[1].num_found == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluation.ngram_overlap(["a b"], ["a"], n=0), "`n` must be an integer"),
        (lambda: evaluation.ngram_overlap(["a b"], ["a"]), "a document of at least n=13 tokens"),
        (lambda: evaluation.ngram_overlap([3], ["a"]), "`test_corpus` must hold str"),
        (lambda: evaluation.ngram_overlap(["a"], [3], n=1), "`training_corpus` must hold str"),
    ],
)
def test_bad_arguments_of_the_overlap(call, message):
    with pytest.raises(ValueError, match=message):
        call()
