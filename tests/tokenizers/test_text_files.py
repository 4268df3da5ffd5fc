"""Which files a path stands for, how they are read, and what is no text file."""

import bz2
import gzip
import lzma
import re
import zipfile

import numpy as np
import pytest
import tensorflow as tf

import gpt_keras as gk
from gpt_keras.tokenizers.text_files import corpus_entries, list_text_files, read_text


class Series:
    """A pandas Series of strings, as far as the package looks at it."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, object)

    def __len__(self):
        return len(self.values)


def test_a_folder_stands_for_its_visible_text_files(tmp_path):
    wanted = ["B.TXT", "a.txt", "in.d/c.Md", "z.md"]
    hidden = [".c.txt", "._b.txt", ".git/d.txt", "in.d/.e/f.txt"]
    for name in [*wanted, *hidden, "g.csv", "h.pdf", "txt", "i.txt.gz"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [str(file.relative_to(tmp_path)) for file in list_text_files(tmp_path)] == wanted
    # A folder that is hidden itself was named on purpose.
    assert len(list_text_files(tmp_path / ".git")) == 1


def test_an_empty_folder_says_what_was_skipped(tmp_path):
    with pytest.raises(ValueError, match=r"holds no \.txt or \.md files\.$"):
        list_text_files(tmp_path)
    for name in (".a.txt", ".b.txt", "c.csv", "d.csv", "e.csv", "f"):
        (tmp_path / name).touch()
    skipped = "(skipped: 3 .csv, 2 hidden, 1 without a suffix)"
    with pytest.raises(ValueError, match=re.escape(skipped)):
        gk.tokenizers.BytePairTokenizer.train(tmp_path, 300)


@pytest.mark.parametrize("piece", [1, 2, 3, 100])
@pytest.mark.parametrize("keep", [False, True])
def test_line_ends_and_byte_order_marks(tmp_path, piece, keep):
    text = "one\r\ntwo\rthree\n\r\n\r\r\n詩\ufeff\r"
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    expected = text if keep else text.replace("\r\n", "\n").replace("\r", "\n")
    assert "".join(read_text(file, piece, keep_line_ends=keep)) == expected


def test_line_ends_everywhere(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"ab\r\nab\r\n" * 20)
    tokenizer = gk.tokenizers.CharacterTokenizer
    assert tokenizer.train(file).characters == "\nab"
    assert tokenizer.train(file, keep_line_ends=True).characters == "\n\rab"
    for kind in (gk.tokenizers.BytePairTokenizer, gk.tokenizers.GPT1Tokenizer):
        assert kind.train(file, 270) == kind.train("ab\nab\n" * 20, 270)
    tokens = gk.tokenizers.BytePairTokenizer.train(file, 270, keep_line_ends=True)
    assert tokens == gk.tokenizers.BytePairTokenizer.train("ab\r\nab\r\n" * 20, 270)
    ngrams = gk.NGramLM(1, tokenizer.train("ab\r\n")).fit("ab\r\n")
    data = {"sequence_length": 4, "batch_size": 2, "validation_fraction": 0}
    for keep, length in ((False, 120), (True, 160)):
        result = gk.evaluation.perplexity(ngrams, file, keep_line_ends=keep)
        assert result.num_tokens == length - 1
        train, _ = gk.datasets.language_modeling(
            file, ngrams.tokenizer, keep_line_ends=keep, cache_dir=tmp_path / "cache", **data
        )
        assert int(train.cardinality()) == (length - 1) // 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"text", mtime=0), "gzip-compressed, not UTF-8 text: .*gzip.open"),
        (bz2.compress(b"text"), "bzip2-compressed"),
        (lzma.compress(b"text"), "xz-compressed"),
        ("text".encode("utf-16"), "UTF-16, not UTF-8 text: .*encoding='utf-16'"),
        (b"\xfe\xff" + "text".encode("utf-16-be"), "UTF-16"),
        ("a text".encode("utf-16-le"), "UTF-16 or no text"),
        ("café".encode("latin-1"), r"bad byte at offset 3 .*read_text\(encoding"),
    ],
)
def test_other_formats_are_named(tmp_path, content, message):
    file = tmp_path / "a.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.txt' is .*{message}"):
        gk.tokenizers.CharacterTokenizer.train(file)


def test_a_zip_archive_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(ValueError, match="zip archive"):
        "".join(read_text(tmp_path / "a.docx"))


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.jsonl", "a.json", "a.parquet"])
def test_tables_are_refused(tmp_path, name):
    (tmp_path / name).write_text("text,label\nhello,1\n" * 50)
    for corpus in (tmp_path / name, [tmp_path / name]):
        with pytest.raises(ValueError, match=r"records, not plain text.*one field"):
            gk.tokenizers.BytePairTokenizer.train(corpus, 300)
        with pytest.raises(ValueError, match="records, not plain text"):
            gk.datasets.digest(corpus)


def everywhere(corpus):
    """Each function that takes a corpus, given this one."""
    tokenizer = gk.tokenizers.CharacterTokenizer(map(chr, range(32, 127)), end_of_text=True)
    ngrams = gk.NGramLM(2, tokenizer).fit("some text")
    data = {"sequence_length": 2, "batch_size": 1}
    return [
        lambda: gk.tokenizers.CharacterTokenizer.train(corpus),
        lambda: gk.tokenizers.BytePairTokenizer.train(corpus, 300),
        lambda: gk.tokenizers.GPT1Tokenizer.train(corpus, 300),
        lambda: gk.datasets.language_modeling(corpus, tokenizer, **data),
        lambda: gk.datasets.digest(corpus),
        lambda: gk.evaluation.perplexity(ngrams, corpus),
        lambda: gk.NGramLM(2, tokenizer).fit(corpus),
        lambda: ngrams.perplexity(corpus),
    ]


def test_the_name_of_a_file_is_not_taken_for_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book").write_text("a whole book")
    (tmp_path / "texts").mkdir()
    for corpus in ("book", "texts", str(tmp_path / "book"), ["book", "texts"]):
        name = corpus if isinstance(corpus, str) else corpus[0]
        for call in everywhere(corpus):
            with pytest.raises(ValueError, match=r"is the name.*did you mean") as error:
                call()
            assert f"pathlib.Path({name!r})" in str(error.value)
    with pytest.raises(ValueError, match="looks like the name of a file"):
        gk.tokenizers.BytePairTokenizer.train((name for name in ["no.txt", "none.csv"]), 300)
    with pytest.raises(ValueError, match="is the name"):
        gk.datasets.digest([tmp_path / "book", "book"])


def test_texts_that_are_no_names_stay_texts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book").touch()
    for corpus in (["book", "a book"], ".", "..", "I read it in book.txt", "a.b", "x" * 2000, "/"):
        assert (
            list(corpus_entries("corpus", corpus)) == [corpus]
            if isinstance(corpus, str)
            else [*corpus]
        )
    for call in everywhere(["book", "more text"]):
        call()


def test_the_same_texts_in_any_container():
    texts = ["some text", "more of it", "and more"]

    digest = gk.datasets.digest(texts)
    characters = gk.tokenizers.CharacterTokenizer.train(texts, end_of_text=True)
    ngrams = gk.NGramLM(2, characters).fit(texts)
    perplexity = ngrams.perplexity(texts)
    for make in (
        tuple,
        iter,
        np.array,
        lambda texts: np.array(texts, object),
        Series,
        tf.constant,
        lambda texts: tf.data.Dataset.from_tensor_slices(texts).batch(2),
        lambda texts: (text for text in texts),
        lambda texts: [text.encode() for text in texts],
    ):
        assert gk.datasets.digest(make(texts)) == digest
        trained = gk.tokenizers.CharacterTokenizer.train(make(texts), end_of_text=True)
        assert trained == characters
        assert gk.NGramLM(2, characters).fit(make(texts)).perplexity(make(texts)) == perplexity
        assert gk.evaluation.perplexity(ngrams, make(texts)).perplexity == pytest.approx(perplexity)
    assert gk.datasets.digest(tf.constant("some text")) == gk.datasets.digest("some text")
    for wrong in ({"text": texts}, {"a"}, 3, b"text", [3], [texts], None, np.array([[1.5]])):
        with pytest.raises(ValueError, match=r"`corpus` must .*, got "):
            gk.datasets.digest(wrong)
