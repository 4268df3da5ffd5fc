"""The tokenizer in a GGUF file, written here with the `gguf` package."""

import io
import os
import shutil
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Engine

import gpt_keras.tokenizers as tokenizers
from gpt_keras.gguf_file import read_header
from gpt_keras.tokenizers.byte_level import byte_characters

SPECIAL = ["<|endoftext|>", "<|im_start|>"]
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4

TEXTS = [
    "the theory, in 1984: 詩 詩 12345 ½²\n",
    "It's  what they'LL say\t\t \r\n\r\n (there...)  7 ",
    "cafe\u0301 naïve Ångström",
    "<|im_start|>the<|endoftext|>",
    "",
]


@pytest.fixture(scope="module")
def small():
    text = "the theory of the other 詩 詩 詩 is thus: 1984 1984 caf\u00e9 they'll \n"
    return tokenizers.BytePairTokenizer.train(text * 3, 280, special_tokens=SPECIAL)


def engine_of(tokenizer):
    engine = Engine.from_str(tokenizer.to_json())
    engine.encode_special_tokens = True
    return engine


def contents(tokenizer, **changes):
    """The metadata that llama.cpp's converters write for a tokenizer."""
    tokens = sorted(engine_of(tokenizer).get_vocab().items(), key=lambda item: item[1])
    tokens = [token for token, _ in tokens]
    merges = [" ".join(merge) for merge in tokenizer._merges]
    types = [CONTROL if token in tokenizer.special_tokens else NORMAL for token in tokens]
    return {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": tokens,
        "token_type": types,
        "merges": merges,
    } | changes


def write(path, metadata, tensors=True):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_array("general.languages", ["en", "zh"])
    writer.add_float32("llama.rope.freq_base", 100000.0)
    for name, value in metadata.items():
        key = f"tokenizer.ggml.{name}"
        if value is None:
            continue
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        else:
            writer.add_uint32(key, value)
    if tensors:
        writer.add_tensor("token_embd.weight", np.ones((300, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def check_equal(tokenizer, engine):
    """The ids are those of an engine that was put together by hand."""
    assert tokenizer.encode(TEXTS) == [engine.encode(text).ids for text in TEXTS]


def test_gpt2s_split(small, tmp_path):
    for pre in ("gpt-2", "default", None):
        loaded = tokenizers.load(write(tmp_path / "a.gguf", contents(small, pre=pre)))
        assert loaded == small
        assert loaded.special_tokens == small.special_tokens
        assert loaded.encode(TEXTS[3]) == small.encode(TEXTS[3])
        start, end = small.special_tokens["<|im_start|>"], small.end_of_text_id
        assert loaded.encode(TEXTS[3], "all") == [start, *small.encode("the"), end]


def test_the_name_of_the_file_does_not_matter(small, tmp_path):
    assert tokenizers.load(write(tmp_path / "model.bin", contents(small))) == small


def test_single_digits(small, tmp_path):
    loaded = tokenizers.load(write(tmp_path / "a.gguf", contents(small, pre="smollm")))
    engine = engine_of(small)
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    check_equal(loaded, engine)
    assert loaded.encode("1984") == [i for digit in "1984" for i in loaded.encode(digit)]
    assert loaded.encode("1984") != small.encode("1984")
    assert loaded.in_graph()(TEXTS).to_list() == loaded.encode(TEXTS)
    assert loaded.in_graph("all")(TEXTS).to_list() == loaded.encode(TEXTS, "all")


# As the models' tokenizer.json files have them.
EXPRESSIONS = {
    "llama-bpe": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


@pytest.mark.parametrize("pre", EXPRESSIONS)
def test_splits_by_an_expression(small, tmp_path, pre):
    loaded = tokenizers.load(write(tmp_path / "a.gguf", contents(small, pre=pre)))
    engine = engine_of(small)
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(EXPRESSIONS[pre]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    if pre == "qwen2":
        engine.normalizer = normalizers.NFC()
    check_equal(loaded, engine)
    for text in TEXTS:
        if pre == "llama-bpe":
            assert loaded.decode(loaded.encode(text)) == text
    assert tokenizers.load(loaded.save(tmp_path)) == loaded
    with pytest.raises(ValueError, match="GPT-2's split"):
        loaded.in_graph()


def test_llama_takes_words_that_are_tokens_without_their_merges(small, tmp_path):
    metadata = contents(small)
    metadata["tokens"] = [*metadata["tokens"], "zzz"]
    metadata["token_type"] = [*metadata["token_type"], NORMAL]
    for pre, ids in (
        ("llama-bpe", [small.vocabulary_size]),
        ("gpt-2", small.encode("zzz")),
    ):
        loaded = tokenizers.load(write(tmp_path / "a.gguf", metadata | {"pre": pre}))
        assert loaded.encode("zzz") == ids


def test_user_defined_tokens_are_found_in_every_text(small, tmp_path):
    metadata = contents(small)
    metadata["token_type"][-1] = USER_DEFINED  # <|im_start|>
    loaded = tokenizers.load(write(tmp_path / "a.gguf", metadata))
    assert loaded.special_tokens == {"<|endoftext|>": small.end_of_text_id}
    start = small.special_tokens["<|im_start|>"]
    assert loaded.encode("<|im_start|>the") == [start, *small.encode("the")]


def test_without_types_those_tokens_are_special_that_no_text_encodes_to(small, tmp_path):
    loaded = tokenizers.load(write(tmp_path / "a.gguf", contents(small, token_type=None)))
    assert loaded == small


def test_the_tensors_are_not_read(small, tmp_path):
    file = write(tmp_path / "a.gguf", contents(small), tensors=False)
    with_tensors = write(tmp_path / "b.gguf", contents(small))
    content = with_tensors.read_bytes()
    assert len(content) > 64 * 300 * 4
    with_tensors.write_bytes(content[: len(file.read_bytes()) + 100])
    assert tokenizers.load(with_tensors) == small


def test_metadata_is_what_the_package_reads(small, tmp_path):
    file = write(tmp_path / "a.gguf", contents(small))
    metadata = read_header(file).metadata
    for key, field in gguf.GGUFReader(file).fields.items():
        if not key.startswith("GGUF."):
            value = metadata[key]
            if isinstance(value, list):
                value = [item.decode() for item in value]
            value = value.decode() if isinstance(value, bytes) else value
            value = value.tolist() if isinstance(value, np.ndarray) else value
            assert value == field.contents()


BAD = {
    "sentencepiece without scores": ({"model": "llama"}, "lacks 'tokenizer.ggml.scores'"),
    "wordpiece": ({"model": "bert"}, r"must be 'gpt2' \(byte-level BPE\).*got 'bert'"),
    "unknown split": ({"pre": "kimi-k2"}, "must be one of .*gpt-2.*smollm.*qwen2.*got 'kimi-k2'"),
    "split of a wrong type": ({"pre": 3}, "`tokenizer.ggml.pre` must be a text"),
    "no kind": ({"model": None}, "lacks 'tokenizer.ggml.model'"),
    "no tokens": ({"tokens": None}, "lacks 'tokenizer.ggml.tokens'"),
    "no merges": ({"merges": None}, "lacks 'tokenizer.ggml.merges'"),
    "tokens of a wrong type": ({"tokens": [1, 2]}, "ggml.tokens` must be a list of texts"),
    "merges of a wrong type": ({"merges": "a b"}, "ggml.merges` must be a list of texts"),
    "types of a wrong type": ({"token_type": ["a"]}, "must be a list of 280 numbers"),
    "too few types": ({"token_type": [1, 1]}, "must be a list of 280 numbers"),
    "one field": ({"merges": ["th"]}, "must be two tokens, got 'th'"),
    "three fields": ({"merges": ["t h e"]}, "must be two tokens, got 't h e'"),
    "unknown part": ({"merges": ["t xyz"]}, "needs the token 'xyz'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_metadata_is_refused(small, tmp_path, case):
    change, expected = BAD[case]
    file = write(tmp_path / "bad.gguf", contents(small, **change))
    with pytest.raises(ValueError, match=rf"bad\.gguf' is not a tokenizer file: .*{expected}"):
        tokenizers.load(file)


def test_a_token_that_stands_twice_is_refused(small, tmp_path):
    metadata = contents(small)
    metadata["tokens"][3] = metadata["tokens"][2]
    with pytest.raises(ValueError, match="must be distinct, but has '#' twice"):
        tokenizers.load(write(tmp_path / "bad.gguf", metadata))


@pytest.fixture(scope="module")
def header(small, tmp_path_factory):
    return write(tmp_path_factory.mktemp("gguf") / "a.gguf", contents(small), False).read_bytes()


def number(value, size=8):
    return value.to_bytes(size, "little")


KEY = number(1) + b"k"
BAD_BYTES = {
    "empty": (b"", "too short"),
    "only the magic": (b"GGUF", "ends in the middle"),
    "wrong magic": (b"GGML" + bytes(100), "begins with b'GGUF', but this one with b'GGML'"),
    "text": (b"This is a text.", "begins with b'GGUF', but"),
    "version 1": (b"GGUF" + number(1, 4) + bytes(100), "version must be 2 or 3.*is 1"),
    "big-endian": (b"GGUF" + (3).to_bytes(4, "big") + bytes(100), "version must be"),
    "no metadata": (b"GGUF" + number(3, 4) + bytes(16), "lacks 'tokenizer.ggml.model'"),
    "too many entries": (b"GGUF" + number(3, 4) + bytes(8) + b"\xff" * 8, "ends in the middle"),
    "unknown type": (
        b"GGUF" + number(3, 4) + number(0) + number(1) + KEY + number(77, 4) + bytes(100),
        "unknown type 77",
    ),
    "endless text": (
        b"GGUF" + number(3, 4) + number(0) + number(1) + b"\xff" * 8 + bytes(100),
        "ends in the middle",
    ),
    "endless list": (
        b"GGUF"
        + (number(3, 4) + number(0) + number(1) + KEY)
        + (number(9, 4) + number(0, 4) + b"\xff" * 8 + bytes(100)),
        "ends in the middle",
    ),
    "endless list of lists": (
        b"GGUF"
        + (number(3, 4) + number(0) + number(1) + KEY + number(9, 4))
        + (number(9, 4) + number(1)) * 10_000,
        "",
    ),
    "same key": (
        b"GGUF" + number(3, 4) + number(0) + number(2) + (KEY + number(0, 4) + b"1") * 2,
        "the name 'k' appears twice",
    ),
}


@pytest.mark.parametrize("case", BAD_BYTES)
def test_bad_bytes_are_refused(tmp_path, case):
    content, expected = BAD_BYTES[case]
    file = tmp_path / "bad.gguf"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"bad\.gguf' is not a tokenizer file: .*{expected}"):
        tokenizers.load(file)


def test_a_damaged_length_does_not_lead_into_the_tensors(small, tmp_path):
    file = write(tmp_path / "bad.gguf", contents(small))
    content = bytearray(file.read_bytes())
    types = struct.pack("<IIQ", gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.INT32, 280)
    content[content.index(types) + 13] = 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="ends in the middle of its metadata"):
        tokenizers.load(file)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_damaged_file_is_refused_or_works(header, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(header)
    place = data.draw(st.integers(0, len(content) - 1), "place")
    if data.draw(st.booleans(), "whether to cut"):
        del content[place:]
    else:
        content[place] = data.draw(st.integers(0, 255), "byte")
    (folder / "a.gguf").write_bytes(content)
    try:
        tokenizer = tokenizers.load(folder / "a.gguf")
    except ValueError:
        return
    finally:
        shutil.rmtree(folder)
    for text in TEXTS:
        tokenizer.decode(tokenizer.encode(text, "all"))
    tokenizer.decode([*range(tokenizer.vocabulary_size)])


REAL = sorted(Path(os.environ.get("GPT_KERAS_TEST_DATA", "")).glob("smollm2/*.gguf"))


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="needs GPT_KERAS_TEST_DATA with smollm2/*.gguf")
def test_smollm2(plays, poems):
    tokenizer = tokenizers.load(REAL[0])
    assert tokenizer.vocabulary_size == 49152
    assert len(tokenizer.special_tokens) == 17
    assert tokenizer.end_of_text_id == 0
    assert tokenizer.encode("Hello world") == [19556, 905]
    assert tokenizer.encode("<|im_start|>user\nHi<|im_end|>\n", "all") == [
        *(1, 4093, 198, 26843, 2, 198)
    ]
    assert not {1, 2} & {*tokenizer.encode("<|im_start|>user\nHi<|im_end|>\n")}
    assert tokenizer.encode("1984") == [i for digit in "1984" for i in tokenizer.encode(digit)]
    code = Path(__file__).read_text(encoding="utf-8")
    texts = [plays[0][:50_000], "\n".join(poems)[:20_000], code, *TEXTS, "a\x04b\U00055555c"]
    assert tokenizer.decode(tokenizer.encode(texts[:-1])) == texts[:-1]
    for allowed in ((), "all"):
        assert tokenizer.in_graph(allowed)(texts).to_list() == tokenizer.encode(texts, allowed)


ALIASES = {
    "gpt-2": ["phi-2", "mellum", "olmo"],
    "smollm": ["starcoder", "refact", "command-r"],
    "llama-bpe": ["llama3", "llama-v3", "falcon3", "pixtral", "lfm2"],
    "qwen2": ["deepseek-r1-qwen", "kormo"],
}


@pytest.mark.parametrize("pre", ALIASES)
def test_other_names_of_the_same_split(small, tmp_path, pre):
    expected = tokenizers.load(write(tmp_path / "a.gguf", contents(small, pre=pre)))
    for name in ALIASES[pre]:
        assert tokenizers.load(write(tmp_path / "b.gguf", contents(small, pre=name))) == expected


# Words by hand: what the expressions of these models' tokenizer.json files match.
WORDS = {
    "tekken": ["Hello", "World", " isn", "'t", " ", "1", "2", "!!/\n", " \u0915\u094d\u0937"],
    "gpt-4o": ["Hello", "World", " isn't", " ", "12", "!!/\n", " \u0915\u094d\u0937"],
    "qwen35": ["HelloWorld", " isn", "'t", " ", "1", "2", "!!/\n", " \u0915\u094d\u0937"],
    "smaug-bpe": ["HelloWorld", " isn", "'t", " ", "12", "!!/\n", " \u0915", "\u094d\u0937"],
    "hunyuan": ["HelloWorld", " isn", "'t", " ", "1", "2", "!!/\n", " \u0915", "\u094d\u0937"],
}


@pytest.mark.parametrize("pre", WORDS)
def test_other_splits(small, tmp_path, pre):
    loaded = tokenizers.load(write(tmp_path / "a.gguf", contents(small, pre=pre)))
    text = "HelloWorld isn't 12!!/\n \u0915\u094d\u0937"
    split = engine_of(loaded).pre_tokenizer.pre_tokenize_str(text)
    words = [bytes(byte_characters().index(c) for c in word).decode() for word, _ in split]
    assert words == WORDS[pre]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # bos, eos, whether prompts begin with the first; 278 and 279 are the special tokens.
        ({}, (None, 278, False)),
        ({"bos_token_id": 279, "eos_token_id": 278}, (279, 278, False)),
        ({"bos_token_id": 278, "eos_token_id": 279}, (278, 279, False)),
        ({"bos_token_id": 279, "add_bos_token": True}, (279, 278, True)),
        ({"bos_token_id": 279, "pre": "llama-bpe"}, (279, 278, True)),
        ({"bos_token_id": 279, "pre": "tekken"}, (279, 278, True)),
        ({"bos_token_id": 279, "pre": "llama-bpe", "add_bos_token": False}, (279, 278, False)),
        ({"pre": "llama-bpe"}, (None, 278, False)),
        # A model without a start of text, as converters write it.
        ({"bos_token_id": 278, "eos_token_id": 278, "add_bos_token": False}, (None, 278, False)),
        ({"bos_token_id": 278, "eos_token_id": 278, "add_bos_token": True}, (278, 278, True)),
    ],
)
def test_where_texts_begin_and_end(small, tmp_path, changes, expected):
    loaded = tokenizers.load(write(tmp_path / "a.gguf", contents(small, **changes)))
    assert (loaded.start_of_text_id, loaded.end_of_text_id, loaded.adds_start_of_text) == expected
    start = [expected[0]] if expected[2] else []
    assert loaded.encode("the", add_start_of_text=True) == start + loaded.encode("the")
    assert tokenizers.load(loaded.save(tmp_path)) == loaded


def test_a_boundary_that_is_no_token_is_refused(small, tmp_path):
    file = write(tmp_path / "bad.gguf", contents(small, bos_token_id=280))
    with pytest.raises(ValueError, match=r"bad\.gguf.*bos_token_id` must be .* 279, got 280"):
        tokenizers.load(file)


@pytest.fixture(scope="module")
def sentencepieces(plays):
    """A SentencePiece model, and the metadata that llama.cpp's converters write for it."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(plays[0][:20_000].split("\n")),
        model_writer=model,
        vocab_size=600,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=2,
    )
    reference = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(reference.vocab_size())
    tokens = [reference.id_to_piece(i) for i in ids] + ["<|im_start|>", "[extra]"]
    types = [2, CONTROL, CONTROL, *[6] * 256, *[NORMAL] * (len(ids) - 259), CONTROL, USER_DEFINED]
    return reference, {
        "model": "llama",
        "tokens": tokens,
        "scores": [reference.get_score(i) for i in ids] + [-1000.0, -1000.0],
        "token_type": types,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def test_sentencepiece(sentencepieces, tmp_path):
    reference, metadata = sentencepieces
    loaded = tokenizers.load(write(tmp_path / "a.gguf", metadata))
    texts = [*TEXTS, " a  b ", "Hello there 詩"]
    ids = reference.encode(texts)
    assert loaded.encode(texts) == ids
    assert loaded.in_graph()(texts).to_list() == ids
    assert loaded.decode(ids) == texts
    start, extra = 600, 601
    assert loaded.special_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2, "<|im_start|>": start}
    assert (loaded.start_of_text_id, loaded.end_of_text_id) == (1, 2)
    assert loaded.adds_start_of_text  # as llama.cpp does for this kind
    the, a = reference.encode(["the", "a"])
    # Each part between special tokens gets a space in front, as in llama.cpp.
    assert loaded.encode("<|im_start|>the[extra]a", "all") == [start, *the, extra, *a]
    assert loaded.encode("the", add_start_of_text=True) == [1, *the]
    assert tokenizers.load(loaded.save(tmp_path)) == loaded


def test_sentencepiece_without_a_space_in_front(sentencepieces, tmp_path):
    reference, metadata = sentencepieces
    metadata = metadata | {"add_space_prefix": False, "add_bos_token": False}
    loaded = tokenizers.load(write(tmp_path / "a.gguf", metadata))
    assert not loaded.adds_start_of_text
    assert loaded.encode(" the king") == reference.encode("the king")
    assert loaded.decode(loaded.encode(" the king")) == " the king"
