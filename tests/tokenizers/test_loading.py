"""Tokenizers in files of others, and files that are no tokenizer."""

import itertools
import json
import re
import shutil
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Engine
from tokenizers import pre_tokenizers

import gpt_keras.tokenizers as tokenizers
from gpt_keras.tokenizers import vocabulary_files
from gpt_keras.tokenizers.byte_level import byte_characters

NAMES = [
    ("vocab.json", "merges.txt"),
    ("encoder.json", "vocab.bpe"),
    ("encoder_bpe_40000.json", "vocab_40000.bpe"),
]


@pytest.fixture(scope="module")
def small():
    text = "the theory of the other 詩 詩 詩 is thus: 1984 1984 \n"
    return tokenizers.BytePairTokenizer.train(
        text * 3, 275, special_tokens=("<|endoftext|>", "<p>")
    )


@pytest.fixture(scope="module")
def folder(small, tmp_path_factory):
    """`vocab.json` and `merges.txt` of the small tokenizer; nobody may change them."""
    return small.save_vocabulary(tmp_path_factory.mktemp("vocabulary"))


def copy_of(folder, to, names=NAMES[0]):
    for source, name in zip(NAMES[0], names, strict=True):
        shutil.copyfile(folder / source, to / name)
    return to


def refusal(path):
    """The message of the error, which names the file and is short."""
    with pytest.raises(ValueError, match=re.escape(str(path))) as info:
        tokenizers.load(path)
    message = str(info.value)
    assert len(message) < 700 + len(str(path))
    assert info.value.__cause__ is None  # one error, not a chain of them
    return message


@pytest.mark.parametrize("names", NAMES)
def test_vocabulary_and_merges_are_read_by_all_their_names(small, folder, names, tmp_path):
    copy_of(folder, tmp_path, names)
    assert tokenizers.load(tmp_path) == small
    assert tokenizers.load(str(tmp_path / names[0])) == small


def test_the_files_are_what_others_read(small, folder):
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    assert [*vocabulary.values()] == [*range(small.vocabulary_size)]
    assert vocabulary["<|endoftext|>"] == small.end_of_text_id
    version, *lines, last = (folder / "merges.txt").read_bytes().decode().split("\n")
    assert version == "#version: 0.2"
    assert len(lines) == small.vocabulary_size - 256 - 2
    assert last == ""
    assert sorted(file.name for file in folder.iterdir()) == ["merges.txt", "vocab.json"]


@settings(deadline=None, max_examples=100)
@given(text=st.text())
def test_a_saved_vocabulary_gives_the_same_ids(small, folder, text):
    assert tokenizers.load(folder).encode(text, "all") == small.encode(text, "all")


def test_gpt2_comes_back_with_the_published_ids(gpt2, tmp_path):
    loaded = tokenizers.load(gpt2.save_vocabulary(tmp_path))
    assert loaded == gpt2
    assert loaded.encode("Hello, my dog is cute") == [15496, 11, 616, 3290, 318, 13779]
    assert loaded.special_tokens == {"<|endoftext|>": 50256}
    vocabulary = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    assert (len(vocabulary), vocabulary["<|endoftext|>"]) == (50257, 50256)
    assert vocabulary["Ġthe"] == 262


def test_line_ends_of_windows_and_a_missing_version_make_no_difference(small, folder, tmp_path):
    copy_of(folder, tmp_path)
    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    for text in ("\r\n".join(lines), "\n".join(lines[1:]), "\n".join(lines[1:-1])):
        (tmp_path / "merges.txt").write_bytes(text.encode())
        assert tokenizers.load(tmp_path) == small


def test_a_tokenizer_json_comes_first(folder, characters, tmp_path):
    characters.save(copy_of(folder, tmp_path))
    assert tokenizers.load(tmp_path) == characters


def test_a_vocabulary_of_words_that_end_in_w_is_gpt1s(tmp_path):
    vocabulary = ["<unk>", "l", "o", "w", "w</w>", "lo", "low</w>"]
    merges = "#version: 0.2\nl o\nlo w</w>\n"
    ids = {token: i for i, token in enumerate(vocabulary)}
    (tmp_path / "encoder_bpe_40000.json").write_text(json.dumps(ids), encoding="utf-8")
    (tmp_path / "vocab_40000.bpe").write_text(merges, encoding="utf-8")
    loaded = tokenizers.load(tmp_path)
    assert isinstance(loaded, tokenizers.GPT1Tokenizer)
    assert loaded.encode("Low lo") == [6, 1, 0]


def test_a_byte_level_vocabulary_may_hold_the_text_w(tmp_path):
    merges = [("<", "/"), ("</", "w"), ("</w", ">")]
    tokens = [*byte_characters(), *(first + second for first, second in merges)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = tokenizers.BytePairTokenizer.from_vocabulary(vocabulary, merges)
    assert tokenizers.load(tokenizer.save_vocabulary(tmp_path)) == tokenizer


def vocabulary_of(tokenizer):
    engine = json.loads(tokenizer.to_json())
    merges = [tuple(merge) for merge in engine["model"]["merges"]]
    added = {token["content"]: token["id"] for token in engine["added_tokens"]}
    return engine["model"]["vocab"] | added, merges


def test_from_vocabulary(small):
    vocabulary, merges = vocabulary_of(small)
    make = tokenizers.BytePairTokenizer.from_vocabulary
    assert make(vocabulary, merges) == small
    assert make(vocabulary, merges, special_tokens=["<p>", "<|endoftext|>"]) == small
    one = make(vocabulary, merges, special_tokens=["<p>"])
    assert one.special_tokens == {"<p>": vocabulary["<p>"]}
    # Special tokens may be the first ids, as in SmolLM's vocabulary.
    tokens = sorted(vocabulary, key=vocabulary.get)
    first = make({token: i for i, token in enumerate(tokens[-2:] + tokens[:-2])}, merges)
    assert first.special_tokens == {"<|endoftext|>": 0, "<p>": 1}
    text = "the <p>the"
    assert [i - 2 for i in first.encode(text)] == small.encode(text)
    assert first.in_graph("all")([text]).to_list() == [first.encode(text, "all")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"special_tokens": ["the"]}, "`special_tokens` must be .* but has 'the'"),
        ({"special_tokens": ["<q>"]}, "`special_tokens` must be .* but has '<q>'"),
        ({"special_tokens": "<p>"}, "`special_tokens` must be .* but has '<p?'?"),
        ({"vocabulary": {}}, "the vocabulary must be a table"),
        ({"vocabulary": {"a": 0}}, "merge 1, .* lacks"),
        ({"vocabulary": {"a": 0}, "merges": []}, "must be byte-level BPE .* 1 of the 256 bytes"),
        ({"vocabulary": {"a": 0, "\ud800": 1}}, "valid Unicode"),
        ({"vocabulary": {"a": True}}, "ids must be integers .* 'a' is True"),
    ],
)
def test_from_vocabulary_refuses(small, change, message):
    vocabulary, merges = vocabulary_of(small)
    with pytest.raises(ValueError, match=message):
        tokenizers.BytePairTokenizer.from_vocabulary(
            **{"vocabulary": vocabulary, "merges": merges} | change
        )


@pytest.mark.parametrize(
    ("special_tokens", "end"),
    [
        (("</s>", "<|end_of_text|>", "<|endoftext|>"), "<|endoftext|>"),
        (("</s>", "<|end_of_text|>"), "<|end_of_text|>"),
        (("<s>", "</s>"), "</s>"),
        (("<s>",), None),
    ],
)
def test_the_token_that_ends_a_text_in_vocabularies_of_others(special_tokens, end):
    tokenizer = tokenizers.BytePairTokenizer.train("a", 300, special_tokens=special_tokens)
    assert tokenizer.end_of_text_id == tokenizer.special_tokens.get(end)


def test_bytes_that_a_vocabulary_lacks_are_left_out(small):
    vocabulary, merges = vocabulary_of(small)
    table = byte_characters()
    # "he" is merged; so it is where the byte between them is left out, as in the engine.
    lacking = {table[b] for b in (0x04, 0xF1, *range(0xF5, 0x100))}
    tokens = [t for t in sorted(vocabulary, key=vocabulary.get) if t not in lacking]
    tokenizer = tokenizers.BytePairTokenizer.from_vocabulary(
        {token: i for i, token in enumerate(tokens)}, merges
    )
    texts = ["the\x04ory", "th\x04e the", "\x04", "", "a \x04\x04 b", "詩\U00055555", "ÿ õ"]
    ids = tokenizer.encode(texts)
    assert tokenizer.decode(ids[:5]) == ["theory", "the the", "", "", "a  b"]
    assert tokenizer.decode(ids[6]) == "ÿ õ"
    assert tokenizer.in_graph()(texts).to_list() == ids
    assert tokenizer.vocabulary_size == small.vocabulary_size - len(lacking)


def change_json(tokenizer, change):
    content = json.loads(tokenizer.to_json())
    change(content)
    return tokenizers.BytePairTokenizer.from_json(json.dumps(content))


def test_save_vocabulary_refuses_what_the_format_cannot_hold(small, tmp_path):
    engine = Engine.from_str(small.to_json())
    digits = [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)]
    engine.pre_tokenizer = pre_tokenizers.Sequence(digits)
    split = tokenizers.BytePairTokenizer(engine)
    with pytest.raises(ValueError, match="GPT-2's split"):
        split.save_vocabulary(tmp_path / "new")
    words = change_json(small, lambda content: content["added_tokens"][0].update(special=False))
    with pytest.raises(ValueError, match="GPT-2's split"):
        words.save_vocabulary(tmp_path / "new")
    vocabulary, merges = vocabulary_of(small)
    one = tokenizers.BytePairTokenizer.from_vocabulary(vocabulary, merges, ["<p>"])
    with pytest.raises(ValueError, match="special tokens"):
        one.save_vocabulary(tmp_path / "new")
    stand_in = tokenizers.BytePairTokenizer.train("a", 300, special_tokens=["<Ġ>"])
    with pytest.raises(ValueError, match="'<Ġ>'"):
        stand_in.save_vocabulary(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_no_half_a_vocabulary_is_left(small, folder, tmp_path, monkeypatch):
    before = copy_of(folder, tmp_path).joinpath("vocab.json").read_bytes()

    def fail(*args, **kwargs):
        raise OSError("the disk is full")

    monkeypatch.setattr(vocabulary_files.json, "dumps", fail)
    with pytest.raises(OSError, match="full"):
        small.save_vocabulary(tmp_path)
    with pytest.raises(OSError, match="full"):
        small.save_vocabulary(tmp_path / "new")
    assert (tmp_path / "vocab.json").read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["merges.txt", "new", "vocab.json"]
    assert not [*(tmp_path / "new").iterdir()]


# What is wrong with a vocabulary file, and what the message says.
BAD_VOCABULARIES = {
    "empty": (b"", "it is empty"),
    "blank": (b" \n", "no JSON object"),
    "cut": (b'{"a": 0, "b": 1', "delimiter"),
    "cut in a token": (b'{"a": 0, "b', "Unterminated string"),
    "list": (b'["a", "b"]', r"no JSON object, but begins with '\['"),
    "number": (b"5", "no JSON object"),
    "nested": (b'{"a": [[[]]]}', r"ids must be integers .* 'a' is \[\[\[\]\]\]"),
    "very deep": (b'{"a":' * 100_000, "nested too deeply"),
    "no token": (b"{}", "the vocabulary must be a table"),
    "not UTF-8": (b'{"\xff": 0}', "utf-8"),
    "UTF-16": ('{"a": 0}'.encode("utf-16"), "utf-8"),
    "half a character": (b'{"\\ud800": 0}', "valid Unicode"),
    "same id": (b'{"a": 0, "b": 1, "c": 1}', "'b' and 'c' have the same id 1"),
    "same token": (b'{"a": 0, "b": 1, "a": 2}', "'a' occurs twice"),
    "gap": (b'{"a": 0, "b": 1, "c": 3}', "up to 3 and the id 2 is missing"),
    "from one": (b'{"a": 1, "b": 2}', "id 0 is missing"),
    "huge id": (b'{"a": 0, "b": 123456789012345678901234567890}', "id 1 is missing"),
    "endless id": (b'{"a": ' + b"1" * 5000 + b"}", "digits"),
    "negative": (b'{"a": 0, "b": -1}', "'b' is -1"),
    "fraction": (b'{"a": 0, "b": 1.0}', "'b' is 1.0"),
    "text": (b'{"a": 0, "b": "1"}', "'b' is '1'"),
    "bool": (b'{"a": 0, "b": true}', "'b' is True"),
    "not a number": (b'{"a": NaN}', "'a' is nan"),
    "long token": (b'{"' + b"a" * 100_000 + b'": -1}', r"'aaaaaaaa.*\.\.\. is -1"),
}


@pytest.mark.parametrize("case", BAD_VOCABULARIES)
def test_a_bad_vocabulary_is_refused(folder, tmp_path, case):
    content, expected = BAD_VOCABULARIES[case]
    copy_of(folder, tmp_path)
    (tmp_path / "vocab.json").write_bytes(content)
    assert re.search(expected, refusal(tmp_path / "vocab.json"))
    with pytest.raises(ValueError, match=expected):
        tokenizers.load(tmp_path)


def test_a_vocabulary_of_another_kind_is_refused(folder, tmp_path):
    copy_of(folder, tmp_path)
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1}', encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    assert "byte-level BPE" in refusal(tmp_path / "vocab.json")


BAD_MERGES = {
    "empty": (b"", "it is empty"),
    "one field": (b"#version: 0.2\nt h\nhe\n", "line 3 must be two tokens .* got 'he'"),
    "three fields": (b"#version: 0.2\nt h e\n", "line 2 must be two tokens .* got 't h e'"),
    "two spaces": (b"#version: 0.2\nt  h\n", "line 2 must be two tokens"),
    "space at the end": (b"t h \n", "line 1 must be two tokens"),
    "unknown part": (b"#version: 0.2\nt xyz\n", "merge 1, 't' with 'xyz', needs the token 'xyz'"),
    "unknown result": (b"#version: 0.2\nx q\n", "merge 1, 'x' with 'q', needs the token 'xq'"),
    "not UTF-8": (b"#version: 0.2\n\xff \xff\n", "utf-8"),
    "nonsense": (bytes(range(256)) * 100, "utf-8|two tokens"),
    "JSON": (b'{"a": 0}', "merge 1, .* lacks"),
    "long": (b"t " + b"x" * 100_000, "merge 1, 't' with 'xxx"),
}


@pytest.mark.parametrize("case", BAD_MERGES)
def test_bad_merges_are_refused(folder, tmp_path, case):
    content, expected = BAD_MERGES[case]
    copy_of(folder, tmp_path)
    (tmp_path / "merges.txt").write_bytes(content)
    with pytest.raises(ValueError, match=expected) as info:
        tokenizers.load(tmp_path)
    assert str(tmp_path / "merges.txt") in str(info.value)
    assert len(str(info.value)) < 700


def test_merges_that_end_too_early_are_refused(folder, tmp_path):
    copy_of(folder, tmp_path)
    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    (tmp_path / "merges.txt").write_text("\n".join(lines[:3]), encoding="utf-8")
    assert "made by none of the 2 merges" in refusal(tmp_path / "vocab.json")


@pytest.mark.parametrize("there", itertools.chain(*NAMES))
def test_one_file_without_the_other_is_refused(folder, tmp_path, there):
    (other,) = (set(pair) - {there} for pair in NAMES if there in pair)
    (tmp_path / there).write_bytes(b"{}")
    message = refusal(tmp_path)
    assert there in message
    assert other.pop() in message


def test_a_vocabulary_without_its_merges_is_refused_by_its_own_name(folder, tmp_path):
    shutil.copyfile(folder / "vocab.json", tmp_path / "vocab.json")
    assert "merges.txt" in refusal(tmp_path / "vocab.json")


def test_a_folder_without_any_of_the_files_is_refused(tmp_path):
    message = refusal(tmp_path)
    for name in ("tokenizer.json", *itertools.chain(*NAMES)):
        assert name in message


def bad_json(content, *path_and_value):
    """Sets the value at the end of a path into a `tokenizer.json`."""
    *path, last, value = path_and_value
    for key in path:
        content = content[key]
    content[last] = value


BAD_JSON = {
    "same id": (["model", "vocab", "the", 0], "have the same id 0"),
    "gap": (["model", "vocab", "the", 5000], "is missing"),
    "negative id": (["model", "vocab", "the", -1], "'the' is -1"),
    "fraction": (["model", "vocab", "the", 0.5], "'the' is 0.5"),
    "unknown part": (["model", "merges", 0, ["t", "xyz"]], "needs the token 'xyz'"),
    "unknown part, old form": (["model", "merges", 0, "t xyz"], "needs the token 'xyz'"),
    "three fields": (["model", "merges", 0, "t h e"], "not all pairs"),
    "one field": (["model", "merges", 0, ["t"]], "not all pairs"),
    "merge of numbers": (["model", "merges", 0, [1, 2]], ""),
    "added token beyond": (["added_tokens", 1, "id", 5000], "is missing"),
    "added token at a token's id": (["added_tokens", 1, "id", 5], "have the same id 5"),
    "added tokens changed over": (["added_tokens", "reverse", None], "must have the id"),
    "added token without an id": (["added_tokens", 0, {"content": "<p>"}], "lacks 'id'"),
    "added tokens of a wrong type": (["added_tokens", 5], ""),
    "vocabulary of a wrong type": (["model", "vocab", [["a", 0]]], ""),
    "no vocabulary": (["model", "vocab", {}], "must be a table"),
    "unknown type": (["model", "type", "XPE"], ""),
    "unknown version": (["version", "9.0"], "9.0"),
    "decoder": (["decoder", None], "must be byte-level BPE"),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_a_bad_tokenizer_json_is_refused(small, tmp_path, case):
    change, expected = BAD_JSON[case]
    content = json.loads(small.to_json())
    if "reverse" in change:
        content["added_tokens"].reverse()
    else:
        bad_json(content, *change)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    assert re.search(expected, refusal(tmp_path / "tokenizer.json"))


def test_a_token_that_stands_twice_in_a_tokenizer_json_is_refused(small, tmp_path):
    text = small.to_json().replace('"!": 0,', '"!": 0, "!": 1,')
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    assert "'!' occurs twice" in refusal(tmp_path / "tokenizer.json")


def test_added_tokens_in_the_vocabulary_or_after_it_are_read(small, tmp_path):
    content = json.loads(small.to_json())
    content["model"]["vocab"]["<|endoftext|>"] = small.end_of_text_id
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    loaded = tokenizers.load(tmp_path)
    assert loaded.special_tokens == small.special_tokens
    assert loaded.encode("the <p><|endoftext|>", "all") == small.encode(
        "the <p><|endoftext|>", "all"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "merges.txt", "a.gguf"])
@pytest.mark.parametrize(
    "nonsense",
    [b"[" + b"[]," * 33_000_000 + b"1]", b'{"a": [' + b"{}," * 33_000_000 + b"1]}", bytes(10**8)],
    ids=["list", "object", "bytes"],
)
def test_100_megabytes_of_nonsense_are_refused_in_little_memory(folder, name, nonsense, tmp_path):
    copy_of(folder, tmp_path)
    (tmp_path / name).write_bytes(nonsense)
    path = tmp_path if name == "merges.txt" else tmp_path / name
    tracemalloc.start()
    try:
        refusal(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 300e6


@pytest.mark.slow
@pytest.mark.parametrize("begin", [b"[", b'{"a": ', b"\xff"])
def test_the_largest_files_that_are_read_need_no_gigabytes(tmp_path, begin):
    file = tmp_path / "tokenizer.json"
    file.write_bytes(begin + b"1" * (60_000_000))
    tracemalloc.start()
    try:
        refusal(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 500e6


def loads_or_is_refused(path):
    try:
        tokenizer = tokenizers.load(path)
    except ValueError:
        return
    for text in ("the theory, 1984 詩", "", "<|endoftext|>"):
        tokenizer.decode(tokenizer.encode(text, "all"))
    tokenizer.decode([*range(tokenizer.vocabulary_size)])


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), name=st.sampled_from(["tokenizer.json", "vocab.json", "merges.txt"]))
def test_a_damaged_file_is_refused_or_works(small, folder, tmp_path_factory, data, name):
    damaged = tmp_path_factory.mktemp("damaged")
    if name == "tokenizer.json":
        small.save(damaged)
    else:
        copy_of(folder, damaged)
    content = bytearray((damaged / name).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1), "place")
    if data.draw(st.booleans(), "whether to cut"):
        del content[place:]
    else:
        content[place] = data.draw(st.integers(0, 255), "byte")
    (damaged / name).write_bytes(content)
    loads_or_is_refused(damaged)
    shutil.rmtree(damaged)
