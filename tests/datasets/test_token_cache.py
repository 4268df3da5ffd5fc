import gzip
import hashlib
import json

import numpy as np
import pytest

from gpt_keras.cache import default_cache_dir
from gpt_keras.corpus import digest, read_text
from gpt_keras.datasets import language_modeling, token_cache
from gpt_keras.datasets.token_cache import encode_corpus
from gpt_keras.tokenizers import BytePairTokenizer, CharacterTokenizer
from gpt_keras.tokenizers.cutting import cut_into_pieces

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
    monkeypatch.setattr("gpt_keras.corpus.PIECE_BYTES", piece)
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
    texts = read_text(file, 64)
    pieces = list(cut_into_pieces(texts, tokenizer.safe_cut, 100))
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


# Stored before corpora had a module of their own: digests of the corpus, cache keys for files
# without and with their line ends, and digests of the files in the cache.
STORED = {
    "text": (
        "9200087547c796e833ed7715ccc0dff077b3efddfca390b909e744ca4704e939",
        "527238d03e3c8e9e7592a82a1baccab7e010be0245b031f45a3a3535ec2db850",
        "74e5183b6e3f2bf2ef016f664dc9c8cb70ec52f7adc7e76d71f9e5e3b47cc4de",
        ["bec5cac961f35b0c", "e4a2864e9aeb930a"],
        ["bec5cac961f35b0c", "e4a2864e9aeb930a"],
    ),
    "texts": (
        "cb0eff219a37cdb8b2d3485316d5ecb407c343f18252f4cfcc9f420b17afb119",
        "bf9f3a5f0dfd68cfd893f875bde4247afab5064d7a8d7f2751c20a0bfea9077c",
        "a442af404967832c6d388a1d3191e373c2d8f194c9da49f7e07b0396c7bceeed",
        ["dcb973ee4649c9ec", "9cf671dc2a3f09d3"],
        ["dcb973ee4649c9ec", "9cf671dc2a3f09d3"],
    ),
    "folder": (
        "6d87df21540642d0f5a73519e42a757eb39f4d15494a1a8d046dcbce846c1fb5",
        "28955b0659f4e2fda311bc413228a28763db75b0d4dc50b85ee70e4548c4669e",
        "ff8a176ef26a5430755ea7cd16905d0edf42c9b993b95dbc9c4ef5292807e236",
        ["d68371f8e71bdd4a", "73e86f6beaa6c677"],
        ["798ae822fab527a0", "d26d1811e25c1607"],
    ),
    "mixed": (
        "ce0a69407a334c62cd44e0b057cd9670919998bbaf4b21735e65381ef8003543",
        "ce24301e2501f9c9506f3cecc0079fc1ad590809412a40f95c835e743ec30f2d",
        "910b3e0881de6413c0a061e3c2ede77f91844e48f9d257062a2ae5164f96492f",
        ["7acd9463d799904d", "f931624e1e872deb"],
        ["69b16e99a8b95427", "4e4acf979b61b805"],
    ),
}


@pytest.mark.parametrize("name", STORED)
def test_keys_and_ids_are_those_of_earlier_versions(tmp_path, name):
    characters = {chr(i) for i in range(32, 127)} | set("\n\r\ufeff床前明月光")
    tokenizer = CharacterTokenizer(sorted(characters), end_of_text=True)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_bytes("\ufeffTo be,\r\nor not\rto be\n".encode())
    (folder / "b.md").write_bytes("床前明月光\n".encode())
    (folder / "empty.txt").touch()
    corpus = {
        "text": "To be, or not to be",
        "texts": ["one", "", "two\r\n"],
        "folder": folder,
        "mixed": ["one", folder / "a.txt"],
    }[name]
    expected, *keys_and_files = STORED[name]
    assert digest(corpus) == expected
    for keep in (False, True):
        key, files = keys_and_files[keep], keys_and_files[2 + keep]
        for made in (corpus, iter([corpus] if name in ("text", "folder") else corpus)):
            cache = tmp_path / f"{keep}{type(made).__name__}"
            encode_corpus(made, tokenizer, cache, keep_line_ends=keep)
            found = sorted(cache.iterdir())
            assert [path.name for path in found] == [f"{key}.ends.npy", f"{key}.ids.npy"]
            sums = [hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in found]
            assert sums == files


def test_a_generator_is_read_once_and_piece_by_piece(tmp_path, monkeypatch, tokenizer):
    monkeypatch.setattr(token_cache, "_BATCH_CHARACTERS", 100)
    monkeypatch.setattr(token_cache, "_SMALL_BYTES", 100)
    ahead = []

    def texts():
        for i in range(50):
            ahead.append(i + 1 - getattr(tokenizer, "count", 0))
            yield TEXT

    encoded = encode_corpus(texts(), tokenizer, tmp_path / "a")
    assert len(ahead) == 50
    # Each document is a batch: one is encoded, two wait, and the next ones are being read.
    assert max(ahead) <= 5
    expected = encode_corpus([TEXT] * 50, tokenizer, tmp_path / "b")
    np.testing.assert_array_equal(encoded.ids, expected.ids)
    np.testing.assert_array_equal(encoded.ends, expected.ends)
    names = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in "ab"]
    assert names[0] == names[1]


def test_a_list_finds_the_ids_of_a_generator(tmp_path, tokenizer):
    encode_corpus(({"text": text} for text in [TEXT, "to"]), tokenizer, tmp_path)
    count = tokenizer.count
    encode_corpus([TEXT, "to"], tokenizer, tmp_path)
    assert tokenizer.count == count
    # A generator that raises leaves nothing.
    files = sorted(tmp_path.iterdir())

    def broken():
        yield TEXT
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        encode_corpus(broken(), tokenizer, tmp_path)
    with pytest.raises(ValueError, match="`corpus` holds no text"):
        encode_corpus(iter([""]), tokenizer, tmp_path)
    assert sorted(tmp_path.iterdir()) == files


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.txt.gz"])
@pytest.mark.parametrize("make", [list, iter])
def test_a_damaged_file_leaves_nothing_in_the_cache(tmp_path, name, make):
    lines = json.dumps({"text": TEXT}) + "\n"
    content = lines * 20 + "{"
    if name.endswith(".gz"):
        content = gzip.compress((lines * 20).encode())[:-4]
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    tokenizer = BytePairTokenizer.train(TEXT, 260)
    with pytest.raises(ValueError, match=rf"{name}, line 21: "):
        encode_corpus(make([tmp_path / name]), tokenizer, tmp_path / "cache")
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())
