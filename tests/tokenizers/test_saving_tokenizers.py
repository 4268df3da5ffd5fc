import json

import pytest
from tokenizers import Regex, pre_tokenizers, processors
from tokenizers import Tokenizer as Engine

import gpt_keras.tokenizers as tokenizers


@pytest.fixture(params=["trained", "characters"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def test_a_saved_tokenizer_is_equal(tokenizer, tmp_path):
    file = tokenizer.save(tmp_path / "new" / "folder")
    assert file == tmp_path / "new" / "folder" / "tokenizer.json"
    assert [path.name for path in file.parent.iterdir()] == ["tokenizer.json"]
    for path in (file, str(file), file.parent):
        loaded = tokenizers.load(path)
        assert loaded == tokenizer
        assert loaded.digest() == tokenizer.digest()
        assert loaded.end_of_text_id == tokenizer.end_of_text_id
        text = "As I remember, Adam"
        assert loaded.encode(text) == tokenizer.encode(text)
        assert loaded.decode([tokenizer.end_of_text_id]) == "<|endoftext|>"


def test_a_loaded_tokenizer_takes_the_text_of_a_special_token_as_text(trained, tmp_path):
    loaded = tokenizers.load(trained.save(tmp_path))
    assert loaded.end_of_text_id not in loaded.encode("Adam<|endoftext|>")


def test_a_file_of_ones_own_name(tokenizer, tmp_path):
    file = tokenizer.save(tmp_path / "mine.json")
    assert file == tmp_path / "mine.json"
    assert tokenizers.load(file) == tokenizer


def test_byte_pair_files_are_hugging_faces(trained, tmp_path):
    engine = Engine.from_file(str(trained.save(tmp_path)))
    assert engine.encode("Hello there").ids == trained.encode("Hello there")


def test_files_of_others_are_read_without_their_training_settings(trained, tmp_path):
    engine = Engine.from_str(trained.to_json())
    engine.enable_truncation(2)
    engine.enable_padding(length=10)
    engine.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", trained.end_of_text_id)]
    )
    engine.save(str(tmp_path / "tokenizer.json"))
    loaded = tokenizers.load(tmp_path)
    assert loaded.encode("Hello there") == trained.encode("Hello there")


def test_files_with_another_split_are_read_but_not_put_in_a_graph(trained, tmp_path):
    engine = Engine.from_str(trained.to_json())
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}|\s?\p{L}+|[^\p{N}]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    engine.save(str(tmp_path / "tokenizer.json"))
    loaded = tokenizers.load(tmp_path)
    text = "there are 1234 words.\n" * 2000
    assert loaded.encode(text) == engine.encode(text).ids
    assert loaded.decode(loaded.encode(text)) == text
    assert loaded.safe_cut(text) == 0
    with pytest.raises(ValueError, match="GPT-2's split"):
        loaded.in_graph()


def test_character_files_are_readable(tmp_path):
    file = tokenizers.CharacterTokenizer("a詩").save(tmp_path)
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content == {"type": "CharacterTokenizer", "characters": "a詩", "end_of_text": False}
    assert "詩" in file.read_text(encoding="utf-8")


def test_every_truncated_file_is_refused_by_name(tokenizer, tmp_path):
    whole = tokenizer.save(tmp_path / "tokenizer.json").read_bytes().rstrip()
    file = tmp_path / "cut.json"
    for part in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:part])
        with pytest.raises(ValueError, match=r"cut\.json' is not a tokenizer file"):
            tokenizers.load(file)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"type": "CharacterTokenizer"}',
        b'{"type": "CharacterTokenizer", "characters": "aa", "end_of_text": false}',
        b'{"type": "CharacterTokenizer", "characters": 5, "end_of_text": false}',
        b'{"model": {"type": "BPE"}}',
        b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}',
        b'{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}',
    ],
)
def test_nonsense_is_refused_by_name(content, tmp_path):
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.json' is not a tokenizer file"):
        tokenizers.load(file)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"no tokenizer file .*tokenizer\.json"):
        tokenizers.load(tmp_path)
    with pytest.raises(ValueError, match=r"no tokenizer file .*nowhere"):
        tokenizers.load(tmp_path / "nowhere")
