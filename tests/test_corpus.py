"""Documents of a corpus: files that a path stands for, their readers, and errors."""

import bz2
import csv
import gzip
import hashlib
import io
import json
import lzma
import pathlib
import re
import tarfile
import tracemalloc
import warnings
import zipfile
import zlib

import numpy as np
import pytest
import tensorflow as tf

import gpt_keras as gk
from gpt_keras.corpus import Document, digest_and_count, iterate_documents, list_files, read_text


class Series:
    """A pandas Series of strings, as far as the package looks at it."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, object)

    def __len__(self):
        return len(self.values)


def test_a_folder_stands_for_its_visible_text_files(tmp_path):
    wanted = ["B.TXT", "a.txt", "i.txt.gz", "in.d/c.Md", "z.md"]
    hidden = [".c.txt", "._b.txt", ".git/d.txt", "in.d/.e/f.txt"]
    for name in [*wanted, *hidden, "h.pdf", "txt", "j.gz", ".k.csv"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [str(file.relative_to(tmp_path)) for file in list_files(tmp_path)] == wanted
    # A folder that is hidden itself was named on purpose.
    assert len(list_files(tmp_path / ".git")) == 1


def test_an_empty_folder_says_what_was_skipped(tmp_path):
    with pytest.raises(ValueError, match=r"holds no \.txt or \.md files and no tables\.$"):
        list_files(tmp_path)
    for name in (".a.txt", ".b.txt", "c.pdf", "d.pdf", "e.pdf", "f"):
        (tmp_path / name).touch()
    skipped = "(skipped: 3 .pdf, 2 hidden, 1 without a suffix)"
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
        (
            gzip.compress(b"text", mtime=0),
            "gzip-compressed, not UTF-8 text: .*add .gz to its name.*gzip.open",
        ),
        (bz2.compress(b"text"), "bzip2-compressed"),
        (lzma.compress(b"text"), "xz-compressed"),
        ("text".encode("utf-16"), "UTF-16, not UTF-8 text: .*encoding='utf-16'"),
        (b"\xfe\xff" + "text".encode("utf-16-be"), "UTF-16"),
        ("a text".encode("utf-16-le"), "UTF-16 or no text"),
        ("café".encode("latin-1"), r"bad byte at offset 3 in line 1 .*read_text\(encoding"),
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


def everywhere(corpus, with_digest=True):
    """Each function that takes a corpus, given this one.

    The digest of a text file is that of its bytes, even if they are no text.
    """
    tokenizer = gk.tokenizers.CharacterTokenizer(map(chr, range(32, 127)), end_of_text=True)
    ngrams = gk.NGramLM(2, tokenizer).fit("some text")
    data = {"sequence_length": 2, "batch_size": 1}
    return [
        lambda: gk.tokenizers.CharacterTokenizer.train(corpus),
        lambda: gk.tokenizers.BytePairTokenizer.train(corpus, 300),
        lambda: gk.tokenizers.GPT1Tokenizer.train(corpus, 300),
        lambda: gk.datasets.language_modeling(corpus, tokenizer, **data),
        *[lambda: gk.datasets.digest(corpus)] * with_digest,
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
        gk.tokenizers.BytePairTokenizer.train(
            (name for name in ("no.txt", "none.csv", "none.jsonl.gz")), 300
        )
    with pytest.raises(ValueError, match="is the name"):
        gk.datasets.digest([tmp_path / "book", "book"])


def test_texts_that_are_no_names_stay_texts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book").touch()
    for corpus in (["book", "a book"], ".", "..", "I read it in book.txt", "a.b", "x" * 2000, "/"):
        texts = [corpus] if isinstance(corpus, str) else corpus
        assert list(iterate_documents(corpus)) == [Document(text) for text in texts]
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


def json_lines(texts, field="text"):
    return "".join(json.dumps({"id": i, field: text}) + "\n" for i, text in enumerate(texts))


def delimited(texts, delimiter):
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter).writerows([("id", "text"), *enumerate(texts)])
    return file.getvalue()


def write(path, content):
    """Write a file of any known suffix; `content` is a list of texts for a table."""
    suffixes = path.name.removesuffix(".gz")
    if isinstance(content, list):
        if suffixes.endswith(".parquet"):
            pyarrow = pytest.importorskip("pyarrow")
            parquet = pytest.importorskip("pyarrow.parquet")
            parquet.write_table(pyarrow.table({"text": content}), path)
            return path
        if suffixes.endswith((".csv", ".tsv")):
            content = delimited(content, "," if suffixes.endswith(".csv") else "\t")
        elif suffixes.endswith(".json"):
            content = json.dumps([{"text": text} for text in content])
        else:
            content = json_lines(content)
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


TEXTS = ["To be, or not to be", "床前明月光\r\n疑是地上霜", 'He said "no"', "one\ttwo, three"]
TABLES = ["csv", "tsv", "json", "jsonl", "ndjson", "parquet"]
COMPRESSED = [f"{suffix}.gz" for suffix in TABLES if suffix != "parquet"]


@pytest.mark.parametrize("suffix", [*TABLES, *COMPRESSED, "JSONL.gz"])
def test_each_row_of_a_table_is_a_document(tmp_path, suffix):
    file = write(tmp_path / f"a.{suffix}", TEXTS)
    assert [document.text() for document in iterate_documents(file)] == TEXTS
    assert digest_and_count(file) == (gk.datasets.digest(TEXTS), len(TEXTS))
    # Line ends in rows are not changed.
    for keep in (False, True):
        trained = gk.tokenizers.CharacterTokenizer.train(file, keep_line_ends=keep)
        assert trained == gk.tokenizers.CharacterTokenizer.train(TEXTS)


def test_rows_in_every_function(tmp_path):
    file = write(tmp_path / "a.jsonl.gz", json_lines(["some text", "more text"], "body"))
    tokenizer = gk.tokenizers.CharacterTokenizer.train(file, end_of_text=True, field="body")
    texts = ["some text", "more text"]
    assert tokenizer == gk.tokenizers.CharacterTokenizer.train(texts, end_of_text=True)
    for kind in (gk.tokenizers.BytePairTokenizer, gk.tokenizers.GPT1Tokenizer):
        assert kind.train(file, 270, field="body") == kind.train(texts, 270)
    ngrams = gk.NGramLM(2, tokenizer).fit(file, field="body")
    perplexity = ngrams.perplexity(texts)
    assert ngrams.perplexity(file, field="body") == perplexity
    assert gk.evaluation.perplexity(ngrams, file, field="body").perplexity == perplexity
    assert gk.datasets.digest(file, "body") == gk.datasets.digest(texts)
    found = gk.evaluation.ngram_overlap(file, texts, n=2, field="body")
    assert found.share_of_documents.value == 1
    data = {"sequence_length": 2, "batch_size": 1, "cache_dir": tmp_path / "cache"}
    pairs = [
        gk.datasets.language_modeling(corpus, tokenizer, field="body", **data)[0]
        for corpus in (file, texts)
    ]
    for one, two in zip(*(pair.as_numpy_iterator() for pair in pairs), strict=True):
        np.testing.assert_array_equal(one, two)
    assert len(list((tmp_path / "cache").iterdir())) == 2  # ids and ends: the same for both


def test_a_compressed_text_file_is_the_same_document(tmp_path):
    content = b"\xef\xbb\xbfone\r\ntwo\n" * 1000
    files = [write(tmp_path / name, content) for name in ("a.txt", "a.txt.gz", "a.gz", "a.log.gz")]
    texts = {document.text() for file in files for document in iterate_documents(file)}
    assert len(texts) == 1
    assert len({gk.datasets.digest(file) for file in files}) == 1
    for file in files:
        (document,) = iterate_documents(file)
        assert document.digest() == (hashlib.sha256(content).digest(), len(content))


def test_rows_and_texts_in_any_container(tmp_path):
    pandas = pytest.importorskip("pandas")
    texts = ["some text", "more of it", "and more"]
    rows = [{"text": text, "label": i} for i, text in enumerate(texts)]
    file = write(tmp_path / "a.jsonl", texts)
    digest = gk.datasets.digest(texts)
    tokenizer = gk.tokenizers.CharacterTokenizer.train(rows, end_of_text=True)
    perplexity = gk.NGramLM(2, tokenizer).fit(texts).perplexity(texts)
    for corpus in (rows, pandas.DataFrame(rows), file):
        assert gk.NGramLM(2, tokenizer).fit(corpus).perplexity(corpus) == perplexity
    for corpus in (
        rows,
        iter(rows),
        (row for row in rows),
        gk.records.read_rows(file),
        pandas.DataFrame(rows),
        pandas.DataFrame(rows)["text"],
        [texts[0], rows[1], {"text": texts[2].encode()}],
        [file],
        (path for path in [file]),
        tf.data.Dataset.from_tensor_slices(texts),
    ):
        assert gk.datasets.digest(corpus) == digest


def test_a_folder_of_tables_and_a_folder_of_both(tmp_path):
    for name in ("b.jsonl", "in.d/a.csv.gz", "c.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, [name])
    (tmp_path / "notes.pdf").touch()
    found = [document.text() for document in iterate_documents(tmp_path)]
    assert found == ["b.jsonl", "c.parquet", "in.d/a.csv.gz"]
    (tmp_path / "a.md").write_text("some text")
    told = r"holds 1 text files, which are read, and tables \(1 \.jsonl, 1 \.parquet, 1 \.csv\)"
    with pytest.warns(UserWarning, match=told):
        assert [document.text() for document in iterate_documents(tmp_path)] == ["some text"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gk.datasets.digest(tmp_path / "a.md") == gk.datasets.digest("some text")


def test_documents_without_text(tmp_path):
    texts = ["", "one", "", "two", ""]
    empty = write(tmp_path / "empty.txt.gz", "")
    for corpus in (texts, [*texts, empty], write(tmp_path / "a.jsonl", texts)):
        assert [document.text() for document in iterate_documents(corpus)] == ["one", "two"]
    assert len(list(iterate_documents(texts, keep_empty=True))) == 5
    for corpus in (empty, write(tmp_path / "b.jsonl", [""]), write(tmp_path / "c.csv", [])):
        for call in everywhere(corpus):
            with pytest.raises(ValueError, match=rf"`corpus` holds no text: .*{corpus.name}"):
                call()


def cut(data):
    return data[: len(data) // 2]


def changed(data):
    middle = len(data) // 2
    return data[:middle] + bytes(32) + data[middle + 32 :]


# Lines that do not compress well, so that half of an archive holds many of them.
RANDOM_LINES = np.random.default_rng(0).bytes(30_000).hex("\n", 20) + "\n"


def random_archive(file, change):
    """Write a damaged archive, and return the number of lines before the damage."""
    content = RANDOM_LINES
    if file.name == "a.jsonl.gz":
        content = json_lines(RANDOM_LINES.split())
    elif file.name == "a.csv.gz":
        content = delimited(RANDOM_LINES.split(), ",")
    file.write_bytes(change(gzip.compress(content.encode())))
    # The reference is zlib, a byte at a time.
    engine, found = zlib.decompressobj(wbits=31), b""
    for i in file.read_bytes():
        try:
            found += engine.decompress(bytes([i]))
        except zlib.error:
            break
    return found.count(b"\n")


@pytest.mark.parametrize("suffix", ["txt", "jsonl", "csv"])
@pytest.mark.parametrize("change", [cut, lambda data: data[:-8] + bytes(8)])
def test_a_damaged_archive_is_an_error_with_its_line(tmp_path, suffix, change):
    file = tmp_path / f"a.{suffix}.gz"
    lines = random_archive(file, change)
    for call in everywhere(file):
        with pytest.raises(ValueError, match=rf"a\.{suffix}\.gz, line {lines + 1}: .*damaged"):
            call()


@pytest.mark.parametrize("suffix", ["txt", "jsonl", "csv"])
def test_a_changed_archive_is_an_error_with_a_line(tmp_path, suffix):
    # What is found first depends on what the changed bytes decompress to.
    file = tmp_path / f"a.{suffix}.gz"
    random_archive(file, changed)
    for call in everywhere(file):
        with pytest.raises(ValueError, match=rf"a\.{suffix}\.gz'?,? .*line \d+"):
            call()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "a"}\n\n{"text": \n', r"a\.jsonl, line 3: broken JSON"),
        ("a.jsonl.gz", '{"text": "a"}\n\n{"text": \n', r"a\.jsonl\.gz, line 3: broken JSON"),
        ("a.jsonl", '{"text": "a"}\n"b"\n', r"line 2: a row must be a JSON object"),
        ("a.json.gz", '[{"text": "a"},\n{"text"}]', r"a\.json\.gz, line 2: broken JSON"),
        ("a.csv", 'id,text\n"1\n1",a\n2\n', r"a\.csv, line 4: the row has 1 fields"),
        ("a.csv.gz", 'id,text\n1,"a\n', r"a\.csv\.gz, line 2: the row .* is broken"),
        ("a.jsonl.gz", b'{"text": "a"}\n{"text": "\xe9"}\n', r"line 2: the byte 0xe9 is not UTF-8"),
        ("a.csv", b"text\na\n\xe9\n", r"a\.csv, line 3: the byte 0xe9 is not UTF-8"),
        ("a.txt", b"a\nb\nc\xe9\n", r"a\.txt' is not UTF-8.* offset 5 in line 3"),
        ("a.md.gz", b"a\nb\nc\xe9\n", r"a\.md\.gz' .*in line 3 .*`gzip\.open\(path, 'rt', enc"),
        ("a.jsonl", '{"text": "a"}\n{"text": null}\n', r"line 2: there is no text in .*read_rows"),
        ("a.csv", "id,text\n1,a\n2,\n", r"a\.csv, line 3: there is no text in the column 'text'"),
        ("a.jsonl", '{"text": "a"}\n{"text": 3}\n', r"line 2: .* must hold strings, got 3 of type"),
        ("a.jsonl", '{"text": "a"}\n{"text": "\\ud800"}', r"line 2: .*lone surrogate"),
        ("a.csv", "id,body\n1,a\n", r"no column 'text'\. The row has 'id', 'body'\. `field` names"),
        (
            "a.jsonl",
            '{"text": "a"}\n{"body": "b"}\n',
            r"line 2: there is no column 'text'.*`field`",
        ),
        ("a.parquet.gz", "PAR1", r"cannot be a parquet file in \.gz.*: unpack .*a\.parquet\.gz"),
        ("a.txt.gz", "text".encode("utf-16"), r"a\.txt\.gz' is UTF-16, not UTF-8 text"),
    ],
)
def test_a_broken_line_is_an_error_with_its_line(tmp_path, name, content, message):
    file = write(tmp_path / name, content)
    for corpus in (file, [file], iter([file])):
        with pytest.raises(ValueError, match=message):
            gk.tokenizers.BytePairTokenizer.train(corpus, 300)
    for call in everywhere(file, with_digest=not name.startswith(("a.txt", "a.md"))):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("data", [b"plain text", b"PK\x03\x04"])
def test_a_file_that_is_no_archive(tmp_path, data):
    (tmp_path / "a.txt.gz").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.txt\.gz, line 1: .*damaged.*remove \.gz"):
        gk.datasets.digest(tmp_path / "a.txt.gz")


def test_a_tar_archive_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("some text")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "a.txt", "a.txt")
    with pytest.raises(ValueError, match=r"a\.tar\.gz' is a tar archive"):
        gk.tokenizers.CharacterTokenizer.train(tmp_path / "a.tar.gz")


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ([{"text": "a"}, {"body": "b"}], r"`corpus`, row 1: there is no column 'text'"),
        ([{"text": "a"}, {"text": None}], r"`corpus`, row 1: there is no text in the column"),
        ([{"text": "a"}, {"text": ["b"]}], r"`corpus`, row 1: .* got \['b'\] of type list"),
        (["a", 3], r"`corpus` must hold str \(text\), pathlib.Path .* or rows .*3 .* number 1"),
    ],
)
def test_other_entries_are_refused(corpus, message):
    for make in (list, iter):
        with pytest.raises(ValueError, match=message):
            gk.datasets.digest(make(corpus))


def test_frames_and_datasets_that_are_refused():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"`corpus`: there is no column 'text'.*'body'"):
        gk.datasets.digest(pandas.DataFrame({"body": ["a"]}))
    with pytest.raises(ValueError, match="got nan of type float as number 1"):
        gk.datasets.digest(pandas.DataFrame({"text": ["a", float("nan")]}))
    with pytest.raises(ValueError, match="`corpus` must end, got an endless dataset"):
        gk.datasets.digest(tf.data.Dataset.from_tensors("a").repeat())
    with pytest.raises(ValueError, match="`field` must be the name of a column, got 3"):
        gk.datasets.digest("a", field=3)


def test_old_names_of_arguments_name_the_new_one():
    ngrams = gk.NGramLM(1, gk.tokenizers.CharacterTokenizer("ab")).fit("ab")
    for call in (
        lambda: gk.tokenizers.CharacterTokenizer.train(texts_or_paths="ab"),
        lambda: gk.tokenizers.BytePairTokenizer.train(texts_or_paths="ab", vocabulary_size=300),
        lambda: gk.tokenizers.GPT1Tokenizer.train(texts_or_paths="ab", vocabulary_size=300),
        lambda: gk.evaluation.perplexity(ngrams, documents="ab"),
    ):
        with pytest.raises(TypeError, match="is now called `corpus`"):
            call()


def test_a_large_archive_is_not_read_whole(tmp_path):
    # 20 MB of text in 20,000 rows.
    with gzip.open(tmp_path / "a.jsonl.gz", "wt", compresslevel=1) as file:
        for i in range(20_000):
            file.write(json.dumps({"text": f"{i} " + "to be or not " * 80}) + "\n")
    with gzip.open(tmp_path / "b.txt.gz", "wt", compresslevel=1) as file:
        for i in range(20_000):
            file.write(f"{i} " + "to be or not " * 80 + "\n")
    for name, most in (("a.jsonl.gz", 1e6), ("b.txt.gz", 8e6)):
        tracemalloc.start()
        _, count = digest_and_count(tmp_path / name)
        size = sum(
            len(piece)
            for document in iterate_documents(tmp_path / name)
            for piece in document.pieces()
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == (20_000 if name == "a.jsonl.gz" else 1)
        assert size > 20e6
        assert peak < most


def test_paths_of_any_type(tmp_path):
    class Own:
        def __fspath__(self):
            return str(tmp_path / "a.jsonl")

    write(tmp_path / "a.jsonl", ["some text"])
    for path in (Own(), pathlib.PurePosixPath(tmp_path / "a.jsonl")):
        for corpus in (path, [path], (p for p in [path])):
            assert gk.datasets.digest(corpus) == gk.datasets.digest(["some text"])
