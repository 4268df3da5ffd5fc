import numpy as np
import pytest

from gpt_keras.cache import default_cache_dir
from gpt_keras.datasets import language_modeling, token_cache
from gpt_keras.datasets.token_cache import encode_corpus
from gpt_keras.tokenizers import BytePairTokenizer, CharacterTokenizer, text_files

TEXT = "to be, or not to be: that is the question\n" * 30


class CountingTokenizer(CharacterTokenizer):
    """Counts the texts it encodes."""

    def encode(self, text):
        self.count = getattr(self, "count", 0) + len(text)
        return super().encode(text)


@pytest.fixture
def tokenizer():
    return CountingTokenizer.train(TEXT, end_of_text=True)


def test_ids_are_those_of_the_documents(tmp_path, tokenizer):
    documents = [TEXT, "question", TEXT[:50]]
    encoded = encode_corpus(documents, tokenizer, tmp_path)
    expected = [[*tokenizer.encode(text), tokenizer.end_of_text_id] for text in documents]
    assert np.split(encoded.ids, encoded.ends[:-1])[1].tolist() == expected[1]
    assert encoded.ids.tolist() == [i for ids in expected for i in ids]
    assert isinstance(encoded.ids, np.memmap)
    assert encoded.ids.dtype == np.uint16
    assert encoded.ends.tolist() == np.cumsum([len(ids) for ids in expected]).tolist()


def test_a_second_call_does_not_encode(tmp_path, tokenizer):
    file = tmp_path / "a.txt"
    file.write_text(TEXT)
    arguments = {"sequence_length": 8, "batch_size": 2, "cache_dir": tmp_path / "cache"}
    first, _ = language_modeling(file, tokenizer, **arguments)
    count = tokenizer.count
    # Neither another split nor another length of windows needs other ids, nor does another file
    # of the same content.
    other = tmp_path / "b.txt"
    other.write_text(TEXT)
    second, _ = language_modeling(other, tokenizer, **arguments)
    language_modeling(other, tokenizer, **arguments | {"sequence_length": 4, "seed": 3})
    assert tokenizer.count == count
    for one, two in zip(first.as_numpy_iterator(), second.as_numpy_iterator()):
        np.testing.assert_array_equal(one, two)


def test_other_content_or_tokenizer_is_another_key(tmp_path, tokenizer):
    encode_corpus([TEXT], tokenizer, tmp_path)
    files = len(list(tmp_path.iterdir()))
    encode_corpus([TEXT, "to"], tokenizer, tmp_path)
    encode_corpus([TEXT + "to"], tokenizer, tmp_path)
    encode_corpus([TEXT], CharacterTokenizer(tokenizer.characters), tmp_path)
    encode_corpus([TEXT], BytePairTokenizer.train(TEXT, 260), tmp_path)
    assert len(list(tmp_path.iterdir())) == 5 * files


def test_a_text_and_a_file_of_the_same_bytes(tmp_path):
    tokenizer = CharacterTokenizer("ab\r\n\ufeff")
    file = tmp_path / "windows.txt"
    file.write_bytes("\ufeffa\r\nb".encode())
    cache = tmp_path / "cache"
    assert encode_corpus(["\ufeffa\r\nb"], tokenizer, cache).ids.tolist() == [4, 0, 2, 3, 1]
    assert encode_corpus([file], tokenizer, cache).ids.tolist() == [0, 3, 1]


def test_a_file_that_changes_is_encoded_again(tmp_path, tokenizer):
    file = tmp_path / "a.txt"
    file.write_text("to be")
    before = encode_corpus([file], tokenizer, tmp_path).ids.tolist()
    file.write_text("be to")
    assert encode_corpus([file], tokenizer, tmp_path).ids.tolist() != before


def test_nothing_is_left_of_a_failure(tmp_path, tokenizer):
    with pytest.raises(ValueError, match="does not know"):
        encode_corpus(["to be", "XYZ"], tokenizer, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_large_vocabulary_gets_four_bytes(tmp_path):
    tokenizer = CharacterTokenizer(map(chr, range(0x10000, 0x10000 + 65537)))
    encoded = encode_corpus(["\U00010000\U00020000"], tokenizer, tmp_path)
    assert encoded.ids.dtype == np.uint32
    assert encoded.ids.tolist() == [0, 65536]


@pytest.mark.parametrize("piece", [1, 7, 100])
def test_long_files_are_encoded_piece_by_piece(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(token_cache, "_READ_BYTES", piece)
    monkeypatch.setattr(token_cache, "_PIECE_CHARACTERS", piece)
    monkeypatch.setattr(token_cache, "_BATCH_CHARACTERS", 3 * piece)
    tokenizer = BytePairTokenizer.train(TEXT, 300)
    texts = ["It's  2 o'clock,\n\n詩 and\r\n\r\n more...   ", TEXT, "x" * 300, " \n " * 50]
    files = []
    for i, text in enumerate(texts):
        files.append(tmp_path / f"{i}.txt")
        files[-1].write_bytes(text.encode())

    def expected(texts):
        return [i for ids in tokenizer.encode(texts) for i in [*ids, tokenizer.end_of_text_id]]

    kept = encode_corpus(files, tokenizer, tmp_path / "cache", keep_line_ends=True)
    assert kept.ids.tolist() == expected(texts)
    # The same files, so the cache must not mix them up.
    normalized = encode_corpus(files, tokenizer, tmp_path / "cache")
    assert normalized.ids.tolist() == expected([text.replace("\r\n", "\n") for text in texts])


def test_pieces_are_short_where_the_text_allows(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text(TEXT)
    tokenizer = BytePairTokenizer.train(TEXT, 300)
    texts = text_files.read_text(file, 64)
    pieces = list(text_files.cut_into_pieces(texts, tokenizer.safe_cut, 100))
    assert "".join(pieces) == TEXT
    assert max(map(len, pieces)) <= 100
    assert len(pieces) < 2.5 * len(TEXT) / 100


def test_a_cache_that_cannot_be_written_names_its_setting(tmp_path, monkeypatch, tokenizer):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"`cache_dir` must be .* variable GPT_KERAS_CACHE"):
            encode_corpus([TEXT], tokenizer, folder)
    monkeypatch.setenv("GPT_KERAS_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match="GPT_KERAS_CACHE"):
        language_modeling(TEXT, tokenizer, sequence_length=8, batch_size=2)


def test_the_default_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("GPT_KERAS_CACHE", str(tmp_path / "x"))
    assert default_cache_dir() == tmp_path / "x"
    monkeypatch.delenv("GPT_KERAS_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache" / "gpt_keras"


def test_progress_is_shown_only_when_asked_for(tmp_path, tokenizer, capsys):
    encode_corpus([TEXT], tokenizer, tmp_path)
    assert capsys.readouterr().out == ""
    encode_corpus([TEXT * 1000, TEXT], tokenizer, tmp_path, verbose=1)
    assert "2/2" in capsys.readouterr().out


def test_a_large_corpus_has_the_same_ids(tmp_path, monkeypatch):
    documents = ["one\n\ntwo  words, 春眠不覺曉", "'tis three\n" * 30]
    (tmp_path / "poem.txt").write_text("處處聞啼鳥 🎉\n" * 20, encoding="utf-8")
    documents.append(tmp_path / "poem.txt")
    tokenizer = BytePairTokenizer.train(documents[1], 300)
    small = encode_corpus(documents, tokenizer, tmp_path / "small")
    # The fast encoder, in batches of several pieces and pieces of several words.
    monkeypatch.setattr(token_cache, "_SMALL_BYTES", 0)
    monkeypatch.setattr(token_cache, "_PIECE_CHARACTERS", 40)
    monkeypatch.setattr(token_cache, "_BATCH_CHARACTERS", 100)
    large = encode_corpus(documents, tokenizer, tmp_path / "large")
    np.testing.assert_array_equal(large.ids, small.ids)
    np.testing.assert_array_equal(large.ends, small.ends)


def test_a_failure_in_a_large_corpus_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(token_cache, "_SMALL_BYTES", 0)
    with pytest.raises(ValueError, match="lone surrogate"):
        encode_corpus(["ab", "a\ud800b"], BytePairTokenizer.train("ab", 257), tmp_path)
    assert list(tmp_path.iterdir()) == []
